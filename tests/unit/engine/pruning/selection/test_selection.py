"""Selection: the target is met within one structure, the lowest scores go, the limits hold."""

import itertools

import pytest
import torch

from api_schemas.enums import Balance, Granularity, Layout, Scope
from api_schemas.errors import SecateurError
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import check_feasible, max_sparsity
from checkpoints.planning.schedule import step_targets
from checkpoints.sizes import accounting
from checkpoints.sizes.accounting import qk_channel_parameters, vo_channel_parameters
from checkpoints.sizes.cost_unit import CostUnit
from tests.unit.engine.small import HEAD_DIM, HEADS, HIDDEN, LAYERS, small_shape
from worker.engine.pruning.selection import compose, keep_all, select, widths_of
from worker.engine.pruning.structures import structures
from worker.engine.scoring.channels import LayerScores

DENSE = AttentionWidths.dense(LAYERS, HEADS, HEAD_DIM)
SHAPE = small_shape()
QK, VO = (count(SHAPE.attention[0]) for count in (qk_channel_parameters, vo_channel_parameters))
ATTENTION = accounting.attention_parameters(SHAPE, DENSE)


def pruning(sparsity=0.5, **changes) -> Pruning:
    return Pruning.model_validate({"preset": "paper", "target": {"attention_sparsity": sparsity}, **changes})


