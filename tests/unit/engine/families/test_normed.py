"""What norms of queries and keys ask beside grouped queries: QK channels stay, and what the dot product has is what was normed.

The reference is transformers' own class, or numpy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from api_schemas.enums import Basis, Criterion
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.widths import mask_of
from api_schemas.spec.pruning import Pruning
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.config.pruned_layout import SaidWidths
from checkpoints.describe import describe_folder
from checkpoints.families import UnusableConfigError
from checkpoints.planning.estimates import estimate_widths
from checkpoints.planning.feasibility import check_feasible, max_share, reach, smallest_cut
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.latency.table_measurement import _Bench
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons
from worker.engine.models.model_spec import width_entries
from worker.engine.pruning.selection import Ranking, Selection, keep_all, widths_of
from worker.engine.pruning.targets import little_left
from worker.engine.scoring import LayerScores, Statistic, observe, score
from worker.engine.tasks.base import logits_of

TINY, GEMMA = (
    next(tiny for tiny in MODELS if tiny.id == name) for name in ("Qwen3ForCausalLM all biases", "Gemma3ForCausalLM")
)
HEADS, QUERIES, WIDTH = 2, 4, 8
CHANNELWISE = ("same_channel", "per_head", "ragged", "head_and_channel", "head_and_width")


@pytest.fixture(scope="module")
def whole() -> Any:
    return reference.dense(TINY.model_spec, TINY.stock())


def pruning_of(granularity: str, share: float = 0.3, **further: Any) -> Pruning:
    return Pruning.model_validate(
        {
            "preset": "paper",
            "target": {"attention_sparsity": share},
            "granularity": granularity,
            "min_heads": 1,
            **further,
        }
    )


def test_energies_and_what_the_loss_hears_are_of_what_was_normed(whole: Any) -> None:
    """E[q²]·E[k²] and E[q²]·E[(∂ℓ/∂q)²] of the outputs of the stock class's norms, summed over the queries of a head."""
    inputs, stock = TINY.inputs(5), TINY.stock()
    blocks = attention_blocks(whole.model, whole.model_spec, whole.widths)
    loss = lambda answers, _: answers.log_softmax(-1)[:, :, 0].sum(1)  # noqa: E731
    observed = observe(whole.model, blocks, [(inputs, None)], loss, frozenset(Statistic), outputs=logits_of)
    found: dict[str, Any] = {}
    for side in "qk":
        norm = stock.get_submodule(f"model.layers.1.self_attn.{side}_norm")
        norm.register_forward_hook(lambda _m, _a, output, side=side: found.update({side: output}))
        norm.register_full_backward_hook(lambda _m, _i, given, side=side: found.update({f"d{side}": given[0]}))
    loss(stock(**inputs).logits, None).sum().backward()
    states = {key: each.detach().double().flatten(0, 1).numpy() for key, each in found.items()}
    q, k, dq = (np.square(states[key]).mean(0) for key in ("q", "k", "dq"))
    pairs = k.reshape(HEADS, 2, WIDTH // 2).mean(1)
    energy = q.reshape(HEADS, QUERIES, WIDTH).sum(1) * np.concatenate([pairs, pairs], 1)
    heard = (q * dq).reshape(HEADS, QUERIES, WIDTH).sum(1)
    for criterion, expected in ((Criterion.ENERGY, energy), (Criterion.FISHER_ENERGY, heard)):
        scores = score(criterion, blocks, observed=observed)[1]
        np.testing.assert_allclose(torch.stack(scores.qk).numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("granularity", CHANNELWISE)
@pytest.mark.parametrize(("tiny", "align"), [(TINY, 1), (GEMMA, 4)], ids=["Qwen3", "Gemma 3, aligned"])
def test_channels_of_values_go_and_those_of_queries_stay(tiny: Any, align: int, granularity: str, basis: str) -> None:
    shape = reference.shape_of(tiny.model_spec, tiny.stock())
    widths, width = shape.dense, shape.attention[0].head_dim
    pruning = pruning_of(granularity, align=align, basis=basis)
    check_feasible(shape, widths, pruning)
    draw = torch.Generator().manual_seed(1)
    # QK channels score next to nothing: whoever could would remove them first.
    scores = [
        LayerScores(
            *(tuple(times * torch.rand(width, generator=draw).double() for _ in range(HEADS)) for times in (1e-9, 1))
        )
        for _ in widths.layers
    ]
    left = widths_of(Ranking(scores, widths, shape, pruning).heads(0.3), widths)
    assert all(qk == width for layer in left.layers for qk in layer.qk)
    assert all(layer.qk_whole for layer in left.layers)
    assert any(vo < width for layer in left.layers for vo in layer.vo)
    assert all(vo % align == 0 for layer in left.layers for vo in layer.vo)
    one = smallest_cut(shape, widths, pruning, pruning.target.kind)
    assert abs(accounting.attention_sparsity(shape, left) - 0.3) <= one
    estimated = estimate_widths(shape, pruning, 0.3)
    assert all(qk == width for layer in estimated.layers for qk in layer.qk)
    assert abs(accounting.attention_sparsity(shape, estimated) - 0.3) <= one


@pytest.mark.parametrize("granularity", ["same_channel", "per_head", "ragged"])
def test_what_stays_does_not_weigh_in_a_layers_mean(whole: Any, granularity: str) -> None:
    """With normalization by layer, where only channels of values compete."""
    shape, widths = reference.shape_of(TINY.model_spec, TINY.stock()), whole.widths
    draw = torch.Generator().manual_seed(2)
    values = [tuple(torch.rand(WIDTH, generator=draw).double() for _ in range(HEADS)) for _ in widths.layers]
    left = []
    for louder in (1.0, 1e3):
        queries = [torch.full((WIDTH,), louder**number).double() for number in range(len(values))]
        scores = [LayerScores((of_q,) * HEADS, of_v) for of_q, of_v in zip(queries, values, strict=True)]
        pruning = pruning_of(granularity, normalization="layer")
        left.append(Ranking(scores, widths, shape, pruning).heads(0.3))
    assert left[0] == left[1]


def test_a_spec_that_wants_channels_of_queries_is_told_so(whole: Any) -> None:
    shape, widths = reference.shape_of(TINY.model_spec, TINY.stock()), whole.widths
    for granularity in CHANNELWISE:
        for judge in (check_feasible, reach):
            with pytest.raises(SecateurError, match=r"only with their head.*Use balance joint") as caught:
                judge(shape, widths, pruning_of(granularity, balance="equal"))
            assert caught.value.code is ErrorCode.INVALID_REQUEST
            assert [item.pointer for item in caught.value.errors] == ["/pruning/balance"]
    check_feasible(shape, widths, pruning_of("entire_head", 0.5, balance="equal"))
    # All of v and o but a channel a head: of four queries a head these are half of all weights.
    most = max_share(shape, widths, pruning_of("per_head"))
    vo = accounting.vo_channel_parameters(shape.attention[0])
    kept = accounting.attention_parameters(shape, widths) - 2 * HEADS * (WIDTH - 1) * vo
    everything = accounting.attention_parameters(shape, widths)
    assert most == pytest.approx(1 - kept / everything)
    for granularity, channels in (("per_head", HEADS), ("ragged", 1)):
        pruning = pruning_of(granularity)
        one = smallest_cut(shape, widths, pruning, pruning.target.kind)
        assert one == pytest.approx(channels * vo / everything)
    with pytest.raises(SecateurError, match="only with their head") as caught:
        check_feasible(shape, widths, pruning_of("per_head", 0.6))
    assert caught.value.code is ErrorCode.SPARSITY_OUT_OF_REACH
    # Where attention stays, its channels explain nothing.
    neurons = {"parts": ["feed_forward"], "target": {"ffn_sparsity": 0.999}, "granularity": "per_head"}
    with pytest.raises(SecateurError, match="can remove at most") as caught:
        check_feasible(shape, widths, Pruning.model_validate(neurons))
    assert "QK" not in str(caught.value)


def test_a_folder_whose_queries_and_keys_are_not_as_normed_is_refused(whole: Any, tmp_path: Path) -> None:
    """Without a norm, with one of another width, or in our own layout with heads that lost channels of queries."""
    folder = TINY.save(TINY.stock(), tmp_path)
    name = "model.layers.1.self_attn.k_norm.weight"
    tensors = load_file(folder / "model.safetensors")
    for changed in ({}, {name: torch.ones(WIDTH + 1)}):
        rest = {key: each for key, each in tensors.items() if key != name}
        save_file(rest | changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(SecateurError, match="k_norm") as caught:
            describe_folder(folder)
        assert caught.value.code is ErrorCode.WEIGHTS_MISMATCH
    layout = TINY.model_spec.layout(TINY.stock().config.to_dict())
    entries = width_entries(layout, whole.widths)["pruned_attention"]
    assert SaidWidths(entries, None).read(layout) == whole.widths
    for qk in ([WIDTH - 2, WIDTH], [2, 2]):
        entries[1] |= {"qk": qk, "rotary": [mask_of(range(width // 2)) for width in qk]}
        with pytest.raises(UnusableConfigError, match="`qk` of entry 1 must be 8 for every head"):
            SaidWidths(entries, None).read(layout)


def test_whole_heads_of_a_gemma_3_load_without_code(tmp_path: Path) -> None:
    """As tests of grouped queries have it for Qwen3."""
    original = GEMMA.save(GEMMA.stock(), tmp_path / "original")
    loaded, inputs = load_original(original), GEMMA.inputs(3)
    heads = tuple((layer[number],) for number, layer in enumerate(keep_all(loaded.widths)))
    kept = Selection(heads, all_neurons(loaded.widths))
    smaller = reference.cut_by(loaded, kept)
    assert save_checkpoint(tmp_path / "cut", smaller, original) == (True, 1.0)
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    with torch.inference_mode(), reference.masked(GEMMA.model_spec, GEMMA.stock(), kept) as dense:
        reference.assert_near(reference.answer(stock, inputs), reference.answer(dense, inputs))


def test_what_is_timed_has_all_channels_of_queries(whole: Any) -> None:
    pruning = Pruning.model_validate({"target": {"latency": 0.2}, "parts": ["attention", "feed_forward"]})
    small = little_left(whole, pruning)
    assert [(layer.qk, layer.vo) for layer in small.widths.layers] == [((8,), (4,))] * 2
    layout = TINY.model_spec.layout(TINY.stock().config.to_dict())
    (site, *_), entries = layout.attention, width_entries(layout, small.widths)
    assert entries["pruned_attention"][0]["kind"] == "normed_rotary_cached"
    with torch.inference_mode():
        assert torch.isfinite(reference.answer(small.model, TINY.inputs(2))).all()
        bench = _Bench(site, whole.model.get_submodule(site.module), torch.randn(2, 7, 32))
        for widths in ([16, 14], [5, 4], [3]):
            assert bench.layer(widths).qk == (WIDTH,) * len(widths)
            assert bench.kernel(widths)()[0].shape == (2, 7, QUERIES * sum(widths))
