"""The race of decoders: what peers score by against slow references, arms that meet their share, and the page."""

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from api_schemas.enums import Split
from api_schemas.results.metrics import DataSummary
from api_schemas.spec.recovery import Distill, Finetune
from benchmarks.race import recovery
from benchmarks.race.arms import flap, moments, obs, sliced_llama, slimgpt, taylor
from benchmarks.race.cells import Cell, Stage, Status
from benchmarks.race.decoder import benchmark, tables, texts, trained
from benchmarks.race.evaluation import NextTokens, measure
from benchmarks.race.results.summary import summarise
from benchmarks.race.runner import BEST
from benchmarks.race.setup import Setup, Unit, Unreachable, block_parameters
from checkpoints.describe import describe_folder
from tests.unit.benchmarks.race.test_closed_forms import CHANNELS, WIDTH, inputs, lost_without, moment, randn, with_one
from worker.engine.checkpoint.load import load_original
from worker.engine.data import PreparedData
from worker.engine.evaluate import evaluate
from worker.engine.tasks.causal import CausalLm

WORDS, TOKENS = 40, 10
SAMPLES = {Split.TRAIN: 12, Split.VALIDATION: 4, Split.TEST: 6}


def saved_llama(folder: Path, **changes: object) -> Path:
    config = LlamaConfig(**{
        "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": TOKENS, "tie_word_embeddings": True, "bos_token_id": 0,
        "eos_token_id": 0, "initializer_range": 0.2, **changes,
    })  # fmt: skip
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:  # as training leaves them: not all ones
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def setup(tmp_path) -> Setup:
    return setup_of(saved_llama(tmp_path))


def setup_of(folder: Path) -> Setup:
    random = torch.Generator().manual_seed(1)
    splits = {role: texts.as_split(torch.randint(0, WORDS, (count, TOKENS), generator=random))
              for role, count in SAMPLES.items()}  # fmt: skip
    data = PreparedData(DataSummary(samples={}), splits, 0.0)
    dense = load_original(folder)
    return Setup(folder, describe_folder(folder), dense, data, torch.device("cpu"), 8, {}, CausalLm(), Unit.BLOCKS)


@pytest.mark.parametrize("arm", benchmark.all_arms(), ids=lambda arm: arm.name)
def test_an_arm_removes_the_share_of_the_blocks_that_it_was_asked_for(setup, arm):
    before = {name: tensor.clone() for name, tensor in setup.dense.model.state_dict().items()}
    loaded = arm.cut(setup, 0, 0.4)
    # A head is a twelfth of attention here, and biases of FLAP count.
    assert setup.sparsity(loaded) == pytest.approx(0.4, abs=0.03)
    assert measure(setup, loaded.model, Split.TEST).perplexity < 1e6
    for name, tensor in setup.dense.model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the dense model has changed"
    assert all(parameter.grad is None for parameter in setup.dense.model.parameters())


def test_shares_are_of_the_blocks_and_asked_for_as_shares_of_the_whole(setup):
    shape, dense = setup.described.shape, setup.dense.widths
    blocks = sum(
        p.numel() for name, p in setup.dense.model.named_parameters() if ".self_attn." in name or ".mlp." in name
    )
    assert block_parameters(shape, dense) == blocks
    assert setup.sparsity(setup.dense) == 0.0
    every = sum(p.numel() for p in setup.dense.model.parameters())
    assert setup.aim(0.5)["target"]["parameters"] * every == pytest.approx(0.5 * blocks)
    counts = moments.equal_counts(setup, 0.4)
    head, neuron = 4 * 8 * 32, 3 * 32
    assert counts.heads == 2
    assert counts.heads * head + counts.neurons * neuron == pytest.approx(
        0.6 * (4 * head + 64 * neuron), abs=neuron / 2
    )


def test_first_order_costs_are_those_of_every_weight_apart(setup):
    model, split = copy.deepcopy(setup.dense.model), setup.calibration(0)
    batch, targets = split.batch(range(len(split)))
    logits = model(**batch).logits
    by_token = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, :-1].flatten())
    by_token.backward()
    heads, neurons = taylor.costs(setup, 0)
    layer = model.model.layers[1]
    cost = {
        name: (p.weight * p.weight.grad).abs().detach().double()
        for name, p in layer.named_modules()
        if hasattr(p, "weight")
    }
    rows = slice(8, 16)  # head 1
    expected = (
        sum(cost[f"self_attn.{side}_proj"][rows].sum() for side in "qkv") + cost["self_attn.o_proj"][:, rows].sum()
    )
    assert float(heads[1][1]) == pytest.approx(float(expected), rel=1e-4)
    expected = cost["mlp.gate_proj"][5].sum() + cost["mlp.up_proj"][5].sum() + cost["mlp.down_proj"][:, 5].sum()
    assert float(neurons[1][5]) == pytest.approx(float(expected), rel=1e-4)


