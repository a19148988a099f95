"""Reach by hand, in every unit; what is refused, and how it says so."""

from typing import Any

import pytest

from api_schemas.enums import Granularity, Side, TargetKind
from api_schemas.errors import SecateurError
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import (
    check_feasible,
    left_out,
    max_share,
    max_sparsity,
    narrowest,
    reach,
    smallest_cut,
)
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from checkpoints.sizes.shape import FeedForwardShape, ModelShape
from tests.support.checkpoints.shapes import equal_shape

LAYERS, HEADS, WIDTH, HIDDEN = 4, 4, 16, 64
DENSE = AttentionWidths.dense(LAYERS, HEADS, WIDTH)
ATTENTION = LAYERS * (4 * HIDDEN * HIDDEN + 4 * HIDDEN)
SHAPE = equal_shape(LAYERS, HEADS, WIDTH, HIDDEN, tokens=50, other_parameters=3 * ATTENTION, other_flops=10**8)
QK, VO = 2 * (HIDDEN + 1), 2 * HIDDEN + 1
CHANNEL_FLOPS = 4 * 50 * HIDDEN + 2 * 50**2
FLOPS = 10**8 + LAYERS * 2 * HEADS * WIDTH * CHANNEL_FLOPS
CHANNELS = HEADS * WIDTH


def pruning(share: float = 0.5, kind: str = "attention_sparsity", **changes: Any) -> Pruning:
    return Pruning.model_validate({"preset": "paper", "target": {kind: share}, **changes})


def refused(spec: Pruning) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        check_feasible(SHAPE, DENSE, spec)
    return caught.value


def test_units_count_what_accounting_counts() -> None:
    cut = AttentionWidths.of(WIDTH, [((16, 3), (1, 9)), ((), ()), ((16,) * 4, (16,) * 4), ((5,), (16,))])
    dense_total = accounting.total_parameters(SHAPE, DENSE)
    expected = {
        TargetKind.ATTENTION_SPARSITY: accounting.attention_sparsity(SHAPE, cut),
        TargetKind.PARAMETERS: 1 - accounting.total_parameters(SHAPE, cut) / dense_total,
        TargetKind.FLOPS: 1 - accounting.total_flops(SHAPE, cut) / accounting.total_flops(SHAPE, DENSE),
    }
    for kind, share in expected.items():
        assert CostUnit.of(SHAPE, kind).share(cut) == pytest.approx(share, abs=1e-12)
        assert CostUnit.of(SHAPE, kind).share(DENSE) == 0
    with pytest.raises(ValueError, match="measured"):
        CostUnit.of(SHAPE, TargetKind.LATENCY)


MOST = [
    ("entire_head", {}, 3 * WIDTH * (QK + VO)),
    ("entire_head", {"min_heads": 0}, 4 * WIDTH * (QK + VO)),
    ("entire_head", {"min_heads": 0, "layout": "stock"}, 3 * WIDTH * (QK + VO)),
    ("entire_head", {"min_channels": 9, "align": 8}, 3 * WIDTH * (QK + VO)),
    ("same_channel", {}, 15 * HEADS * (QK + VO)),
    ("per_head", {"min_channels": 3}, 13 * HEADS * (QK + VO)),
    ("per_head", {"min_channels": 3, "align": 8}, 8 * HEADS * (QK + VO)),
    ("ragged", {"min_heads": 0}, 15 * HEADS * (QK + VO)),
    ("ragged", {"align": 16}, 0),
    ("head_and_channel", {}, (CHANNELS - 1) * (QK + VO)),
    ("head_and_channel", {"min_heads": 2, "min_channels": 9, "align": 8}, 2 * WIDTH * (QK + VO)),
    ("head_and_channel", {"min_heads": 2, "min_channels": 8, "align": 8}, (CHANNELS - 2 * 8) * (QK + VO)),
    ("head_and_channel", {"min_heads": 0}, CHANNELS * (QK + VO)),
]


