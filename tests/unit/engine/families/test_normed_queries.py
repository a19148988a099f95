"""Norms over all channels of a head of queries and keys: QK channels stay as long as their head, and what is cut is exact.

The reference is transformers' own class.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from api_schemas.enums import Basis, Criterion, Granularity
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.widths import mask_of
from api_schemas.spec.pruning import Pruning
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.config.pruned_layout import SaidWidths
from checkpoints.families import UnusableConfigError
from checkpoints.planning.estimates import estimate_widths
from checkpoints.planning.feasibility import check_feasible, max_share, reach, smallest_cut
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel, load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.latency.table_measurement import _Bench
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons
from worker.engine.models.model_spec import attention_entry
from worker.engine.pruning.selection import Selection, keep_all, select
from worker.engine.pruning.targets import little_left
from worker.engine.scoring import score

TINY = next(tiny for tiny in MODELS if tiny.name == "Gemma3ForCausalLM")
HEADS, QUERIES, WIDTH = 2, 2, 12


@pytest.fixture(scope="module")
def whole() -> LoadedModel:
    return reference.dense(TINY.model_spec, TINY.stock())


def pruning(share: float = 0.3, **changes: Any) -> Pruning:
    return Pruning.model_validate({"preset": "paper", "target": {"attention_sparsity": share}, **changes})


@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("granularity", Granularity)
def test_no_granularity_takes_a_query_s_channel(granularity: Granularity, basis: Basis, whole: LoadedModel) -> None:
    shape = reference.shape_of(TINY.model_spec, TINY.stock())
    spec = pruning(granularity=granularity, basis=basis, align=4, min_heads=1)
    spec = spec.model_copy(update={"target": pruning(max_share(shape, whole.widths, spec) / 2).target})
    check_feasible(shape, whole.widths, spec)
    scores = score(Criterion.RANDOM, attention_blocks(whole.model, whole.model_spec, whole.widths), seed=3)
    heads = select(scores, whole.widths, shape, spec, share=spec.target.share)
    widths = Selection(heads, all_neurons(whole.widths)).widths(whole.widths)
    assert all(layer.qk_whole and set(layer.qk) == {WIDTH} for layer in widths.layers)
    removed = accounting.attention_sparsity(shape, widths)
    step = smallest_cut(shape, whole.widths, spec, spec.target.kind)
    assert removed == pytest.approx(spec.target.share, abs=max(step, 1 / (HEADS * len(widths.layers))))
    assert removed > 0
    estimated = estimate_widths(shape, spec, spec.target.share)
    assert all(set(layer.qk) == {WIDTH} for layer in estimated.layers)
    assert accounting.attention_sparsity(shape, estimated) == pytest.approx(removed, abs=0.25)


def test_the_smallest_cut_is_a_channel_of_the_values(whole: LoadedModel) -> None:
    shape = reference.shape_of(TINY.model_spec, TINY.stock())
    spec = pruning(granularity=Granularity.RAGGED)
    channel = accounting.vo_channel_parameters(shape.attention[0])
    total = accounting.attention_parameters(shape, whole.widths)
    assert smallest_cut(shape, whole.widths, spec, spec.target.kind) == pytest.approx(channel / total)
    # All of them but one of each head.
    most = len(whole.widths.layers) * HEADS * (WIDTH - 1) * channel / total
    assert max_share(shape, whole.widths, spec) == pytest.approx(most)


@pytest.mark.parametrize("granularity", Granularity)
def test_the_same_share_of_both_sides_is_refused(granularity: Granularity, whole: LoadedModel) -> None:
    shape, spec = (
        reference.shape_of(TINY.model_spec, TINY.stock()),
        pruning(0.25, granularity=granularity, balance="equal"),
    )
    if granularity is Granularity.ENTIRE_HEAD:
        check_feasible(shape, whole.widths, spec)
        return
    for judge in (check_feasible, reach):
        with pytest.raises(SecateurError, match="Use balance joint") as caught:
            judge(shape, whole.widths, spec)
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        assert [item.pointer for item in caught.value.errors] == ["/pruning/balance"]


@pytest.mark.parametrize("qk", [[WIDTH, WIDTH - 2], [2, 2], [WIDTH]])
def test_a_result_that_says_fewer_is_refused(qk: list[int], whole: LoadedModel) -> None:
    layout = TINY.model_spec.layout_of(whole.model)
    said = [attention_entry(site, layer) for site, layer in zip(layout.attention, whole.widths.layers, strict=True)]
    assert SaidWidths(said, None).read(layout).layers == whole.widths.layers
    said[1] = {**said[1], "qk": qk, "rotary": [mask_of(range(width // 2)) for width in qk]}
    with pytest.raises(UnusableConfigError, match=r"^[^`]*`qk`.* entry 1"):
        SaidWidths(said, None).read(layout)


def test_whole_groups_load_without_code(tmp_path: Path) -> None:
    original = TINY.save(TINY.stock(), tmp_path / "original")
    loaded, inputs = load_original(original), TINY.inputs(3)
    heads = tuple((layer[number],) for number, layer in enumerate(keep_all(loaded.widths)))
    kept = Selection(heads, all_neurons(loaded.widths))
    smaller = reference.cut_by(loaded, kept)
    assert save_checkpoint(tmp_path / "cut", smaller, original) == (True, 1.0)
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").eval()
    with torch.inference_mode(), reference.masked(TINY.model_spec, TINY.stock(), kept) as dense:
        reference.assert_near(reference.answer(stock, inputs), reference.answer(dense, inputs))


def test_what_is_timed_keeps_its_queries(whole: LoadedModel) -> None:
    small = little_left(whole, pruning())
    assert {layer.qk for layer in small.widths.layers} == {(WIDTH,)}
    assert {layer.vo for layer in small.widths.layers} == {(WIDTH // 2,)}
    site = TINY.model_spec.layout_of(whole.model).attention[0]
    bench = _Bench(site, whole.model.get_submodule(site.module), torch.randn(2, 7, 32))
    with torch.inference_mode():
        assert torch.isfinite(reference.answer(small.model, TINY.inputs(2))).all()
        assert bench.kernel([8, 6])()[0].shape == (2, 7, QUERIES * 14)
