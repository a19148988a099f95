"""Heads and channels in one ranking, against a slow reference that looks at everything anew before every decision."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.enums import Granularity, Normalization
from api_schemas.results.widths import AttentionWidths
from checkpoints.planning.feasibility import WITH_HEADS
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from tests.unit.engine.pruning.selection.selecting import (
    DENSE,
    HEADS,
    KINDS,
    LAYERS,
    SHAPE,
    WIDTH,
    drawn_scores,
    pruning,
    specs,
)
from worker.engine.pruning.selection import KeptHead, KeptHeads, keep_all, select, widths_of
from worker.engine.scoring.channels import LayerScores, NormScores, SignedScores

SIDES = ("qk", "vo")
PARAMETERS = {
    "qk": accounting.qk_channel_parameters(SHAPE.attention[0]),
    "vo": accounting.vo_channel_parameters(SHAPE.attention[0]),
}


class Slow:
    """The definition, step by step: of all structures that may go and bring the budget nearer, the least per parameter."""

    def __init__(self, scores: list[LayerScores], spec, share: float) -> None:
        self.scores, self.spec = scores, spec
        self.even = spec.granularity is Granularity.HEAD_AND_WIDTH
        self.unit = CostUnit.of(SHAPE, spec.target.kind)
        self.left = {
            (number, head): {side: set(range(WIDTH)) for side in SIDES}
            for number in range(LAYERS) if number not in spec.exclude_layers for head in range(HEADS)
        }  # fmt: skip
        self.gap = share * self.unit.total
        while self.step(patient=True):
            pass
        while self.step(patient=False):
            pass

    def candidates(self):
        for (number, head), left in self.left.items():
            scores = self.scores[number]
            if sum(layer == number for layer, _ in self.left) > self.spec.min_heads:
                parameters = sum(PARAMETERS[side] * len(left[side]) for side in SIDES)
                sides = [scores.of(side, [(head, c) for c in sorted(left[side])]) for side in SIDES]
                cost = sum(self.unit.cost(0, side) * len(left[side]) for side in SIDES)
                yield scores.per_parameter(scores.head_of(*sides), parameters), "head", number, head, [], cost
        for number, heads in self.together():
            for side in SIDES:
                if len(self.left[number, heads[0]][side]) > self.spec.min_channels:
                    least = [(head, self.least(number, head, side)) for head in heads]
                    densities = [
                        self.scores[number].per_parameter(
                            float(self.scores[number].side(side)[head][c]), PARAMETERS[side]
                        )
                        for head, c in least
                    ]
                    cost = self.unit.cost(0, side) * len(heads)
                    yield sum(densities) / len(heads), side, number, -1 if self.even else heads[0], least, cost

    def together(self):
        """Layers with the heads whose channels go together."""
        for number in sorted({number for number, _ in self.left}):
            heads = [head for layer, head in self.left if layer == number]
            yield from ((number, some) for some in ([heads] if self.even else [[head] for head in heads]))

    def least(self, number: int, head: int, side: str) -> int:
        vector = self.scores[number].side(side)[head]
        return min(self.left[number, head][side], key=lambda c: (float(vector[c]), c))

    def step(self, *, patient: bool) -> bool:
        small = min(self.unit.qk[0], self.unit.vo[0]) / 2
        alive = {number: sum(layer == number for layer, _ in self.left) if self.even else 1 for number in range(LAYERS)}
        fitting = [
            candidate for candidate in self.candidates()
            if candidate[-1] < 2 * self.gap
            and not (patient and candidate[1] == "head" and candidate[-1] > self.gap + small * alive[candidate[2]])
        ]  # fmt: skip
        if not fitting:
            return False
        _, kind, number, head, channels, cost = min(fitting)
        self.gap -= cost
        if kind == "head":
            del self.left[number, head]
        else:
            for one, channel in channels:
                self.left[number, one][kind].remove(channel)
        return True

    def keep(self) -> KeptHeads:
        whole = keep_all(DENSE)
        return tuple(
            whole[number] if number in self.spec.exclude_layers else tuple(
                KeptHead(head, *(tuple(sorted(self.left[number, head][side])) for side in SIDES))
                for head in range(HEADS) if (number, head) in self.left
            )
            for number in range(LAYERS)
        )  # fmt: skip


FIXED = {"scope": "global", "balance": "joint", "align": 1,
         "normalization": Normalization.NONE, "basis": "native"}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    spec=st.sampled_from(WITH_HEADS).flatmap(lambda granularity: specs(granularity=granularity, **FIXED)),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
)
def test_it_decides_as_the_definition_says(spec, seed, kind):
    scores, share = drawn_scores(seed=seed, kind=kind), spec.target.share
    assert select(scores, DENSE, SHAPE, spec, share=share) == Slow(scores, spec, share).keep()


def weakened(scores: LayerScores, head: int, factor: float) -> LayerScores:
    def side(vectors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(vector * factor if h == head else vector for h, vector in enumerate(vectors))

    return LayerScores(side(scores.qk), side(scores.vo))


def test_a_weak_head_goes_whole_and_the_rest_is_cut_by_channel():
    """By hand: the weak head is a ninth of the attention; a quarter is asked for, and no other head is as weak throughout."""
    scores = drawn_scores()
    scores[1] = weakened(scores[1], 2, 1e-9)
    keep = select(scores, DENSE, SHAPE, pruning(granularity="head_and_channel"), share=0.25)
    assert [[head.head for head in layer] for layer in keep] == [[0, 1, 2], [0, 1], [0, 1, 2]]
    assert any(len(head.qk) < WIDTH for layer in keep for head in layer)


@pytest.mark.parametrize("granularity", WITH_HEADS)
def test_the_last_heads_of_a_layer_stay(granularity):
    scores = drawn_scores()
    for head in range(HEADS):
        scores[1] = weakened(scores[1], head, 1e-9)
    for kept in (0, 1, 2):
        spec = pruning(granularity=granularity, min_heads=kept, min_channels=2)
        keep = select(scores, DENSE, SHAPE, spec, share=1 / LAYERS)
        assert len(keep[1]) == kept
        assert all((len(head.qk), len(head.vo)) == (2, 2) for head in keep[1])


@pytest.mark.parametrize("kind", [LayerScores, NormScores])
def test_where_sets_add_up_a_head_does_not_win_by_its_size(kind):
    """No head is cheaper a parameter than its cheapest channels, so far from the end only channels go."""
    scores = drawn_scores(kind=kind)
    ragged = select(scores, DENSE, SHAPE, pruning(granularity="ragged", normalization="parameters"), share=0.3)
    assert select(scores, DENSE, SHAPE, pruning(granularity="head_and_channel"), share=0.3) == ragged


def test_a_head_whose_channels_cancel_goes_whole():
    """By hand: each channel of head 1 matters more than any elsewhere, together they move nothing."""
    vectors, signed = torch.full((HEADS, WIDTH), 1.0), torch.full((HEADS, WIDTH), 1.0)
    vectors[1], signed[1] = 5.0, 5.0
    signed[1, ::2] = -5.0
    first = SignedScores(tuple(vectors.double()), tuple(vectors.double()), *2 * [signed.double().flatten()])
    others = [LayerScores(tuple(vectors), tuple(vectors)) for _ in range(LAYERS - 1)]
    keep = select([first, *others], DENSE, SHAPE, pruning(granularity="head_and_channel"), share=1 / (LAYERS * HEADS))
    assert [[head.head for head in layer] for layer in keep] == [[0, 2], [0, 1, 2], [0, 1, 2]]


def test_both_sides_give_the_same_share_where_balanced():
    for share, seed in itertools.product((0.2, 0.5, 0.8), range(3)):
        scores = [LayerScores(s.qk, tuple(v * 1e-3 for v in s.vo)) for s in drawn_scores(seed=seed)]
        keep = select(scores, DENSE, SHAPE, pruning(granularity="head_and_channel", balance="equal"), share=share)
        kept = [sum(len(getattr(head, side)) for layer in keep for head in layer) for side in SIDES]
        assert abs(kept[0] - kept[1]) <= 1


@pytest.mark.parametrize("align", [1, 8])
def test_the_heads_of_a_layer_keep_one_width(align):
    """However uneven their scores; what weak heads there are go whole, and the budget is met to half of a structure."""
    for seed, share in itertools.product(range(4), (0.3, 0.6, 0.9)):
        scores = [weakened(scores, seed % HEADS, 1e-3) for scores in drawn_scores(seed=seed)]
        keep = select(
            scores, DENSE, SHAPE, pruning(granularity="head_and_width", align=align, min_heads=0), share=share
        )
        for layer in keep:
            assert len({(len(head.qk), len(head.vo)) for head in layer}) <= 1
            assert all(len(head.qk) % align == 0 == len(head.vo) % align for head in layer)
        assert any(len(layer) < HEADS for layer in keep)
        gone = accounting.attention_sparsity(SHAPE, widths_of(keep, DENSE))
        structure = align * HEADS * max(PARAMETERS.values()) / accounting.attention_parameters(SHAPE, DENSE)
        assert abs(gone - share) <= structure / 2


def test_heads_that_differ_already_go_on_by_channel():
    """An earlier job left a layer uneven: it is cut as by head_and_channel, the others stay even."""
    uneven = AttentionWidths.of(WIDTH, [([16, 16, 8], [16, 16, 16]), ([16] * 3, [16] * 3), ([12] * 3, [8] * 3)])
    for seed in range(4):
        keep = select(drawn_scores(uneven, seed), uneven, SHAPE, pruning(granularity="head_and_width"), share=0.5)
        assert len({(len(head.qk), len(head.vo)) for head in keep[0]}) == len(keep[0]) > 1
        assert all(len({(len(head.qk), len(head.vo)) for head in layer}) == 1 for layer in keep[1:])
