"""Latency looked up in a table made by hand; selection that meets it; what a target is said to have met."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.enums import Granularity, TargetKind
from api_schemas.errors import SecateurError
from api_schemas.results.metrics import Latency
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import max_share
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from tests.unit.engine import small
from tests.unit.engine.pruning.selection.selecting import (
    COUNTED,
    DENSE,
    HEADS,
    HIDDEN,
    LAYERS,
    SHAPE,
    WIDTH,
    drawn_scores,
    pruning,
)
from worker.engine.latency.paired import compare
from worker.engine.latency.table import LatencyModel, LatencyTable, read_latency_table, write_latency_table
from worker.engine.models import head_groups
from worker.engine.pruning.selection import Ranking, Selection, keep_all, select, widths_of
from worker.engine.pruning.targets import check_latency, requested_sparsity, selection_for, target_met
from worker.engine.scoring import LayerScores, NeuronScores

TABLE = LatencyTable(
    batch_size=1,
    tokens=100_000,  # so long that every padded width gets a call of its own
    device="cpu",
    channels=(0, 24, 48),
    qk_ms=(0.0, 1.0, 3.0),
    vo_ms=(0.0, 2.0, 4.0),
    heads=(1, 3),
    widths=(16, 32),
    kernel_ms=((1.0, 2.0), (2.0, 4.0)),
    copy_ms=0.01,
    other_ms=10.0,
    dense_ms=37.0,
)
MODEL = LatencyModel(TABLE)


def widths(*layers: tuple[tuple[int, ...], tuple[int, ...]]) -> AttentionWidths:
    return AttentionWidths.of(WIDTH, layers)


def test_a_layer_is_its_projections_its_calls_and_its_copies():
    """By hand: 3 + 4 for 48 channels of each side, one call of three heads of width 16 for 2."""
    assert MODEL.milliseconds(DENSE) == pytest.approx(10 + LAYERS * (3 + 4 + 2))
    assert MODEL.saved(DENSE) == pytest.approx(0)
    assert MODEL.milliseconds(widths(((), ()))) == 10
    assert MODEL.milliseconds(widths(((6,), (6,)))) == pytest.approx(10 + 0.25 + 0.5 + 1)
    # 12 and 36 channels lie halfway between points of the grid; two heads between one and three.
    assert MODEL.milliseconds(widths(((18, 18), (6, 6)))) == pytest.approx(10 + 2 + 1 + _calls((18, 18)))
    uneven = widths(((20, 16), (10, 2)))
    assert _groups(uneven) == [(1, 16), (1, 24)]
    assert MODEL.milliseconds(uneven) == pytest.approx(10 + 2 + 1 + (1 + 1.5) + 0.01 * (16 + 24))


def test_feed_forward_blocks_are_looked_up_where_they_are_in_the_table():
    layer = ((6,), (6,))
    attention = MODEL.milliseconds(widths(layer))
    cut = AttentionWidths.of(WIDTH, [layer], (12, 4))
    assert MODEL.milliseconds(cut) == attention
    measured = TABLE.model_copy(update={"neurons": (0, 8, 16), "feed_forward_ms": (0.0, 1.0, 4.0)})
    assert LatencyModel(measured).milliseconds(cut) == pytest.approx(attention + 2.5 + 0.5)


def _groups(widths: AttentionWidths) -> list[tuple[int, int]]:
    layer = widths.layers[0]
    return [(len(heads), width) for heads, width in head_groups(layer.qk, layer.vo, TABLE.tokens**2)]


def _calls(widths: tuple[int, ...]) -> float:
    """Two heads that share a width of 24: between 16 and 32, between one head and three."""
    assert _groups(AttentionWidths.of(WIDTH, [(widths, (6, 6))])) == [(2, 24)]
    return (1.5 + 3) / 2


def test_the_table_survives_its_file(tmp_path):
    write_latency_table(tmp_path, TABLE)
    assert read_latency_table(tmp_path) == TABLE
    (tmp_path / "latency_table.json").write_text(json.dumps({"tokens": 3}))
    with pytest.raises(SecateurError) as caught:
        read_latency_table(tmp_path)
    assert caught.value.code == "input_lost"
    with pytest.raises(SecateurError):
        read_latency_table(tmp_path / "absent")


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_latency_is_met_to_the_nearest_structure(data):
    """Against a walk through all sparsities: what is found is as near as the jump at the target's latency allows."""
    granularity, seed = data.draw(st.sampled_from(Granularity)), data.draw(st.integers(0, 20))
    scope = data.draw(st.sampled_from(["global", "local"]))
    share = data.draw(st.floats(0.05, 0.6))
    spec = pruning(share, "latency", granularity=granularity, scope=scope, min_heads=0)
    scores = drawn_scores(seed=seed)
    keep = selection_for(scores, DENSE, SHAPE, spec, share=share / 2, latency=MODEL).heads
    ranking = Ranking(scores, DENSE, SHAPE, spec, TargetKind.ATTENTION_SPARSITY)
    saved = [MODEL.saved(widths_of(ranking.heads(step / 200), DENSE)) for step in range(201)]
    achieved = MODEL.saved(widths_of(keep, DENSE))
    crossed = [abs(b - a) for a, b in pairwise(saved) if min(a, b) <= share / 2 <= max(a, b)]
    assert abs(achieved - share / 2) <= max(crossed) / 2 + 0.005


