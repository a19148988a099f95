"""What grouped queries ask beside what every decoder does: what a group shares, what it costs, what a stock config says of it.

The reference is transformers' own class, or numpy.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from api_schemas.enums import Criterion
from api_schemas.spec.pruning import Pruning
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.describe import describe_folder
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import PRUNING_FILE, LoadedModel, load_original, load_step
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.latency.table_measurement import _Bench
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons
from worker.engine.pruning import principal
from worker.engine.pruning.selection import KeptHead, Selection, keep_all
from worker.engine.pruning.targets import little_left
from worker.engine.scoring import Observations, Statistic, observe, score
from worker.engine.tasks.base import logits_of

TINY = next(tiny for tiny in MODELS if tiny.id == "LlamaForCausalLM all biases")
HEADS, QUERIES, WIDTH = 4, 2, 8


@pytest.fixture(scope="module")
def whole() -> LoadedModel:
    return reference.dense(TINY.model_spec, TINY.stock())


@pytest.fixture(scope="module")
def seen(whole: LoadedModel) -> tuple[Any, Any, Observations]:
    inputs = TINY.inputs(6)
    blocks = attention_blocks(whole.model, whole.model_spec, whole.widths)
    loss = lambda answers, _: answers.log_softmax(-1)[:, :, 0].sum(1)  # noqa: E731
    return inputs, blocks, observe(whole.model, blocks, [(inputs, None)], loss, frozenset(Statistic), outputs=logits_of)


def states_of(whole: LoadedModel, inputs: Any, layer: int = 1) -> dict[str, Any]:
    """What leaves q and k and enters o, (tokens, heads, queries, width), by transformers' names."""
    found: dict[str, Any] = {}
    attention = whole.model.get_submodule(f"model.layers.{layer}.self_attn")
    handles = [
        attention.get_submodule(f"{side}_proj").register_forward_hook(
            lambda _m, args, output, side=side: found.update({side: (args[0] if side == "o" else output)})
        )
        for side in "qko"
    ]
    with torch.inference_mode():
        whole.model(**inputs)
    for handle in handles:
        handle.remove()
    return {side: each.double().flatten(0, 1).unflatten(-1, (HEADS, -1, WIDTH)).numpy() for side, each in found.items()}