@pytest.mark.parametrize(("granularity", "changes", "of_layer"), MOST)
def test_the_most_that_can_go(granularity: str, changes: dict[str, Any], of_layer: int) -> None:
    for exclude in ((), (0, 3)):
        if exclude and changes.get("layout"):
            continue
        spec = pruning(0.5, granularity=granularity, exclude_layers=exclude, **changes)
        assert max_share(SHAPE, DENSE, spec) == pytest.approx((LAYERS - len(exclude)) * of_layer / ATTENTION, abs=1e-12)
        spec = pruning(0.5, "parameters", granularity=granularity, exclude_layers=exclude, **changes)
        assert max_share(SHAPE, DENSE, spec) == pytest.approx(
            (LAYERS - len(exclude)) * of_layer / (4 * ATTENTION), abs=1e-12
        )
        spec = pruning(0.5, "flops", granularity=granularity, exclude_layers=exclude, **changes)
        channels = of_layer / (QK + VO) * 2 * (LAYERS - len(exclude))
        assert max_share(SHAPE, DENSE, spec) == pytest.approx(channels * CHANNEL_FLOPS / FLOPS, abs=1e-12)
        assert [narrowest(SHAPE, DENSE, spec).layers[number] for number in exclude] == [DENSE.layers[0]] * len(exclude)


def test_every_granularity_has_a_maximum() -> None:
    found = {granularity: max_sparsity(SHAPE, DENSE, granularity) for granularity in Granularity}
    assert found[Granularity.ENTIRE_HEAD] < found[Granularity.PER_HEAD] < found[Granularity.HEAD_AND_CHANNEL] < 1
    assert found[Granularity.SAME_CHANNEL] == found[Granularity.PER_HEAD] == found[Granularity.RAGGED]
    assert found[Granularity.HEAD_AND_WIDTH] == found[Granularity.HEAD_AND_CHANNEL]