@pytest.mark.parametrize("granularity", ["head_and_width", "per_head"])
@pytest.mark.parametrize("chosen", ["ranked", "brain_surgeon"])
@pytest.mark.parametrize("parts", [["feed_forward"], ["attention", "feed_forward"]], ids=["neurons", "both"])
def test_latency_of_whole_layers_is_met_to_the_nearest_structure(parts, chosen, granularity):
    """Against a walk through all shares of the FLOPs, which is how attention and neurons compete."""
    share, generator = 0.3, torch.Generator().manual_seed(0)
    rises = {"neurons": (0, 32, 64), "feed_forward_ms": (0.0, 2.0, 6.0)}
    dense = LatencyModel(TABLE.model_copy(update=rises)).milliseconds(small.DENSE)
    latency = LatencyModel(TABLE.model_copy(update={**rises, "dense_ms": dense}))
    scores = drawn_scores(small.DENSE, 1)
    drawn = [torch.rand(small.NEURONS, generator=generator, dtype=torch.float64) for _ in range(small.LAYERS)]
    neurons = [NeuronScores(LayerScores((), (each,))) for each in drawn]
    asked = {"parts": parts, "neuron_selection": chosen, "granularity": granularity}

    def kept(target: dict[str, float], at: float) -> Selection:
        spec = Pruning.model_validate({**asked, "target": target})
        shape = small.small_shape()
        return selection_for(scores, small.DENSE, shape, spec, share=at, neurons=neurons, latency=latency)

    def saved(selection: Selection) -> float:
        return latency.saved(selection.widths(small.DENSE))

    walk = [saved(kept({"flops": 0.99}, step / 50)) for step in range(51)]
    found = kept({"latency": share}, share)
    achieved = saved(found)
    crossed = [abs(b - a) for a, b in pairwise(walk) if min(a, b) <= share <= max(a, b)]
    assert abs(achieved - share) <= max(crossed) / 2 + 0.005
    if chosen == "ranked":  # of which exactly so much can be asked for
        flops = CostUnit.of(small.small_shape(), TargetKind.FLOPS).share(found.widths(small.DENSE))
        assert kept({"flops": 0.99}, flops) == found


def test_latency_counts_from_the_original_in_later_steps():
    spec = pruning(0.5, "latency", granularity="per_head")
    first = widths_of(selection_for(drawn_scores(), DENSE, SHAPE, spec, share=0.2, latency=MODEL).heads, DENSE)
    second = widths_of(selection_for(drawn_scores(first, 1), first, SHAPE, spec, share=0.4, latency=MODEL).heads, DENSE)
    assert MODEL.saved(first) == pytest.approx(0.2, abs=0.03)
    assert MODEL.saved(second) == pytest.approx(0.4, abs=0.03)
    assert all(max(after.qk) <= max(before.qk) for before, after in zip(first.layers, second.layers, strict=True))


def test_latency_out_of_reach_is_refused_with_the_maximum_on_this_worker():
    narrow = AttentionWidths.dense(LAYERS, HEADS, 2)
    most = MODEL.saved(AttentionWidths(head_dim=WIDTH, layers=narrow.layers))
    check_latency(MODEL, SHAPE, pruning(most, "latency", granularity="per_head", min_channels=2))
    check_latency(MODEL, SHAPE, pruning(most + 0.009, "latency", granularity="per_head", min_channels=2))
    with pytest.raises(SecateurError, match=f"{most:.4f}") as caught:
        check_latency(MODEL, SHAPE, pruning(most + 0.02, "latency", granularity="per_head", min_channels=2))
    assert (caught.value.code, caught.value.errors[0].pointer) == ("sparsity_out_of_reach", "/pruning/target/latency")