def test_energies_are_summed_over_the_queries_of_a_head(whole: LoadedModel, seen: Any) -> None:
    """As many logits are made of a key channel, and as many outputs of a value channel, as queries share it."""
    inputs, blocks, observed = seen
    scores, states = score(Criterion.ENERGY, blocks, observed=observed)[1], states_of(whole, inputs)
    output = whole.model.get_submodule("model.layers.1.self_attn.o_proj").weight.detach().double().numpy()
    columns = np.square(output).sum(0).reshape(HEADS, QUERIES, WIDTH)
    vo = (states["o"].var(0) * columns).sum(1)
    q, k = (np.square(states[side]).mean(0) for side in "qk")
    pairs = k[:, 0].reshape(HEADS, 2, WIDTH // 2).mean(1)
    qk = q.sum(1) * np.concatenate([pairs, pairs], 1)
    for head in range(HEADS):
        np.testing.assert_allclose(scores.vo[head].numpy(), vo[head], rtol=1e-4)
        np.testing.assert_allclose(scores.qk[head].numpy(), qk[head], rtol=1e-4)


def test_a_gate_stands_in_every_query_of_its_head(whole: LoadedModel, seen: Any) -> None:
    """On a pair of k, which its queries share, as on the same of each of them; on a value's channel as on its columns of o."""
    inputs, blocks, observed = seen
    scores = score(Criterion.FISHER_GATE, blocks, observed=observed)[1]
    pair = (1, 1 + WIDTH // 2)
    places = {
        "k": [2 * WIDTH + channel for channel in pair],
        "q": [(2 * QUERIES + query) * WIDTH + channel for query in range(QUERIES) for channel in pair],
        "v": [3 * WIDTH + 5],
        "o": [(3 * QUERIES + query) * WIDTH + 5 for query in range(QUERIES)],
    }
    squares = {}
    for side, rows in places.items():
        factor = torch.ones(len(inputs["input_ids"]), requires_grad=True)

        def gated(states: Tensor, rows: list[int] = rows, factor: Tensor = factor) -> Tensor:
            gates = torch.ones_like(states)
            gates[..., rows] = factor[:, None, None]
            return states * gates

        linear = whole.model.get_submodule(f"model.layers.1.self_attn.{side}_proj")
        if side == "o":
            handle = linear.register_forward_pre_hook(lambda _m, args, gated=gated: (gated(args[0]),))
        else:
            handle = linear.register_forward_hook(lambda _m, _a, output, gated=gated: gated(output))
        whole.model(**inputs).logits.log_softmax(-1)[:, :, 0].sum().backward()
        handle.remove()
        assert factor.grad is not None
        squares[side] = float(factor.grad.double().square().mean())
    assert squares["q"] == pytest.approx(squares["k"], rel=1e-3)
    assert squares["v"] == pytest.approx(squares["o"], rel=1e-3)
    assert scores.of("qk", [(2, channel) for channel in pair]) == pytest.approx(squares["k"], rel=1e-3)
    assert scores.of("vo", [(3, 5)]) == pytest.approx(squares["v"], rel=1e-3)


def test_a_group_is_turned_so_that_its_first_channels_hold_most(whole: LoadedModel, seen: Any) -> None:
    """Of all projections of its values to r directions none loses less of its queries' outputs, varied as they are on average."""
    inputs, blocks, observed = seen
    basis = principal.principal_bases(blocks, observed)[1][2]
    states = states_of(whole, inputs)["o"][:, 2]
    output = whole.model.get_submodule("model.layers.1.self_attn.o_proj").weight.detach().double().numpy()
    stacked = np.concatenate([output[:, (2 * QUERIES + g) * WIDTH :][:, :WIDTH] for g in range(QUERIES)])
    covariance = np.mean([np.cov(states[:, g].T, bias=True) for g in range(QUERIES)], 0)
    root = np.linalg.cholesky(covariance)
    energies = np.linalg.svd(stacked @ root, compute_uv=False) ** 2
    np.testing.assert_allclose(basis.vo_energy.numpy(), energies, rtol=1e-4)
    for rank in (1, 3, 6):
        value, back = basis.value.numpy()[:rank], basis.output.numpy()[:, :rank]
        lost = np.square((stacked - back @ value) @ root).sum()
        assert lost == pytest.approx(energies[rank:].sum(), rel=1e-4)


def test_moments_turn_with_the_basis_as_if_seen_in_it(whole: LoadedModel, seen: Any) -> None:
    inputs, blocks, observed = seen
    bases = principal.principal_bases(blocks, observed)
    turned = principal.rotate_observations(observed, bases)
    again = principal.rotate(whole, bases)
    own = attention_blocks(again.model, again.model_spec, again.widths)
    loss = lambda answers, _: answers.log_softmax(-1)[:, :, 0].sum(1)  # noqa: E731
    fresh = observe(again.model, own, [(inputs, None)], loss, frozenset(Statistic), outputs=logits_of)
    for found, expected in zip(turned.layers, fresh.layers, strict=True):
        assert found.gradients is not None
        assert found.context is not None
        torch.testing.assert_close(found.context.second, expected.context.second, rtol=1e-3, atol=1e-4)
        for one, other in zip(found.gradients.context, expected.gradients.context, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()))
        for one, other in zip(found.gradients.q, expected.gradients.q, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()))


@pytest.mark.parametrize(
    "tiny",
    [tiny for tiny in MODELS if tiny.name == "LlamaForCausalLM" or tiny.id == "Qwen3ForCausalLM"],
    ids=lambda tiny: tiny.id,
)
def test_whole_groups_load_without_code_where_a_config_can_say_it(tiny: Any, tmp_path: Path) -> None:
    original = tiny.save(tiny.stock(), tmp_path / "original")
    loaded = load_original(original)
    for number, (stay, plain) in enumerate((((1, 3), True), ((0, 1, 3), False))):
        heads = tuple(tuple(layer[head] for head in stay) for layer in keep_all(loaded.widths))
        kept = Selection(heads, tuple(tuple(range(20)) for _ in all_neurons(loaded.widths)))
        smaller, folder = reference.cut_by(loaded, kept), tmp_path / str(number)
        assert save_checkpoint(folder, smaller, original) == (plain, 1.0), "32 is no multiple of 6 heads of queries"
        config = json.loads((folder / "config.json").read_text())
        assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (
            (4, 2, 8) if plain else (8, 4, 8)
        )
        described = describe_folder(folder)
        total = sum(parameter.numel() for parameter in smaller.model.parameters())
        assert accounting.total_parameters(described.shape, described.widths) == total
        (folder / PRUNING_FILE).write_text(
            json.dumps(
                {
                    "family": tiny.model_spec.family.name,
                    "architecture": tiny.name,
                    "widths": smaller.widths.model_dump(mode="json"),
                    "stock_layout": plain,
                    "query_scale": 1.0,
                }
            )
        )
        inputs = tiny.inputs(3)
        with torch.inference_mode(), reference.masked(tiny.model_spec, tiny.stock(), kept) as dense:
            expected = reference.answer(dense, inputs)
            reference.assert_near(reference.answer(load_step(folder).model, inputs), expected)
            reference.assert_near(reference.answer(load_original(folder).model, inputs), expected)
            if plain:
                stock = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
                reference.assert_near(reference.answer(stock, inputs), expected)


