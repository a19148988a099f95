"""What a spec may ask of a model by what the model answers with: judged when a job is submitted, and again by the engine."""

from collections.abc import Sequence

from api_schemas.enums import Criterion, ExportFormat, Head, LabelSource
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.pruning import Pruning

WITHOUT_LOSS = frozenset({Criterion.MAGNITUDE, Criterion.ENERGY, Criterion.RANDOM})
"""Criteria that look at no loss, and so at no label."""


def check_labels(head: Head, pruning: Pruning) -> None:
    """Raises INVALID_REQUEST where a criterion asks for labels of the data and the model has none."""
    if head is not Head.EMBEDDING or pruning.criterion in WITHOUT_LOSS:
        return
    if pruning.calibration.labels is LabelSource.DATA:
        others = ", ".join(sorted(WITHOUT_LOSS))
        detail = (
            f"This model gives embeddings, for which data has no labels, and {pruning.criterion.value} is computed from a loss. "
            f"Set pruning.calibration.labels to model, or take a criterion that needs no loss: {others}."
        )
        raise _refused(ErrorCode.INVALID_REQUEST, "/pruning/calibration/labels", detail)


def check_exports(head: Head, formats: Sequence[ExportFormat]) -> None:
    """Raises EXPORT_UNAVAILABLE where the model cannot be exported as a single graph."""
    if head is Head.SEQUENCE_TO_SEQUENCE and formats:
        detail = (
            "This model writes its answer token by token, each from those before: encoder, decoder and their loop are no "
            "single graph, and Secateur exports single graphs only. Leave `exports` out; the checkpoint itself is unaffected."
        )
        raise _refused(ErrorCode.EXPORT_UNAVAILABLE, "/exports", detail)


def _refused(code: ErrorCode, pointer: str, detail: str) -> SecateurError:
    return SecateurError(code, detail, (ErrorItem(pointer=pointer, code=code, detail=detail),))