def test_one_ranking_of_all_groups_is_the_cheapest_first(setup):
    heads, neurons = [randn(4, seed=n) for n in range(3)], [randn(64, seed=n + 3) for n in range(3)]
    kept = moments.ranked(setup, heads, neurons, 0.4)
    gone = [float(each[i]) for costs, stay in ((heads, kept.heads), (neurons, kept.neurons))
            for each, own in zip(costs, stay, strict=True) for i in range(len(each)) if i not in own]  # fmt: skip
    left = [float(each[i]) for costs, stay in ((heads, kept.heads), (neurons, kept.neurons))
            for each, own in zip(costs, stay, strict=True) for i in own]  # fmt: skip
    assert max(gone) < min(left)
    assert setup.share_gone(kept.widths(setup.dense.widths)) == pytest.approx(0.4, abs=0.02)
    by_parameter = moments.ranked(setup, [each.abs() * 1e9 for each in heads], neurons, 0.4, by_parameter=True)
    assert all(len(stay) == 4 for stay in by_parameter.heads)


def test_fluctuation_is_the_variance_of_what_a_channel_sends_on():
    x_RC, weight = inputs(), randn(WIDTH, CHANNELS, seed=5)
    sent = [np.var(np.outer(x_RC[:, c], weight[:, c]), axis=0).sum() for c in range(CHANNELS)]
    np.testing.assert_allclose(flap.fluctuation(weight, moment(with_one(x_RC))), sent, rtol=1e-8)
    scaled = flap.standardised(randn(50)).numpy()
    assert (scaled.mean(), scaled.std(ddof=1)) == pytest.approx((0.0, 1.0))


def test_what_flap_leaves_out_stays_as_its_mean(setup):
    """With inputs that do not vary, nothing is lost: the mean is all there is."""
    setup.data.splits[Split.TRAIN] = texts.as_split(torch.full((8, TOKENS), 3))
    with_bias, without = (arm.cut(setup, 0, 0.4) for arm in flap.arms())
    batch, _ = setup.split(Split.TRAIN).batch(range(1))
    with torch.inference_mode():
        dense, biased, plain = (each.model(**batch).logits for each in (setup.dense, with_bias, without))
    torch.testing.assert_close(biased, dense, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(plain, dense, atol=0.1)


@pytest.mark.parametrize("count", [4, 7])
def test_neurons_that_go_one_by_one_are_the_exact_ones(count, monkeypatch):
    monkeypatch.setattr(slimgpt, "FIRST", 0.0)
    monkeypatch.setattr(slimgpt, "LEAST", 1)
    weight, second = randn(WIDTH, CHANNELS, seed=5), moment(inputs())
    assert slimgpt.batched_order(weight, second, count) == list(obs.last(obs.order(weight, second, 1), count))


def test_a_batch_is_the_columns_that_each_alone_would_lose_least(monkeypatch):
    monkeypatch.setattr(slimgpt, "FIRST", 1 / 3)
    monkeypatch.setattr(slimgpt, "LEAST", 2)
    weight, second = randn(WIDTH, CHANNELS, seed=5), moment(inputs())
    hessian = obs.damped(second)
    gone: list[int] = []
    for size in (4, 2):
        left = [c for c in range(CHANNELS) if c not in gone]
        losses = {c: lost_without(weight, hessian, [*gone, c]) for c in left}
        gone += sorted(left, key=losses.__getitem__)[:size]
    assert slimgpt.batched_order(weight, second, CHANNELS - 6) == sorted(set(range(CHANNELS)) - set(gone))


def test_shares_grow_with_depth_and_come_to_what_was_asked_for():
    found = slimgpt.shares(0.3, 4, 0.5)
    assert found == sorted(found)
    assert np.mean(found) == pytest.approx(0.3)
    assert found[0] / found[-1] == pytest.approx(0.5)
    assert slimgpt.shares(0.3, 4, 1.0) == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("groups", [4, 2])
def test_a_llama_that_is_turned_and_not_sliced_is_the_same(tmp_path, groups):
    setup = setup_of(saved_llama(tmp_path, num_key_value_heads=groups))
    turned = sliced_llama.SlicedLlama(setup.dense.model, sliced_llama.slices(setup, 0), 32, 8).eval()
    batch, _ = setup.split(Split.TEST).batch(range(3))
    with torch.inference_mode():
        torch.testing.assert_close(turned(**batch).logits, setup.dense.model(**batch).logits, rtol=1e-3, atol=1e-3)
    for width in (32, 20):
        sliced = sliced_llama.SlicedLlama(setup.dense.model, sliced_llama.slices(setup, 0), width, 8)
        maps = [each for name, each in sliced.named_parameters() if name.startswith("blocks")]
        assert sum(each.numel() for each in maps) == sliced_llama.parameters(setup, width)


def test_a_sliced_model_recovers_with_adapters_on_its_own_maps(setup):
    sliced = sliced_llama.arms()[0].cut(setup, 0, 0.3)
    before = measure(setup, sliced.model, Split.TRAIN)
    settings = Finetune(epochs=8, learning_rate=1e-2, batch_size=4, distill=Distill())
    after = measure(setup, recovery.recover(setup, sliced, 0, settings).model, Split.TRAIN)
    assert after.perplexity < 0.9 * before.perplexity


def test_slicing_is_for_llamas_without_biases(tmp_path):
    with pytest.raises(Unreachable, match="without biases"):
        sliced_llama.arms()[0].cut(setup_of(saved_llama(tmp_path, attention_bias=True)), 0, 0.3)


def test_a_split_is_measured_as_the_engine_measures_it(setup):
    split = setup.split(Split.TEST)
    scores = evaluate(setup.dense.model, split, setup.task, batch_size=4, device=setup.device)
    found = measure(setup, setup.dense.model, Split.TEST)
    assert isinstance(found, NextTokens)
    assert (found.perplexity, found.accuracy) == pytest.approx(
        (scores.perplexity, scores.next_token_accuracy), rel=1e-5
    )
    assert np.exp(found.nats_by_sample().mean()) == pytest.approx(scores.perplexity, rel=1e-5)
    with torch.no_grad():
        setup.dense.model.lm_head.weight.fill_(torch.nan)
    broken = measure(setup, setup.dense.model, Split.TEST)
    assert broken.accuracy == 0.0
    assert broken.nats_by_sample() == pytest.approx([100.0] * len(split))


def test_texts_are_in_one_split_and_blocks_are_whole(tmp_path, monkeypatch):
    library, numpy = tmp_path / "library", tmp_path / "numpy"
    for folder, name, text in [
        (library, "one", "Said twice."),
        (library, "two", "Said once."),
        (numpy, "core", "Said twice."),
    ]:
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(f'"""{text}"""\n\n\ndef call():\n    """Of {name}, {text.lower()}"""\n')
    monkeypatch.setattr(texts, "_roots", lambda: {"library": library, "numpy": numpy})
    monkeypatch.setattr(
        texts, "topics", {f"topic{n}": f"On the {n}th of all topics, much is said. " * 9 for n in range(30)}
    )
    every = texts.documents.__wrapped__()
    assert every["library one"] == "Said twice.\n\nOf one, said twice."
    assert every["numpy core"] == "Of core, said twice."
    monkeypatch.setattr(texts, "documents", lambda: every)
    monkeypatch.setattr(texts, "CHARACTERS", {Split.TEST: 1000, Split.VALIDATION: 500})
    drawn = texts.drawn.__wrapped__()
    monkeypatch.setattr(texts, "drawn", lambda: drawn)
    own = [set(documents) for documents in drawn.values()]
    assert set.union(*own) == set(every.values())
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(own, 2))

    recipe = trained.Recipe(vocabulary=300, hidden=8, neurons=8, layers=1, heads=1, epochs=2, batch=1)
    made = trained.checkpoint(tmp_path / "cache", recipe)
    assert trained.checkpoint(tmp_path / "cache", recipe) == made
    assert measure(setup_of(made), load_original(made).model, Split.TEST).perplexity < 400
    found = texts.blocks(made, ("import this " * 200, "too short"))
    assert found.shape[1] == texts.BLOCK
    assert len(found) > 1
    split = texts.as_split(found)
    assert torch.equal(split.targets[:, :-1], found[:, 1:])
    assert (split.targets[:, -1] == -100).all()


