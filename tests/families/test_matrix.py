"""Every cell passes, or is refused with a code and what works instead. In the gate: cells in which every two choices meet.

To pass is: the target is met within one structure, the smaller model says what the masked dense model says (in the principal
basis: the rotated one), and it says something else than the whole model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from api_schemas.enums import Basis, Granularity, LabelSource, Part, Split
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning, Target
from benchmarks.families import reference
from tests.families.cells import REFUSED, Cell, cells, in_gate
from tests.families.folders import CPU, UNTAUGHT, Ready, data_folder, model_folder, ready
from tests.support.gate import WHOLE
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data import FeatureSplit
from worker.engine.data.split import Inputs
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning.cutting import Cutting
from worker.engine.runtime.progress import Reporter
from worker.engine.scoring import Observations, Statistic

ANSWERED = 3
"""Samples of validation on which the two models are compared."""
CELLS = list(cells()) if WHOLE else in_gate(list(cells()))


@dataclass(frozen=True)
class Remembering(Cutting):
    """Gathers everything at the first pass and remembers it: cells differ in what they make of it."""

    seen: dict[tuple[LabelSource, bool], Observations] = field(default_factory=dict)
    original: nn.Module | None = None

    def _observe(
        self, loaded: LoadedModel, samples: FeatureSplit, _wants: frozenset[Statistic], step: int
    ) -> Observations:
        calibration = self.spec.pruning.calibration
        if self.task.head in UNTAUGHT:
            # No data labels: cells that ask for them read none, and see what the others see.
            calibration = calibration.model_copy(update={"labels": LabelSource.MODEL})
        # A rotated model is the same whatever it is rotated for: the basis is of the inputs alone.
        key = calibration.labels, loaded.model is self.original
        if key not in self.seen:
            both = self.spec.pruning.model_copy(
                update={"target": Target(parameters=0.1), "parts": tuple(Part), "calibration": calibration}
            )
            of_both = replace(self, spec=self.spec.model_copy(update={"pruning": both}))
            self.seen[key] = Cutting._observe(of_both, loaded, samples, frozenset(Statistic), step)
        return self.seen[key]


@dataclass(frozen=True)
class Bench:
    """One class, and what its cells share."""

    ready: Ready
    stock: PreTrainedModel
    inputs: Inputs
    whole: Tensor
    seen: dict[tuple[LabelSource, bool], Observations] = field(default_factory=dict)

    def cutting(self, pruning: Pruning) -> Cutting:
        found, spec = self.ready, EngineSpec(pruning=pruning, finetune=None)
        reporter = Reporter(lambda _event: None, 1, {})
        return Remembering(
            spec, found.described, found.prepared, found.task, CPU, reporter, seen=self.seen, original=found.loaded.model
        )  # fmt: skip


@lru_cache(maxsize=2)
def bench(name: str) -> Bench:
    torch.set_num_threads(1)
    model, data = model_folder(name), data_folder(name)
    found = ready(model, data, Path(mkdtemp(prefix="matrix-")))
    stock = getattr(transformers, name).from_pretrained(model).eval()
    validation = found.prepared.splits[Split.VALIDATION]
    inputs, _ = validation.batch(validation.batches(ANSWERED)[0])
    with torch.inference_mode():
        return Bench(found, stock, inputs, reference.answer(stock, inputs))


def counted(loaded: LoadedModel, parts: Sequence[Part]) -> int:
    """Parameters that a target counts: of q, k, v and o, of both maps, or all there are."""
    if len(parts) == len(Part):
        return sum(parameter.numel() for parameter in loaded.model.parameters())
    maps: list[nn.Module] = []
    if parts == (Part.ATTENTION,):
        for block in attention_blocks(loaded.model, loaded.model_spec, loaded.widths):
            maps += block.projections.values()
    else:
        for pair in feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths):
            maps += pair.maps
    return sum(parameter.numel() for each in maps for parameter in each.parameters())


def largest_structure(found: Ready, cell: Cell) -> int:
    """Parameters of the largest that goes as one."""
    sizes = []
    for site in found.described.shape.attention if Part.ATTENTION in cell.parts else ():
        channel = 2 * site.hidden + 2  # two rows of a side with their biases, or a row and a column
        together = 2 if site.rotary else 1
        head = 2 * site.head_dim * channel + site.head_parameters
        sizes.append({
            Granularity.ENTIRE_HEAD: head, Granularity.HEAD_AND_CHANNEL: head, Granularity.RAGGED: together * channel,
            Granularity.SAME_CHANNEL: site.heads * together * channel,
            Granularity.PER_HEAD: site.heads * together * channel,
            Granularity.HEAD_AND_WIDTH: max(head, site.heads * together * channel),
        }[cell.granularity])  # fmt: skip
    for pair in found.described.shape.feed_forward if Part.FEED_FORWARD in cell.parts else ():
        sizes.append((2 + pair.gated) * (pair.hidden + 1))
    return max(sizes)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_cell(cell: Cell) -> None:
    at = bench(cell.name)
    found, kind = at.ready, at.ready.loaded.model_spec
    expected = REFUSED.get((found.described.architecture.head, cell.criterion, cell.labels))
    refusal = cell.refusal(found.described)
    assert (refusal is None) == (expected is None), refusal
    if refusal is not None and expected is not None:
        assert refusal.code is expected.code
        assert expected.instead in refusal.instead
        return

    pruning = cell.accepted(found.described)
    cutting = at.cutting(pruning)
    scored = cutting.score(found.loaded, 1)
    smaller, kept = cutting.prune(scored, pruning.target.share)

    before, after = (counted(loaded, cell.parts) for loaded in (found.loaded, smaller))
    assert abs(before - after - pruning.target.share * before) <= largest_structure(found, cell)
    turned = cell.basis is Basis.PRINCIPAL and Part.ATTENTION in cell.parts
    with torch.inference_mode():
        answers = reference.answer(smaller.model, at.inputs)
        with reference.masked(kind, scored.loaded.model if turned else at.stock, kept) as dense:
            masked = reference.answer(dense, at.inputs)
    assert torch.isfinite(answers).all()
    reference.assert_near(answers, masked)
    assert (answers - at.whole).abs().max() > 1e-3, "what was cut is not heard"