KINDS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 8},
    "old": {"type": "linear", "factor": 2.0},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_positions_is_the_stock_classs(kind: str, tmp_path: Path) -> None:
    """Of a folder as it was published: beside `rope_theta`, under the name that older versions have for it."""
    folder = TINY.save(TINY.stock(), tmp_path / "original")
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    said = {"rope_type": kind, **KINDS[kind]} if kind != "old" else KINDS[kind]
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 100, "rope_scaling": said}))
    loaded, inputs = load_original(folder), TINY.inputs(3)
    stock = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    kept = reference.keeps(loaded.widths)["ragged"]
    smaller = reference.cut_by(loaded, kept)
    with torch.inference_mode():
        plain = reference.answer(TINY.stock(rope_parameters={"rope_type": "default", "rope_theta": 100.0}), inputs)
        assert kind == "dynamic" or (reference.answer(stock, inputs) - plain).abs().max() > 1e-3
        with reference.masked(TINY.model_spec, stock, kept) as dense:
            reference.assert_near(reference.answer(smaller.model, inputs), reference.answer(dense, inputs))
    save_checkpoint(tmp_path / "result", smaller, folder)
    with torch.inference_mode():
        again = reference.answer(load_original(tmp_path / "result").model, inputs)
        assert torch.equal(again, reference.answer(smaller.model, inputs))


def test_cached_keys_are_as_wide_as_the_widest_head_and_one_for_its_queries(whole: LoadedModel) -> None:
    kept = Selection(
        tuple(
            tuple(KeptHead(head.head, (0, 1, 4, 5), (2, 3, 4)) for head in layer[:3])
            for layer in keep_all(whole.widths)
        ),
        all_neurons(whole.widths),
    )
    model, ids = reference.cut_by(whole, kept).model, TINY.inputs(2)["input_ids"]
    with torch.inference_mode():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    # Kernels are no faster below 16 channels.
    assert {layer.keys.shape for layer in cache.layers} == {(2, 3, ids.shape[1], 16)}
    assert {layer.values.shape for layer in cache.layers} == {(2, 3, ids.shape[1], 16)}


@pytest.mark.parametrize("name", ["heads and channels", "no heads first"])
def test_attentions_are_those_of_the_queries_that_are_left(whole: LoadedModel, name: str) -> None:
    kept, inputs = reference.keeps(whole.widths)[name], TINY.inputs(2)
    model, stock = reference.cut_by(whole, kept).model, TINY.stock()
    for each in (model, stock):
        each.set_attn_implementation("eager")
    with torch.inference_mode(), reference.masked(TINY.model_spec, stock, kept) as dense:
        expected = dense(**inputs, output_attentions=True).attentions
        found = model(**inputs, output_attentions=True).attentions
    for own, all_heads, layer in zip(found, expected, kept.heads, strict=True):
        rows = [head.head * QUERIES + query for head in layer for query in range(QUERIES)]
        torch.testing.assert_close(own, all_heads[:, rows], rtol=0, atol=1e-5)


def test_what_is_timed_has_its_queries(whole: LoadedModel) -> None:
    """The model with little left, and the parts of which a latency table is made."""
    pruning = Pruning.model_validate({"target": {"latency": 0.2}, "parts": ["attention", "feed_forward"]})
    small = little_left(whole, pruning)
    assert small.widths.layers[0].heads == 1
    with torch.inference_mode():
        assert torch.isfinite(reference.answer(small.model, TINY.inputs(2))).all()
        layout = TINY.model_spec.layout(TINY.stock().config.to_dict())
        bench = _Bench(
            layout.attention[0], whole.model.get_submodule(layout.attention[0].module), torch.randn(2, 7, 32)
        )
        assert bench.kernel([16, 14])()[0].shape == (2, 7, QUERIES * 30)
        assert [each.shape[-1] for each in bench.projections(10, output=False)()] == [10, 20]