def test_frequencies_alone_are_worth_their_cross_entropy():
    train, test = torch.tensor([[0, 0, 1, 2]]), torch.tensor([[3, 0, 1], [3, 3, 2]])
    chance = np.array([3, 2, 2, 1]) / 8  # each once more
    expected = np.exp(-np.log(chance[[0, 1, 3, 2]]).mean())
    assert texts.frequency_perplexity(train, test, 4) == pytest.approx(expected)


def test_the_page_has_ratios_to_ours_and_keeps_what_is_by_hand(tmp_path, setup):
    def cell(arm: str, family: str, nats: float, *, target: float = 0.3) -> Cell:
        found = NextTokens.of(torch.full((20,), 0.5), torch.full((20,), nats))
        return Cell(key="k", stage=Stage.ONE_SHOT, arm=arm, family=family, target=target, seed=0, status=Status.DONE,
                    achieved=target, validation=found, test=found)  # fmt: skip

    cells = [cell("dense", "dense", 1.0, target=0.0), cell(BEST, "ours", 2.0), cell("flap/flap", "flap", 2.1)]
    own = tables.Parameters.of(setup.described.shape)
    header = tables.Header("trained", True, {"cores": 2}, {"test": 20}, benchmark.Programme(), TOKENS, own, 300.0)
    page = tables.write(tmp_path, header, summarise(cells))
    text = page.read_text()
    assert f"{own.attention + own.feed_forward:,} parameters" in text
    assert "| flap/flap | 1 | **1.105 [1.105, 1.105]** |" in text
    assert "perplexity 2.72 and 50.0% on test, 2.72 on validation" in text
    page.write_text(text + "\nby hand\n")
    assert tables.write(tmp_path, header, summarise(cells)).read_text().endswith("\nby hand\n")
