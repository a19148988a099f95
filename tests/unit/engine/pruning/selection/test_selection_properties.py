"""Whatever the spec: the target is met to the nearest structure, what has to stay stays, and steps add up."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.enums import Granularity, Normalization
from api_schemas.results.widths import AttentionWidths
from checkpoints.planning.feasibility import WITH_HEADS, least_channels, max_share, smallest_cut
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from tests.support.checkpoints.shapes import equal_shape
from tests.unit.engine.pruning.selection.selecting import (
    COUNTED,
    DENSE,
    HEADS,
    HIDDEN,
    KINDS,
    LAYERS,
    SHAPE,
    WIDTH,
    drawn_scores,
    pruning,
    specs,
)
from worker.engine.pruning.selection import KeptHeads, Ranking, compose, keep_all, select, widths_of
from worker.engine.scoring.channels import LayerScores, SignedScores

EXAMPLES = settings(max_examples=150, deadline=None)


def share_of(keep: KeptHeads, spec) -> float:
    return CostUnit.of(SHAPE, spec.target.kind).share(widths_of(keep, DENSE))


def channels(keep: KeptHeads) -> set[tuple[int, int, str, int]]:
    """Every channel that stays, by layer, head and side."""
    return {
        (number, head.head, side, channel)
        for number, layer in enumerate(keep)
        for head in layer
        for side, kept in (("qk", head.qk), ("vo", head.vo))
        for channel in kept
    }


@EXAMPLES
@given(spec=specs(), seed=st.integers(0, 50), kind=st.sampled_from(KINDS))
def test_the_target_is_met_to_the_nearest_structure(spec, seed, kind):
    most, least = max_share(SHAPE, DENSE, spec), smallest_cut(SHAPE, DENSE, spec, spec.target.kind)
    share = min(spec.target.share, most)
    achieved = share_of(select(drawn_scores(seed=seed, kind=kind), DENSE, SHAPE, spec, share=share), spec)
    if spec.granularity is Granularity.HEAD_AND_CHANNEL:
        ragged = max_share(SHAPE, DENSE, spec.model_copy(update={"granularity": Granularity.RAGGED}))
        if share > ragged:  # Every head that is left is as narrow as it may be: only heads of that size can go.
            unit = CostUnit.of(SHAPE, spec.target.kind)
            head = least_channels(spec) * (unit.qk[0] + unit.vo[0]) / unit.total
            least = head * (LAYERS - len(spec.exclude_layers) if spec.scope == "local" else 1)
    if (
        spec.granularity is Granularity.HEAD_AND_WIDTH
    ):  # A head of which little is left is smaller than a rank of all heads.
        unit = CostUnit.of(SHAPE, spec.target.kind)
        rank = spec.multiple * HEADS * (unit.qk[0] + unit.vo[0]) / unit.total
        least = max(least, rank * (LAYERS - len(spec.exclude_layers) if spec.scope == "local" else 1))
    assert abs(achieved - share) <= least / 2 + 1e-12


@EXAMPLES
@given(spec=specs(), seed=st.integers(0, 50), kind=st.sampled_from(KINDS))
def test_what_has_to_stay_stays(spec, seed, kind):
    keep = select(drawn_scores(seed=seed, kind=kind), DENSE, SHAPE, spec, share=spec.target.share)
    whole = keep_all(DENSE)
    for number, layer in enumerate(keep):
        if number in spec.exclude_layers:
            assert layer == whole[number]
        if spec.granularity in (Granularity.ENTIRE_HEAD, *WITH_HEADS):
            assert len(layer) >= spec.min_heads
        else:
            assert len(layer) == HEADS
        for head in layer:
            assert min(len(head.qk), len(head.vo)) >= spec.min_channels
            if spec.granularity is not Granularity.ENTIRE_HEAD:
                assert len(head.qk) % spec.multiple == len(head.vo) % spec.multiple == 0
            assert set(head.qk) | set(head.vo) <= set(range(WIDTH))
            assert list(head.qk) == sorted(set(head.qk))


@EXAMPLES
@given(spec=specs(), seed=st.integers(0, 50), kind=st.sampled_from(KINDS))
def test_the_maximum_is_what_selection_reaches_when_asked_for_everything(spec, seed, kind):
    keep = select(drawn_scores(seed=seed, kind=kind), DENSE, SHAPE, spec, share=1.0)
    assert share_of(keep, spec) == pytest.approx(max_share(SHAPE, DENSE, spec), abs=1e-12)


IN_ORDER = [granularity for granularity in Granularity if granularity not in WITH_HEADS]


@EXAMPLES
@given(st.data())
def test_a_larger_target_takes_the_same_and_more(data):
    spec = data.draw(specs(granularity=data.draw(st.sampled_from(IN_ORDER))))
    shares = sorted(data.draw(st.lists(st.floats(0, 1), min_size=2, max_size=4)))
    kind, seed = data.draw(st.sampled_from(KINDS)), data.draw(st.integers(0, 50))
    ranking = Ranking(drawn_scores(seed=seed, kind=kind), DENSE, SHAPE, spec)
    kept = [channels(ranking.heads(share)) for share in shares]
    assert all(more <= less for less, more in itertools.pairwise(kept))


def restricted(scores: list[LayerScores], keep: KeptHeads) -> list[LayerScores]:
    """The scores of what stays, as a second step would find them had nothing else changed."""
    return [
        LayerScores(
            tuple(layer.qk[head.head][list(head.qk)] for head in kept),
            tuple(layer.vo[head.head][list(head.vo)] for head in kept),
        )
        for layer, kept in zip(scores, keep, strict=True)
    ]


@EXAMPLES
@given(st.data())
def test_steps_end_where_one_cut_would(data):
    granularity = data.draw(st.sampled_from(IN_ORDER))
    unscaled = data.draw(st.sampled_from([Normalization.NONE, Normalization.PARAMETERS]))
    spec = data.draw(specs(granularity=granularity, normalization=unscaled, basis="native", align=1))
    scores = drawn_scores(seed=data.draw(st.integers(0, 50)))
    shares = sorted(data.draw(st.lists(st.floats(0, 0.95), min_size=1, max_size=3)))
    at_once = select(scores, DENSE, SHAPE, spec, share=shares[-1])
    widths, kept = DENSE, keep_all(DENSE)
    for share in shares:
        keep = select(restricted(scores, kept), widths, SHAPE, spec, share=share)
        widths, kept = widths_of(keep, widths), compose(kept, keep)
    assert kept == at_once


def lost(scores: list[LayerScores], keep: KeptHeads) -> float:
    """The sum of the scores of every channel that is gone."""
    stay = channels(keep)
    return sum(
        float(vector[channel])
        for number, layer in enumerate(scores)
        for side in ("qk", "vo")
        for head, vector in enumerate(layer.side(side))
        for channel in range(len(vector))
        if (number, head, side, channel) not in stay
    )


def subsets(widths: AttentionWidths) -> Iterator[set[tuple[int, int, str, int]]]:
    everything = sorted(channels(keep_all(widths)))
    for size in range(len(everything) + 1):
        yield from map(set, itertools.combinations(everything, size))


@pytest.mark.parametrize("seed", range(5))
def test_ragged_loses_the_least_of_all_ways_to_cut_as_much(seed):
    """Brute force over every subset of 2 heads × 3 channels × 2 sides; in FLOPs all channels cost the same."""
    dense = AttentionWidths.dense(1, 2, 3)
    shape = equal_shape(1, 2, 3, HIDDEN, tokens=10, other_flops=0)
    scores = drawn_scores(dense, seed)
    best: dict[int, float] = {}
    for stay in subsets(dense):
        per_head = [
            sum(1 for _, h, s, _ in stay if (h, s) == pair) for pair in itertools.product(range(2), ("qk", "vo"))
        ]
        if min(per_head) >= 1:
            gone = channels(keep_all(dense)) - stay
            loss = sum(float(scores[0].side(side)[head][channel]) for _, head, side, channel in gone)
            best[len(gone)] = min(loss, best.get(len(gone), loss))
    assert sorted(best) == list(range(9))
    for count, least in best.items():
        spec = pruning(0.5, "flops", granularity="ragged")
        keep = select(scores, dense, shape, spec, share=count / 12)
        assert len(channels(keep_all(dense)) - channels(keep)) == count
        assert lost(scores, keep) == pytest.approx(least)


def test_ragged_goes_by_score_and_leaves_no_head_empty():
    """By hand: head 0 of layer 0 matters least everywhere, yet keeps its best channel on each side."""
    qk = torch.full((HEADS, WIDTH), 9.0, dtype=torch.float64)
    qk[0] = torch.arange(WIDTH) / 100
    first = LayerScores(tuple(qk), tuple(qk.clone()))
    others = [LayerScores(tuple(torch.full_like(qk, 9.0)), tuple(torch.full_like(qk, 9.0))) for _ in range(LAYERS - 1)]
    share = 2 * (WIDTH - 1) / (LAYERS * HEADS * WIDTH * 2)
    spec = pruning(0.5, "flops", granularity="ragged")
    unit = CostUnit.of(SHAPE, spec.target.kind)
    share *= unit.original(range(LAYERS)) / unit.total
    keep = select([first, *others], DENSE, SHAPE, spec, share=share)
    assert (keep[0][0].qk, keep[0][0].vo) == ((WIDTH - 1,), (WIDTH - 1,))
    assert sum(len(layer) for layer in keep) == LAYERS * HEADS
    assert len(channels(keep)) == 2 * LAYERS * HEADS * WIDTH - 2 * (WIDTH - 1)


@pytest.mark.parametrize("granularity", [Granularity.SAME_CHANNEL, Granularity.PER_HEAD, Granularity.RAGGED])
def test_aligned_blocks_are_ranked_as_sets(granularity):
    """The channels of the first block cancel: alone each matters more than those of the others, together they do not."""
    signed = torch.full((HEADS, WIDTH), 0.5, dtype=torch.float64)
    signed[:, 8:12], signed[:, 12:] = 1.0, -1.0
    vectors = tuple(signed.abs())
    layer = SignedScores(vectors, vectors, signed.flatten(), signed.flatten())
    spec = pruning(granularity=granularity, align=8)
    keep = select(
        [layer] * LAYERS,
        DENSE,
        SHAPE,
        spec,
        share=0.5 * (1 - LAYERS * HIDDEN / accounting.attention_parameters(SHAPE, DENSE)),
    )
    assert all(head.qk == head.vo == tuple(range(8)) for kept in keep for head in kept)


@pytest.mark.parametrize("align", [1, 8])
@pytest.mark.parametrize("granularity", list(Granularity)[1:])
def test_principal_channels_go_from_the_last(granularity, align):
    """Whatever they score, and where all score the same: an axis stays as long as one of less energy does."""
    for kind, seed in itertools.product(KINDS, range(3)):
        scores = drawn_scores(seed=seed, kind=kind)
        level = [LayerScores(tuple(torch.ones(HEADS, WIDTH)), tuple(torch.ones(HEADS, WIDTH)))] * LAYERS
        spec = pruning(granularity=granularity, basis="principal", align=align, min_heads=0)
        for given_scores in (scores, level):
            for head in (head for layer in select(given_scores, DENSE, SHAPE, spec, share=0.5) for head in layer):
                assert head.qk == tuple(range(len(head.qk)))
                assert head.vo == tuple(range(len(head.vo)))


def test_layers_on_different_scales_are_cut_alike_once_normalized():
    scores = drawn_scores()
    scaled = [LayerScores(tuple(s * 10.0**n for s in layer.qk), tuple(s * 10.0**n for s in layer.vo))
              for n, layer in enumerate(scores)]  # fmt: skip
    for granularity in Granularity:
        spec = pruning(granularity=granularity, normalization="layer", min_heads=0)
        assert select(scores, DENSE, SHAPE, spec, share=0.5) == select(scaled, DENSE, SHAPE, spec, share=0.5)
        spec = pruning(granularity=granularity, min_heads=0)
        assert select(scores, DENSE, SHAPE, spec, share=0.5) != select(scaled, DENSE, SHAPE, spec, share=0.5)


def test_scores_of_zero_can_be_normalized():
    zero = [LayerScores(tuple(torch.zeros(HEADS, WIDTH)), tuple(torch.zeros(HEADS, WIDTH)))] * LAYERS
    for granularity in Granularity:
        spec = pruning(granularity=granularity, normalization="layer")
        assert abs(share_of(select(zero, DENSE, SHAPE, spec, share=0.5), spec) - 0.5) < 0.1


def test_layers_that_are_left_out_count_in_the_denominator():
    """A third of the layers must give what all would: half of the model's FLOPs in attention is beyond them."""
    for kind in COUNTED:
        spec = pruning(0.2, kind, granularity="ragged", exclude_layers=(0,), scope="local")
        widths = widths_of(select(drawn_scores(), DENSE, SHAPE, spec, share=0.2), DENSE)
        gone = [CostUnit.of(SHAPE, spec.target.kind).removed(widths, [number]) for number in range(LAYERS)]
        assert gone[0] == 0
        assert gone[1] == pytest.approx(gone[2], rel=0.05)
        assert sum(gone) / CostUnit.of(SHAPE, spec.target.kind).total == pytest.approx(0.2, abs=0.01)


def test_a_layer_may_lose_all_its_heads():
    spec = pruning(granularity="entire_head", min_heads=0)
    strong = drawn_scores()
    weak = LayerScores(tuple(v * 1e-6 for v in strong[1].qk), tuple(v * 1e-6 for v in strong[1].vo))
    keep = select([strong[0], weak, strong[2]], DENSE, SHAPE, spec, share=1 / LAYERS)
    assert [len(layer) for layer in keep] == [HEADS, 0, HEADS]
    widths = widths_of(keep, DENSE)
    again = select([strong[0], LayerScores((), ()), strong[2]], widths, SHAPE, spec, share=2 / LAYERS)
    assert sum(len(layer) for layer in again) == HEADS
