"""A job is accepted only if it can run: its inputs are there, its target is within reach, its labels are the model's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api_schemas.api.resources import DatasetContents, ModelLayout
from api_schemas.enums import AuditAction, Head
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.inputs import HubDataset, Splits, UploadedDataset
from api_schemas.spec.job import JobRequest
from checkpoints.data.columns import FoundColumns, find_columns
from checkpoints.families import family_named
from checkpoints.planning.feasibility import check_feasible
from checkpoints.task_rules import check_exports, check_labels, check_layout
from service.core import model_source
from service.core.model_source import ModelSource
from service.services import Services
from store.access import quotas
from store.database.tables import Job
from store.jobs import jobs
from store.uploads import uploads


@dataclass(frozen=True)
class Accepted:
    """A request that can run, as far as is known before a worker has it, and what it would run on."""

    request: JobRequest
    model: ModelSource
    dataset: DatasetContents | None
    """Null where the worker fetches it."""
    inputs: frozenset[str]
    lineage: dict[str, str]


def check(services: Services, request: JobRequest) -> Accepted:
    """Nothing is written.

    Raises what `model_source.find` does; NOT_FOUND or UPLOAD_INCOMPLETE (a dataset that is not there or not ready),
    SPARSITY_OUT_OF_REACH, WIDTH_MISALIGNED, LABELS_MISMATCH, DATASET_SCHEMA, DATASET_EMPTY, INVALID_REQUEST and
    EXPORT_UNAVAILABLE (what the model's family or answers rule out), QUOTA_EXCEEDED.
    """
    model = model_source.find(services, request.model)
    # A model of the hub is judged by the worker, once it is there; the engine then checks what is checked here.
    known = model.known
    if known is not None:
        layout = known.layout
        check_labels(layout.head, request.pruning)
        check_exports(family_named(layout.family), layout.head, request.exports)
        check_layout(family_named(layout.family), request.pruning)
        check_feasible(known.shape, layout.widths, request.pruning)
    _check_roles(request.dataset.splits)
    if not isinstance(request.dataset, UploadedDataset):
        return Accepted(request, model, None, model.uploads, {**model.lineage, **_hub_lineage(request.dataset)})
    dataset = model_source.ready_upload(services, "dataset", request.dataset.id)
    contents = DatasetContents.model_validate(dataset.description)
    _check_dataset(request.dataset, contents, None if known is None else known.layout)
    lineage = {**model.lineage, "dataset": dataset.id}
    return Accepted(request, model, contents, model.uploads | {dataset.id}, lineage)


def submit(services: Services, request: JobRequest, also: Callable[[Session, Job], None]) -> Job:
    """Create the job; `waking.wake` is to follow. `also` writes in its transaction. Raises what `check` does, and EXPIRED."""
    accepted = check(services, request)
    with services.database.write() as session:
        held = uploads.hold_ready(session, services.tenant, accepted.inputs)
        if not (held and accepted.model.hold(session, services.tenant)):
            raise SecateurError(ErrorCode.EXPIRED, "An input of the job has expired just now. Upload it again.")
        quotas.check_job(session, services.tenant, services.settings)
        job = jobs.create(session, services.tenant, request, accepted.lineage)
        services.note(session, AuditAction.CREATE_JOB, job.id)
        also(session, job)
    return job


def _check_roles(splits: Splits) -> None:
    """No two roles are one split: scores would be of data that was trained or decided on."""
    roles: dict[str, str] = {}
    for role in ("train", "validation", "test"):
        first = roles.setdefault(getattr(splits, role), role)
        if first != role:
            detail = (
                f"{first} and {role} would both be the split {getattr(splits, role)!r}, and the scores would mean nothing. "
                "Leave one out: a role without a split is held out of train."
            )
            raise _wrong(f"/dataset/splits/{role}", ErrorCode.INVALID_REQUEST, detail)


def _check_dataset(request: UploadedDataset, contents: DatasetContents, model: ModelLayout | None) -> None:
    found = None if model is None else _find_columns(request, contents, model)
    for role in ("train", "validation", "test"):
        split = getattr(request.splits, role)
        if split not in contents.rows and (role == "train" or role in request.splits.model_fields_set):
            detail = f"The dataset has no split {split!r} for {role}; it has {', '.join(contents.rows)}."
            raise _wrong(f"/dataset/splits/{role}", ErrorCode.DATASET_SCHEMA, detail)
    if contents.rows[request.splits.train] == 0:
        detail = f"Split {request.splits.train!r}, to train on, has no rows."
        raise _wrong("/dataset/splits/train", ErrorCode.DATASET_EMPTY, detail)
    if model is None or found is None:
        return
    named = model.head in (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION)
    # Another label column than the one that was inspected is the worker's to judge.
    if named and found.label == contents.label_column:
        _check_labels(contents, model)


def _find_columns(request: UploadedDataset, contents: DatasetContents, model: ModelLayout) -> FoundColumns:
    """The pair of checkpoint and data, judged by the kinds of the columns."""
    for field in ("input", "label", "group"):
        column = getattr(request.columns, field)
        if column is not None and column not in contents.columns:
            detail = f"The dataset has no column {column!r}; it has {', '.join(contents.columns)}."
            raise _wrong(f"/dataset/columns/{field}", ErrorCode.DATASET_SCHEMA, detail)
    try:
        return find_columns(contents.column_kinds, request.columns, model.modality, model.head)
    except SecateurError as error:
        detail = f"{error.detail} The checkpoint is {model.architecture}."
        items = tuple(_item("/dataset/columns", error.code, item.detail) for item in error.errors)
        raise SecateurError(error.code, detail, items) from None


def _check_labels(contents: DatasetContents, model: ModelLayout) -> None:
    if not contents.labels:
        detail = (
            f"Column {contents.label_column!r} holds texts of all kinds and not the names of labels, which the checkpoint "
            "gives. Name the label column in `columns.label`."
        )
        raise _wrong("/dataset/columns/label", ErrorCode.DATASET_SCHEMA, detail)
    # The other way round is fine: one label a row is a list of one.
    if contents.multi_label and not model.multi_label:
        detail = (
            "The dataset has several labels a row, the checkpoint gives one. Use a checkpoint whose config.json says "
            '"problem_type": "multi_label_classification".'
        )
        raise _wrong("/dataset", ErrorCode.LABELS_MISMATCH, detail)
    unknown = sorted(set(contents.labels) - set(model.labels))
    if unknown:
        items = (
            _item("/dataset/labels", ErrorCode.LABELS_MISMATCH, _listed(contents.labels)),
            _item("/model/labels", ErrorCode.LABELS_MISMATCH, _listed(model.labels)),
        )
        detail = (
            f"{len(unknown)} labels of the dataset are not the checkpoint's: {_listed(unknown[:10])}. Labels are matched by "
            f"name with id2label. The dataset has {_listed(contents.labels)}; the checkpoint has {_listed(model.labels)}."
        )
        raise SecateurError(ErrorCode.LABELS_MISMATCH, detail, items)


def _listed(labels: Sequence[str]) -> str:
    return "[" + ", ".join(repr(label) for label in labels) + "]"


def _item(pointer: str, code: ErrorCode, detail: str) -> ErrorItem:
    return ErrorItem(pointer=pointer, code=code, detail=detail)


def _wrong(pointer: str, code: ErrorCode, detail: str) -> SecateurError:
    return SecateurError(code, detail, (_item(pointer, code, detail),))


def _hub_lineage(dataset: HubDataset) -> dict[str, str]:
    return {"dataset": f"hf:{dataset.id}", "dataset_revision": dataset.revision}
