"""What a spec leaves to the model: the criterion, and widths in multiples of 8 where the model and the target allow it."""

import pytest

from api_schemas.enums import Criterion, Head
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import EngineSpec
from checkpoints.planning.settled import settled
from checkpoints.sizes.shape import ModelShape
from tests.support.checkpoints.shapes import equal_shape


def shape_of(width: int, heads: int = 6, layers: int = 6) -> ModelShape:
    return equal_shape(layers, heads, width, width * heads, tokens=50, other_parameters=10_000, other_flops=10**6)


def align_of(shape: ModelShape, widths: AttentionWidths | None = None, **asked: object) -> int | None:
    spec = EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}, **asked}})
    return settled(spec, shape, widths or shape.dense, Head.CLASSIFICATION).pruning.align


@pytest.mark.parametrize(
    ("width", "asked", "align"),
    [
        (64, {}, 8),
        (32, {}, 4),
        (64, {"target": {"flops": 0.2}}, 8),
        (64, {"target": {"latency": 0.2}}, 8),
        (32, {"align": 1}, 1),
        (16, {"align": 8}, 8),
        (64, {"granularity": "per_head"}, 1),
        (68, {}, 4),  # no multiple of 8
        (66, {}, 1),
        (28, {}, 1),  # seven blocks of 4
        (64, {"target": {"attention_sparsity": 0.04}}, 4),  # two structures of 8
        (64, {"target": {"attention_sparsity": 0.75}}, 8),
        (64, {"target": {"attention_sparsity": 0.85}}, 1),
        (32, {"schedule": {"steps": 20}}, 1),  # as few a step
        (64, {"target": {"max_drop": 0.01}}, 8),  # how much will go nobody knows
        (32, {"target": {"max_drop": 0.01, "of": "latency"}}, 4),
        (66, {"target": {"max_drop": 0.01}}, 1),
        (32, {"min_channels": 33}, 1),  # not feasible either way: refused in the words of what was asked
    ],
)
def test_fast_widths_where_they_leave_a_choice(width: int, asked: dict[str, object], align: int) -> None:
    assert align_of(shape_of(width), **asked) == align


def test_a_model_that_was_cut_to_other_widths_goes_on_in_ones() -> None:
    shape = shape_of(32)
    cut = AttentionWidths.of(32, [([13] * 6, [18] * 6)] * 6)
    assert align_of(shape, cut) == 1


@pytest.mark.parametrize("head", list(Head))
@pytest.mark.parametrize("asked", [{}, {"criterion": None}, {"criterion": "magnitude"}, {"preset": "paper"}], ids=str)
def test_a_model_that_writes_text_is_scored_by_energies(head: Head, asked: dict[str, object]) -> None:
    shape = shape_of(64)
    spec = EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}, **asked}})
    found = settled(spec, shape, shape.dense, head)
    mine = Criterion.FISHER_ENERGY if head is Head.SEQUENCE_TO_SEQUENCE else Criterion.FISHER_GATE
    own = {"magnitude": Criterion.MAGNITUDE, "paper": Criterion.FISHER}
    assert found.pruning.criterion is found.pruning.scored_by is own.get(str(next(iter(asked.values()), None)), mine)
    assert found.pruning.align is not None
    assert settled(found, shape, shape.dense, head) == found