LEAST = [
    ("entire_head", {}, WIDTH * (QK + VO)),
    ("entire_head", {"scope": "local", "balance": "equal"}, LAYERS * WIDTH * (QK + VO)),
    ("entire_head", {"layout": "stock"}, LAYERS * WIDTH * (QK + VO)),
    ("head_and_width", {}, HEADS * QK),
    ("head_and_width", {"min_channels": WIDTH}, WIDTH * (QK + VO)),
    ("head_and_width", {"min_heads": 0, "align": WIDTH // 2}, min(WIDTH // 2 * HEADS * QK, WIDTH * (QK + VO))),
    ("per_head", {}, HEADS * QK),
    ("per_head", {"align": 8}, 8 * HEADS * QK),
    ("per_head", {"balance": "equal"}, HEADS * (QK + VO)),
    ("same_channel", {"layout": "stock"}, LAYERS * HEADS * (QK + VO)),
    ("ragged", {}, QK),
    ("ragged", {"scope": "local", "exclude_layers": [1]}, (LAYERS - 1) * QK),
    ("head_and_channel", {"align": 8}, 8 * QK),
    ("head_and_channel", {"min_channels": 16}, WIDTH * (QK + VO)),
]


@pytest.mark.parametrize(("granularity", "changes", "parameters"), LEAST)
def test_the_least_that_can_go(granularity: str, changes: dict[str, Any], parameters: int) -> None:
    spec = pruning(0.5, granularity=granularity, **changes)
    assert smallest_cut(SHAPE, DENSE, spec, TargetKind.ATTENTION_SPARSITY) == pytest.approx(parameters / ATTENTION)
    assert smallest_cut(SHAPE, DENSE, spec, TargetKind.PARAMETERS) == pytest.approx(parameters / 4 / ATTENTION)
    share = parameters / ATTENTION
    check_feasible(SHAPE, DENSE, pruning(0.51 * share, granularity=granularity, **changes))
    assert (
        f"smallest cut {share:.4g}"
        in refused(pruning(0.49 * share, granularity=granularity, **changes)).errors[0].detail
    )


@pytest.mark.parametrize("kind", ["attention_sparsity", "parameters", "flops"])
def test_a_target_out_of_reach_names_the_maximum_in_its_own_unit(kind: str) -> None:
    for granularity in Granularity:
        most = max_share(SHAPE, DENSE, pruning(0.5, kind, granularity=granularity, min_channels=4))
        check_feasible(SHAPE, DENSE, pruning(most - 1e-6, kind, granularity=granularity, min_channels=4))
        error = refused(pruning(most + 0.03, kind, granularity=granularity, min_channels=4))
        assert (error.code, error.errors[0].pointer) == ("sparsity_out_of_reach", f"/pruning/target/{kind}")
        assert error.errors[0].detail == f"maximum {most:.4f}"
        words = {"attention_sparsity": "attention parameters", "parameters": "parameters", "flops": "FLOPs"}[kind]
        assert f"at most {most:.4f} of this model's {words} with" in error.detail


def test_all_of_attention_is_within_reach_where_no_head_has_to_stay() -> None:
    for granularity in ("entire_head", "head_and_channel"):
        most = max_share(SHAPE, DENSE, pruning(granularity=granularity, min_heads=0))
        check_feasible(SHAPE, DENSE, pruning(most + 1e-4, granularity=granularity, min_heads=0))
        assert refused(pruning(0.999, granularity=granularity)).code == "sparsity_out_of_reach"
    # A head is more than the output biases, which stay: the nearest structure is the last head.
    check_feasible(SHAPE, DENSE, pruning(0.999, granularity="entire_head", min_heads=0))


def test_more_than_all_there_is_to_remove_is_refused_with_the_maximum() -> None:
    spec = pruning(0.9999, granularity="head_and_channel", min_heads=0)
    most = max_share(SHAPE, DENSE, spec)
    error = refused(spec)
    assert (error.code, error.errors[0].pointer) == ("sparsity_out_of_reach", "/pruning/target/attention_sparsity")
    assert error.errors[0].detail == f"maximum {most:.4f}"
    assert "Output biases stay" in error.detail


@pytest.mark.parametrize(
    ("field", "asked", "most", "more"),
    [
        ("min_heads", HEADS + 1, HEADS, {"granularity": "per_head"}),
        ("min_heads", 1024, HEADS, {"granularity": "head_and_channel", "target": {"attention_sparsity": 0.1}}),
        ("min_channels", WIDTH + 1, WIDTH, {"granularity": "entire_head"}),
        ("min_channels", 65, WIDTH, {"granularity": "head_and_channel", "min_heads": 0}),
    ],
)
def test_more_that_is_to_stay_than_there_is(field: str, asked: int, most: int, more: dict[str, Any]) -> None:
    error = refused(pruning(**{**more, field: asked}))
    assert (error.code, error.errors[0].pointer) == ("invalid_request", f"/pruning/{field}")
    assert f"the model has at most {most}" in error.detail
    check_feasible(SHAPE, DENSE, pruning(0.1, **{**more, "target": {"attention_sparsity": 0.1}, field: 1}))


def test_what_is_not_cut_has_no_least() -> None:
    check_feasible(SHAPE, DENSE, pruning(min_neurons=10_000))


def test_latency_is_refused_beyond_what_a_model_without_attention_would_save() -> None:
    attention = LAYERS * 2 * CHANNELS * CHANNEL_FLOPS / FLOPS
    check_feasible(SHAPE, DENSE, pruning(attention - 0.01, "latency"))
    error = refused(pruning(attention + 0.01, "latency"))
    assert (error.code, error.errors[0].pointer) == ("sparsity_out_of_reach", "/pruning/target/latency")
    assert f"{attention:.4f}" in error.errors[0].detail


def test_latency_of_feed_forward_blocks_goes_further_and_needs_them_alike() -> None:
    blocks = tuple(
        FeedForwardShape(layer=layer, hidden=HIDDEN, neurons=128, tokens=50, first_bias=True, second_bias=True)
        for layer in range(LAYERS)
    )
    shape = SHAPE.model_copy(update={"feed_forward": blocks})
    inside = {
        "attention": accounting.attention_flops(shape, shape.dense),
        "feed_forward": accounting.feed_forward_flops(shape, shape.dense),
    }
    whole = accounting.total_flops(shape, shape.dense)
    for parts in (["attention"], ["feed_forward"], ["attention", "feed_forward"]):
        most = sum(inside[part] for part in parts) / whole
        check_feasible(shape, shape.dense, pruning(most - 0.01, "latency", parts=parts))
        with pytest.raises(SecateurError) as caught:
            check_feasible(shape, shape.dense, pruning(most + 0.01, "latency", parts=parts))
        assert caught.value.errors[0].detail == f"maximum {most:.4f}"
        assert ("allows more" in caught.value.detail) == (len(parts) == 1)
    uneven = (*blocks[:-1], blocks[-1].model_copy(update={"neurons": 64}))
    shape = SHAPE.model_copy(update={"feed_forward": uneven})
    check_feasible(shape, shape.dense, pruning(0.01, "latency"))
    with pytest.raises(SecateurError, match="not all alike"):
        check_feasible(shape, shape.dense, pruning(0.01, "latency", parts=["attention", "feed_forward"]))


@pytest.mark.parametrize("exclude", [[4], [0, 9, 9], [0, 1, 2, 3]])
def test_layers_that_cannot_be_left_out(exclude: list[int]) -> None:
    error = refused(pruning(0.2, exclude_layers=exclude))
    assert (error.code, error.errors[0].pointer) == ("invalid_request", "/pruning/exclude_layers")
    check_feasible(SHAPE, DENSE, pruning(0.2, exclude_layers=[0, 0, 3]))


def with_a_decoder() -> ModelShape:
    """SHAPE's layers 2 and 3 as a decoder's, which attend twice, and a feed-forward block in each of the four."""
    first, second, *decoder = SHAPE.attention
    twice = tuple(block for block in decoder for _ in range(2))
    neurons = tuple(FeedForwardShape(layer=n, hidden=HIDDEN, neurons=96, tokens=50, first_bias=True, second_bias=True)
                    for n in range(LAYERS))  # fmt: skip
    return SHAPE.model_copy(update={"attention": (first, second, *twice), "feed_forward": neurons})


@pytest.mark.parametrize(("only", "other"), [("encoder", [2, 3]), ("decoder", [0, 1])])
def test_one_side_alone_is_the_other_left_out(only: str, other: list[int]) -> None:
    shape, parts = with_a_decoder(), ["attention", "feed_forward"]
    for kind, changes in (("attention_sparsity", {}), ("flops", {"parts": parts}), ("ffn_sparsity", {})):
        asked = pruning(0.03, kind, only=only, **changes)
        same = pruning(0.03, kind, exclude_layers=other, **changes)
        assert narrowest(shape, shape.dense, asked) == narrowest(shape, shape.dense, same) != shape.dense
        unit = asked.target.kind
        assert smallest_cut(shape, shape.dense, asked, unit) == smallest_cut(shape, shape.dense, same, unit)
        check_feasible(shape, shape.dense, asked)
    assert left_out(shape, pruning(only=only, exclude_layers=[other[0], 1])) == {*other, 1}
    for spec, pointer in (
        (pruning(0.9, only=only), "/pruning/target/attention_sparsity"),
        (
            pruning(0.1, only=only, exclude_layers=[n for n in range(LAYERS) if n not in other]),
            "/pruning/exclude_layers",
        ),
    ):
        with pytest.raises(SecateurError) as caught:
            check_feasible(shape, shape.dense, spec)
        assert caught.value.errors[0].pointer == pointer
    with pytest.raises(SecateurError, match=f"every layer of the {only}"):
        reach(shape, shape.dense, spec)


def test_one_side_of_a_model_that_has_no_two() -> None:
    for only in Side:
        error = refused(pruning(0.2, only=only))
        assert (error.code, error.errors[0].pointer) == ("invalid_request", "/pruning/only")


def test_widths_that_are_no_multiple_of_align() -> None:
    odd = AttentionWidths.dense(LAYERS, HEADS, 12)
    shape = SHAPE.model_copy(update={"attention_parameters": LAYERS * (4 * HIDDEN * 48 + 3 * 48 + HIDDEN)})
    for granularity in Granularity:
        spec = pruning(0.4, granularity=granularity, align=8)
        if granularity is Granularity.ENTIRE_HEAD:
            check_feasible(shape, odd, spec)
            continue
        with pytest.raises(SecateurError, match="width 12") as caught:
            check_feasible(shape, odd, spec)
        assert (caught.value.code, caught.value.errors[0].pointer) == ("width_misaligned", "/pruning/align")


@pytest.mark.parametrize("of", [kind for kind in TargetKind if kind is not TargetKind.FFN_SPARSITY])
def test_a_bound_on_the_drop_can_be_met_wherever_anything_can_go(of: TargetKind) -> None:
    check_feasible(SHAPE, DENSE, Pruning.model_validate({"preset": "paper", "target": {"max_drop": 0.01, "of": of}}))


def test_a_bound_is_refused_where_nothing_can_go() -> None:
    asked = {"preset": "paper", "target": {"max_drop": 0.01}, "min_heads": HEADS}
    error = refused(Pruning.model_validate(asked))
    assert (error.code, error.errors[0].pointer) == ("sparsity_out_of_reach", "/pruning/target/max_drop")
    assert "cannot remove any of this model's FLOPs" in error.detail
    check_feasible(SHAPE, DENSE, Pruning.model_validate({**asked, "min_heads": HEADS - 1}))
    # More than there are is what was got wrong, and not the bound.
    assert refused(Pruning.model_validate({**asked, "min_heads": HEADS + 1})).errors[0].pointer == "/pruning/min_heads"


def test_the_smallest_latency_needs_layers_that_are_alike() -> None:
    spec = Pruning.model_validate({"preset": "paper", "target": {"max_drop": 0.01, "of": "latency"}})
    uneven = AttentionWidths.of(WIDTH, [((16, 3), (1, 9)), *[((16,) * 4, (16,) * 4)] * 3])
    with pytest.raises(SecateurError) as caught:
        check_feasible(SHAPE, uneven, spec)
    assert caught.value.errors[0].pointer == "/pruning/target/of"
