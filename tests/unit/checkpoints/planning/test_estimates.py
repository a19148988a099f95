"""Expected widths: what a spec may leave, as near to its target as its structures allow."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_schemas.enums import Granularity, Part, TargetKind
from api_schemas.errors import SecateurError
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.estimates import estimate_widths, estimated_steps
from checkpoints.planning.feasibility import (
    WITH_HEADS,
    check_feasible,
    least_channels,
    least_heads,
    least_neurons,
    smallest_cut,
)
from checkpoints.sizes.accounting import total_flops
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import FeedForwardShape, ModelShape
from tests.support.checkpoints.shapes import equal_shape

LAYERS, HEADS, WIDTH, HIDDEN, NEURONS = 4, 3, 16, 48, 96


def shape() -> ModelShape:
    blocks = tuple(
        FeedForwardShape(layer=layer, hidden=HIDDEN, neurons=NEURONS, tokens=10, first_bias=True, second_bias=True)
        for layer in range(LAYERS)
    )
    return equal_shape(LAYERS, HEADS, WIDTH, HIDDEN, 10).model_copy(update={"feed_forward": blocks})


SHAPE = shape()


@st.composite
def prunings(draw: st.DrawFn) -> Pruning:
    kind = draw(st.sampled_from(["attention_sparsity", "ffn_sparsity", "parameters", "flops", "both"]))
    share = st.floats(0.02, 0.95)
    names = ["attention_sparsity", "ffn_sparsity"] if kind == "both" else [kind]
    body: dict[str, Any] = {
        "target": {name: draw(share) for name in names},
        "granularity": draw(st.sampled_from([each.value for each in Granularity])),
        "scope": draw(st.sampled_from(["global", "local"])),
        "balance": draw(st.sampled_from(["joint", "equal"])),
        "layout": draw(st.sampled_from(["any", "stock"])),
        "align": draw(st.sampled_from([1, 8])),
        "min_heads": draw(st.integers(0, 2)),
        "min_channels": draw(st.integers(1, 4)),
        "min_neurons": draw(st.integers(1, 20)),
        "exclude_layers": draw(st.sampled_from([[], [0], [1, 3]])),
    }
    if kind in ("parameters", "flops"):
        body["parts"] = draw(st.sampled_from([["attention"], ["feed_forward"], ["attention", "feed_forward"]]))
    try:
        pruning = Pruning.model_validate(body)
        check_feasible(SHAPE, SHAPE.dense, pruning)
    except (ValidationError, SecateurError):
        assume(False)
    return pruning


@given(prunings())
@settings(max_examples=300, deadline=None)
def test_the_target_is_met_to_a_structure_and_what_must_stay_stays(pruning: Pruning) -> None:
    widths = estimate_widths(SHAPE, pruning, pruning.target.share)
    for kind, share in pruning.target.goals:
        # Each of the layers, sides and parts that are ranked apart is met to half a structure of its own.
        apart = 2 * LAYERS if pruning.scope == "local" or pruning.layout == "stock" or pruning.balance == "equal" else 1
        slack = apart * smallest_cut(SHAPE, SHAPE.dense, pruning, kind)
        if pruning.joint_parts:
            # The smallest may be a neuron where what is over is less than a head.
            slack += CostUnit.of(SHAPE, kind).original([0]) / HEADS / CostUnit.of(SHAPE, kind).total
        if pruning.granularity is Granularity.HEAD_AND_WIDTH:
            # The smallest may be a head, and what is over less than channels of all heads.
            unit = CostUnit.of(SHAPE, kind)
            slack += apart * pruning.multiple * HEADS * (unit.qk[0] + unit.vo[0]) / unit.total
        if pruning.granularity in WITH_HEADS:
            # Where every head is as narrow as may be, a whole one is the next that can go.
            unit = CostUnit.of(SHAPE, kind)
            slack += least_channels(pruning) / WIDTH * unit.original([0]) / HEADS / unit.total
        if kind is TargetKind.ATTENTION_SPARSITY:
            # Whose denominator counts the output biases, which stay.
            slack += 1 - CostUnit.of(SHAPE, kind).original(range(LAYERS)) / CostUnit.of(SHAPE, kind).total
        assert abs(CostUnit.of(SHAPE, kind).share(widths) - share) <= slack
    for layer, neurons in zip(range(LAYERS), widths.feed_forward, strict=True):
        heads = widths.layers[layer]
        untouched = layer in pruning.exclude_layers
        if untouched or Part.ATTENTION not in pruning.cuts:
            assert heads == SHAPE.dense.layers[layer]
        else:
            whole = pruning.granularity in (Granularity.ENTIRE_HEAD, *WITH_HEADS)
            assert heads.heads >= (least_heads(pruning) if whole else HEADS)
            assert all(width >= least_channels(pruning) for width in (*heads.qk, *heads.vo))
            if pruning.granularity is not Granularity.ENTIRE_HEAD:
                assert all(width % pruning.multiple == 0 for width in (*heads.qk, *heads.vo))
        if untouched or Part.FEED_FORWARD not in pruning.cuts:
            assert neurons == NEURONS
        else:
            assert neurons >= least_neurons(pruning)
            assert neurons % pruning.multiple == 0
    if pruning.layout == "stock" and Part.ATTENTION in pruning.cuts:
        assert widths.stock_shape is not None


@pytest.mark.parametrize(
    ("granularity", "layers"),
    [
        ("entire_head", [((16,) * 2, (16,) * 2)] * 2 + [((16,), (16,))] * 2),
        ("per_head", [((8,) * 3, (8,) * 3)] * 4),
        ("ragged", [((8,) * 3, (8,) * 3)] * 4),
    ],
)
def test_half_of_four_layers_by_hand(granularity: str, layers: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Six of twelve heads; eight of sixteen channels of every head."""
    unit = CostUnit.of(SHAPE, TargetKind.ATTENTION_SPARSITY)
    half = unit.original(range(LAYERS)) / 2 / unit.total  # Output biases, which stay, are in the denominator.
    spec = Pruning.model_validate({"target": {"attention_sparsity": half}, "granularity": granularity, "min_heads": 1})
    found = estimate_widths(SHAPE, spec, spec.target.share)
    assert sorted((layer.qk, layer.vo) for layer in found.layers) == sorted(layers)


@pytest.mark.parametrize("scope", ["global", "local"])
def test_heads_go_where_sides_with_shares_of_their_own_have_no_channels_left(scope: str) -> None:
    body = {
        "target": {"parameters": 0.43},
        "granularity": "head_and_channel",
        "balance": "equal",
        "scope": scope,
        "min_heads": 0,
    }
    widths = estimate_widths(SHAPE, Pruning.model_validate({**body, "min_channels": 1, "parts": ["attention"]}), 0.43)
    assert [layer.heads for layer in widths.layers] == [1] * LAYERS
    assert all(width == 1 for layer in widths.layers for width in (*layer.qk, *layer.vo))


@pytest.mark.parametrize("of", ["flops", "parameters", "latency"])
def test_of_a_bound_on_the_drop_the_range_goes_down_to_all_that_can_go(of: str) -> None:
    spec = Pruning.model_validate(
        {"target": {"max_drop": 0.01, "of": of}, "granularity": "entire_head", "min_heads": 1}
    )
    original, smallest = estimated_steps(SHAPE, spec, 10**6)
    heads = AttentionWidths.of(WIDTH, [((WIDTH,), (WIDTH,))] * LAYERS, SHAPE.dense.feed_forward)
    assert (original.flops, smallest.flops) == (total_flops(SHAPE, SHAPE.dense), total_flops(SHAPE, heads))
