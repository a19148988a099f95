"""The cells of the matrix: every class of every family × what is cut × granularity × criterion × basis, and who refuses which.

And those of them that the gate has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from api_schemas.enums import Basis, Criterion, Granularity, Head, LabelSource, Part
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import Checkpoint
from checkpoints.families import FAMILIES
from checkpoints.planning.feasibility import check_feasible, max_share
from checkpoints.task_rules import WITHOUT_LOSS, check_labels, check_layout
from tests.families.folders import ARCHITECTURES, UNTAUGHT
from tests.support.families import ALIKE, LEFT_TO_WHOLE
from tests.support.gate import covering

SHARE = 0.4
"""Of the most that can be removed."""
SAMPLES = 8


class Refusal(NamedTuple):
    """The code, and the words in which the refusal says what works."""

    code: ErrorCode
    instead: str


NO_LABELS = "pruning.calibration.labels to model, or use a criterion that needs no loss: energy, magnitude, random"
REFUSED: dict[tuple[Head, Criterion, LabelSource], Refusal] = {
    **{
        (head, criterion, LabelSource.DATA): Refusal(ErrorCode.INVALID_REQUEST, f"Set {NO_LABELS}")
        for head in UNTAUGHT
        for criterion in Criterion
        if criterion not in WITHOUT_LOSS
    },
    **{
        (head, Criterion.TAYLOR, LabelSource.DATA): Refusal(
            ErrorCode.INVALID_REQUEST, f"Use fisher_gate and set {NO_LABELS}"
        )
        for head in UNTAUGHT
    },
    **{
        (head, Criterion.TAYLOR, LabelSource.MODEL): Refusal(
            ErrorCode.INVALID_REQUEST, "set labels to data, or use fisher_gate"
        )
        for head in Head
    },
}
"""Every cell that is refused, whatever else it asks for; all others pass."""
IN_WHOLE = frozenset(
    name
    for family in FAMILIES
    for name, made in family.architectures.items()
    if family.name in ALIKE
    or name in LEFT_TO_WHOLE
    or (family.name == "modernbert" and made.head is not Head.CLASSIFICATION)
    or made.head in (Head.HIDDEN_STATES, Head.MASKED_LM, Head.QUESTION_ANSWERING)
) - {"ViTModel", "Wav2Vec2ForPreTraining", "BertForMaskedLM", "BertForQuestionAnswering"}
"""Not in the gate: their blocks are those of other classes of their families, and their answers those of the four."""
HEADS = {name: made.head for family in FAMILIES for name, made in family.architectures.items()}


@dataclass(frozen=True)
class Cell:
    """One job's choice, and the class it is asked of."""

    name: str
    parts: tuple[Part, ...]
    granularity: Granularity
    criterion: Criterion
    basis: Basis
    labels: LabelSource

    @property
    def id(self) -> str:
        parts = "+".join(self.parts)
        return f"{self.name}-{parts}-{self.granularity}-{self.criterion}-{self.basis}-{self.labels}"

    @property
    def factors(self) -> tuple[object, ...]:
        """What is chosen, by place."""
        return self.name, self.parts, self.granularity, self.criterion, self.basis, self.labels

    @property
    def refused(self) -> bool:
        """Whether the table says so."""
        return (HEADS[self.name], self.criterion, self.labels) in REFUSED

    def spec(self, share: float) -> dict[str, Any]:
        """What a request says under `pruning`."""
        target = {
            (Part.ATTENTION,): {"attention_sparsity": share},
            (Part.FEED_FORWARD,): {"ffn_sparsity": share},
            (Part.ATTENTION, Part.FEED_FORWARD): {"parameters": share},
        }[self.parts]
        return {
            "preset": "paper",
            "target": target,
            "parts": list(self.parts),
            "granularity": self.granularity,
            "criterion": self.criterion,
            "basis": self.basis,
            "min_heads": 0,
            "schedule": {"steps": 1},
            "calibration": {"split": "train", "samples": SAMPLES, "labels": self.labels},
        }

    def accepted(self, described: Checkpoint) -> Pruning:
        """The job's `pruning`, judged as at submission. Raises SecateurError, or ValidationError where it contradicts itself."""
        within = Pruning.model_validate(self.spec(0.5))
        check_labels(described.architecture.head, within)
        check_layout(described.family, within)
        most = max_share(described.shape, described.widths, within)
        pruning = Pruning.model_validate(self.spec(SHARE * most))
        check_feasible(described.shape, described.widths, pruning)
        return pruning

    def refusal(self, described: Checkpoint) -> Refusal | None:
        """What submission says against it, in full."""
        try:
            self.accepted(described)
        except ValidationError as error:
            return Refusal(ErrorCode.INVALID_REQUEST, str(error))
        except SecateurError as error:
            return Refusal(error.code, error.detail)
        return None


def _choices() -> Iterator[tuple[tuple[Part, ...], Granularity, Criterion, Basis]]:
    attention, both = (Part.ATTENTION,), (Part.ATTENTION, Part.FEED_FORWARD)
    for criterion in Criterion:
        # Neurons are neurons, whatever the granularity of heads and their basis.
        yield (Part.FEED_FORWARD,), Granularity.PER_HEAD, criterion, Basis.NATIVE
        for parts in (attention, both):
            for granularity in Granularity:
                for basis in Basis:
                    yield parts, granularity, criterion, basis


def cells() -> Iterator[Cell]:
    """All of them, class by class. The model's own labels where a criterion reads labels at all."""
    for name in ARCHITECTURES:
        for parts, granularity, criterion, basis in _choices():
            for labels in LabelSource:
                if labels is LabelSource.DATA or criterion not in WITHOUT_LOSS:
                    yield Cell(name, parts, granularity, criterion, basis, labels)


def in_gate(rows: Sequence[Cell]) -> list[Cell]:
    """Those in which every two choices meet that can: among cells that pass, and among cells that are refused."""
    rows = [cell for cell in rows if cell.name not in IN_WHOLE]
    return [cell for refused in (False, True) for cell in covering([c for c in rows if c.refused == refused], _factors)]


def _factors(cell: Cell) -> tuple[object, ...]:
    return cell.factors
