"""What a spec may ask of a model, by its family and task: checked at submission, and again by the engine."""

from collections.abc import Callable, Mapping, Sequence

from api_schemas.enums import Criterion, ExportFormat, Head, LabelSource, Layout, Part
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.pruning import Pruning
from checkpoints.families import ALL_FAMILIES, Family

WITHOUT_LOSS = frozenset({Criterion.MAGNITUDE, Criterion.ENERGY, Criterion.RANDOM})
"""Criteria that look at no loss, and so at no label."""
GRAPHS = frozenset({ExportFormat.ONNX, ExportFormat.ONNX_INT8})
"""Formats that are a graph, which not every model is."""
WITHOUT_LABELS: Mapping[Head, str] = {Head.EMBEDDING: "embeddings", Head.HIDDEN_STATES: "hidden states"}
"""Heads that are judged by the original's answers, and what these are: there the loss is zero, and so is its gradient."""


def check_labels(head: Head, pruning: Pruning) -> None:
    """Raises INVALID_REQUEST where a criterion asks for labels of the data and the model has none."""
    if head not in WITHOUT_LABELS or pruning.scored_by in WITHOUT_LOSS:
        return
    if pruning.calibration.labels is LabelSource.DATA:
        others = ", ".join(sorted(WITHOUT_LOSS))
        # A mean gradient is zero over the model's own labels, so they would be refused next.
        instead = "Use fisher_gate and set" if pruning.scored_by is Criterion.TAYLOR else "Set"
        detail = (
            f"This model outputs {WITHOUT_LABELS[head]}, for which the data has no labels, but "
            f"{pruning.scored_by.value} is computed from a loss. {instead} pruning.calibration.labels to model, or "
            f"use a criterion that needs no loss: {others}."
        )
        raise _refused(ErrorCode.INVALID_REQUEST, "/pruning/calibration/labels", detail)


def check_exports(family: Family, head: Head, formats: Sequence[ExportFormat]) -> None:
    """Raises EXPORT_UNAVAILABLE where the model cannot be exported as a single graph, or not checked in a single pass."""
    if family.no_export and GRAPHS & set(formats):
        detail = f"{family.no_export} Leave out `exports`; the checkpoint itself is not affected."
        raise _refused(ErrorCode.EXPORT_UNAVAILABLE, "/exports", detail)
    if family.no_torchao and set(formats) - GRAPHS:
        instead = "Leave out" if family.no_export else "Use onnx_int8 for eight bits, or leave out"
        detail = f"{family.no_torchao} {instead} `exports`."
        raise _refused(ErrorCode.EXPORT_UNAVAILABLE, "/exports", detail)
    if head is Head.SEQUENCE_TO_SEQUENCE and formats:
        detail = (
            "This model generates its answer token by token, so encoder, decoder and loop are not a single graph, "
            "and Secateur only exports models that answer in one pass. Leave out `exports`; the checkpoint itself is "
            "not affected."
        )
        raise _refused(ErrorCode.EXPORT_UNAVAILABLE, "/exports", detail)


_STOCK: Mapping[Part, tuple[Callable[[Family], str | None], str]] = {
    Part.ATTENTION: (
        lambda family: family.head_dim_key,
        "have no setting for the head width, or none for a narrower one, so the stock layout cannot express "
        "which heads are left",
    ),
    Part.FEED_FORWARD: (
        lambda family: family.neurons_key,
        "have no single setting for the neurons of all feed-forward blocks, so the stock layout cannot express "
        "fewer of them",
    ),
}
"""The config key in which a stock class reads what is left of a part, and what is to be said where there is none."""


def check_layout(family: Family, pruning: Pruning) -> None:
    """Raises INVALID_REQUEST where the family's stock classes have no way to say what would be cut."""
    if pruning.layout is not Layout.STOCK:
        return
    for part, (key, why) in _STOCK.items():
        if part in pruning.cuts and key(family) is None:
            able = ", ".join(each.name for each in ALL_FAMILIES if key(each) is not None)
            detail = (
                f"The classes of {family.name} in transformers {why}. Use layout any, whose results contain the code "
                f"to load them; for what this job cuts, the stock layout is available for {able}."
            )
            raise _refused(ErrorCode.INVALID_REQUEST, "/pruning/layout", detail)


def _refused(code: ErrorCode, pointer: str, detail: str) -> SecateurError:
    return SecateurError(code, detail, (ErrorItem(pointer=pointer, code=code, detail=detail),))