def scores(widths=DENSE, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(sizes):
        return tuple(torch.rand(size, generator=generator, dtype=torch.float64) for size in sizes)

    return tuple(LayerScores(draw(layer.qk), draw(layer.vo)) for layer in widths.layers)


def structure_share(spec: Pruning) -> float:
    """One structure's share of the attention parameters, or one a layer with a local scope."""
    per_channel = max(QK, VO)
    if spec.granularity is Granularity.ENTIRE_HEAD:
        one = HEAD_DIM * (QK + VO)
    else:
        one = HEADS * per_channel * (2 if spec.layout is Layout.STOCK else 1)
    everywhere = spec.scope is Scope.LOCAL or spec.layout is Layout.STOCK
    return one * (LAYERS if everywhere else 1) / ATTENTION


PLAIN = (Granularity.ENTIRE_HEAD, Granularity.SAME_CHANNEL, Granularity.PER_HEAD)
"""The granularities that leave the heads of a layer equally wide."""


@pytest.mark.parametrize(
    ("granularity", "scope", "balance", "layout"), list(itertools.product(PLAIN, Scope, Balance, Layout))
)
@pytest.mark.parametrize("sparsity", [0.1, 0.35, 0.5, 0.7])
def test_reaches_the_target_within_one_structure(granularity, scope, balance, layout, sparsity):
    spec = pruning(sparsity, granularity=granularity, scope=scope, balance=balance, layout=layout)
    keep = select(scores(), DENSE, SHAPE, spec, share=sparsity)
    achieved = accounting.attention_sparsity(SHAPE, widths_of(keep, DENSE))
    assert abs(achieved - sparsity) <= structure_share(spec)


@pytest.mark.parametrize(("granularity", "scope"), list(itertools.product(Granularity, Scope)))
def test_three_rounds_end_where_one_would_count_from_the_original(granularity, scope):
    spec = pruning(0.6, granularity=granularity, scope=scope)
    widths, kept = DENSE, keep_all(DENSE)
    for number, sparsity in enumerate((0.2, 0.4, 0.6)):
        keep = select(scores(widths, number), widths, SHAPE, spec, share=sparsity)
        widths, kept = widths_of(keep, widths), compose(kept, keep)
    assert abs(accounting.attention_sparsity(SHAPE, widths) - 0.6) <= structure_share(spec)
    assert widths_of(kept, DENSE) == widths
    for layer in kept:
        for head in layer:
            assert set(head.qk) <= set(range(HEAD_DIM))
            assert list(head.qk) == sorted(set(head.qk))


@pytest.mark.parametrize("balance", Balance)
@pytest.mark.parametrize("granularity", [Granularity.SAME_CHANNEL, Granularity.PER_HEAD])
def test_equal_balance_takes_equal_shares(granularity, balance):
    spec = pruning(granularity=granularity, balance=balance)
    cheap_vo = tuple(LayerScores(s.qk, tuple(v * 1e-3 for v in s.vo)) for s in scores())
    keep = select(cheap_vo, DENSE, SHAPE, spec, share=0.5)
    qk = sum(layer.qk_total for layer in widths_of(keep, DENSE).layers)
    vo = sum(layer.vo_total for layer in widths_of(keep, DENSE).layers)
    if balance is Balance.EQUAL:
        assert abs(qk - vo) <= HEADS
    else:
        assert vo == LAYERS * HEADS  # all but the one channel that must stay
        assert qk > vo * 4


def test_whole_heads_go_in_the_order_of_their_scores():
    """By hand: head 2 of layer 1 and head 0 of layer 2 are the worst two of twelve."""
    table = [[5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 1.0, 11.0], [2.0, 12.0, 13.0, 14.0]]
    by_hand = tuple(
        LayerScores(
            tuple(torch.full((HEAD_DIM,), s, dtype=torch.float64) for s in row),
            tuple(torch.zeros(HEAD_DIM, dtype=torch.float64) for _ in row),
        )
        for row in table
    )
    keep = select(by_hand, DENSE, SHAPE, pruning(2 / 12), share=2 / 12)
    assert [[head.head for head in layer] for layer in keep] == [[0, 1, 2, 3], [0, 1, 3], [1, 2, 3]]


def test_per_head_takes_each_heads_own_worst_channel():
    by_hand = []
    for _ in range(LAYERS):
        qk = [torch.arange(HEAD_DIM, dtype=torch.float64).roll(h) + 1 for h in range(HEADS)]
        vo = [torch.full((HEAD_DIM,), 100.0, dtype=torch.float64) for _ in range(HEADS)]
        by_hand.append(LayerScores(tuple(qk), tuple(vo)))
    one_slice = LAYERS * HEADS * QK / ATTENTION
    spec = pruning(one_slice, granularity="per_head", scope="local")
    keep = select(by_hand, DENSE, SHAPE, spec, share=one_slice)
    for layer in keep:
        assert [set(range(HEAD_DIM)) - set(head.qk) for head in layer] == [{0}, {1}, {2}, {3}]
        assert all(len(head.vo) == HEAD_DIM for head in layer)


def test_same_channel_takes_one_index_from_every_head():
    keep = select(scores(), DENSE, SHAPE, pruning(granularity="same_channel"), share=0.5)
    for layer in keep:
        assert len({head.qk for head in layer}) == 1
        assert len({head.vo for head in layer}) == 1


@pytest.mark.parametrize("granularity", Granularity)
def test_limits_hold_at_the_most_that_can_go(granularity):
    spec = pruning(0.5, granularity=granularity, min_heads=2, min_channels=3)
    most = max_sparsity(SHAPE, DENSE, granularity, 2, 3)
    keep = select(scores(), DENSE, SHAPE, spec, share=most)
    widths = widths_of(keep, DENSE)
    assert accounting.attention_sparsity(SHAPE, widths) == pytest.approx(most)
    assert all(layer.heads >= 2 for layer in widths.layers)
    assert all(min(*layer.qk, *layer.vo) >= 3 for layer in widths.layers)


def test_out_of_reach_is_refused_with_the_maximum():
    nominal = 1 - 1 / HEADS
    check_feasible(SHAPE, DENSE, pruning(nominal))
    with pytest.raises(SecateurError) as caught:
        check_feasible(SHAPE, DENSE, pruning(nominal + 0.01))
    assert caught.value.code == "sparsity_out_of_reach"
    biases = LAYERS * HIDDEN
    maximum = nominal * (ATTENTION - biases) / ATTENTION
    assert f"{maximum:.4f}" in caught.value.detail


@pytest.mark.parametrize("scope", Scope)
def test_a_target_nearer_to_nothing_than_to_the_smallest_cut_is_refused(scope):
    least = structure_share(pruning(scope=scope))
    check_feasible(SHAPE, DENSE, pruning(0.51 * least, scope=scope))
    with pytest.raises(SecateurError, match=f"{least:.4f}") as caught:
        check_feasible(SHAPE, DENSE, pruning(0.49 * least, scope=scope))
    assert caught.value.code == "sparsity_out_of_reach"
    with pytest.raises(SecateurError):
        check_feasible(SHAPE, DENSE, pruning(1e-300, scope=scope))


def test_the_papers_schedule_is_ten_percent_a_step():
    targets = step_targets(SHAPE, DENSE, pruning(0.5, granularity="per_head"))
    assert targets == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5))
    assert pruning(0.3).steps == 3
    assert pruning(0.7).steps == 7
    assert pruning(0.55).steps == 6


def test_steps_that_would_cut_nothing_are_left_out():
    """One head a layer of four is 25%: of five 10% steps only those that reach another head remain."""
    targets = step_targets(SHAPE, DENSE, pruning(0.5, scope="local"))
    assert len(targets) == 2
    assert targets[-1] == 0.5


@pytest.mark.parametrize(
    ("granularity", "reason"),
    [
        (Granularity.SAME_CHANNEL, "equal width"),
        (Granularity.PER_HEAD, "equal width"),
        (Granularity.HEAD_AND_CHANNEL, "fixed order"),
    ],
)
def test_structures_that_a_layer_does_not_have(granularity, reason):
    uneven = AttentionWidths.of(HEAD_DIM, [((4, 2), (4, 4))] * LAYERS)
    spec = pruning(granularity=granularity)
    with pytest.raises(ValueError, match=reason):
        structures(uneven, scores(uneven), SHAPE, CostUnit.of(SHAPE, spec.target.kind), spec, range(LAYERS))