def test_what_noise_covers_is_not_out_of_reach():
    """Up to ten points: what is far beyond is, on the busiest machine."""
    most = MODEL.saved(AttentionWidths(head_dim=WIDTH, layers=AttentionWidths.dense(LAYERS, HEADS, 2).layers))
    near, far = (pruning(most + past, "latency", granularity="per_head", min_channels=2) for past in (0.05, 0.15))
    with pytest.raises(SecateurError):
        check_latency(MODEL, SHAPE, near)
    noisy = LatencyModel(TABLE.model_copy(update={"noise": 0.5}))
    check_latency(noisy, SHAPE, near)
    with pytest.raises(SecateurError):
        check_latency(noisy, SHAPE, far)


def test_a_latency_nearer_to_nothing_is_refused():
    spec = pruning(0.001, "latency", granularity="entire_head", scope="local")
    with pytest.raises(SecateurError, match="closer to removing nothing") as caught:
        selection_for(drawn_scores(), DENSE, SHAPE, spec, share=0.001, latency=MODEL)
    assert caught.value.code == "sparsity_out_of_reach"


@pytest.mark.parametrize("kind", COUNTED)
def test_counted_targets_need_no_table_and_say_what_was_met(kind):
    spec = pruning(0.1, kind, granularity="ragged")
    keep = selection_for(drawn_scores(), DENSE, SHAPE, spec, share=0.1).heads
    assert keep == select(drawn_scores(), DENSE, SHAPE, spec, share=0.1)
    left = widths_of(keep, DENSE)
    met = target_met(SHAPE, spec, 0.1, left)
    assert (met.kind, met.requested) == (kind, 0.1)
    assert met.achieved == pytest.approx(0.1, abs=0.002)
    # The same in attention sparsity: what was asked for and what was met lie as near to each other.
    asked, achieved = requested_sparsity(SHAPE, spec, 0.1, left), accounting.attention_sparsity(SHAPE, left)
    assert asked == pytest.approx(achieved, abs=0.01)
    assert (asked == pytest.approx(0.1)) is (kind == "attention_sparsity")


def test_the_share_of_everything_is_all_of_attention_in_every_unit():
    for kind in COUNTED:
        spec = pruning(0.1, kind, granularity="entire_head", min_heads=0)
        kept_biases = LAYERS * HIDDEN / accounting.attention_parameters(SHAPE, DENSE)
        most = max_share(SHAPE, DENSE, spec)
        assert requested_sparsity(SHAPE, spec, most, DENSE) == pytest.approx(1 - kept_biases)


def test_latency_met_is_the_time_that_was_measured():
    timed = Latency(
        batch_size=1,
        runs=5,
        p50_ms=6.0,
        p95_ms=7.0,
        throughput=1.0,
        dense_p50_ms=10.0,
        dense_p95_ms=11.0,
        speedup=10 / 6,
    )
    spec = pruning(0.5, "latency", granularity="ragged")
    met = target_met(SHAPE, spec, 0.3, DENSE, (timed,))
    assert (met.kind, met.requested, met.achieved) == ("latency", 0.3, pytest.approx(0.4))
    # Where it was timed in pairs, the ratio of the medians does not count.
    paired = compare(np.full(30, 10.0), np.full(30, 8.0), np.full(30, 10.0))
    met = target_met(SHAPE, spec, 0.3, DENSE, (timed.model_copy(update={"paired": paired}),))
    assert met.achieved == pytest.approx(0.2)
    assert requested_sparsity(SHAPE, spec, 0.3, DENSE) == 0
    with pytest.raises(ValueError, match="table"):
        selection_for(drawn_scores(), DENSE, SHAPE, spec, share=0.3)


def test_a_step_may_cut_nothing_where_the_next_is_to():
    """A first step of a tiny share is not the target: it is not refused."""
    spec = pruning(0.5, "latency", granularity="entire_head", scope="local")
    assert selection_for(drawn_scores(), DENSE, SHAPE, spec, share=0.001, latency=MODEL).heads == keep_all(DENSE)
