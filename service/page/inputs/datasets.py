"""`/datasets` and `/datasets/{id}`: what was uploaded, what it contains, and which jobs used it."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from api_schemas.api.resources import DatasetContents
from api_schemas.enums import Split, UploadState
from service.access.turns import FairRoute
from service.core.uploads import samples
from service.dependencies import ToReadUploads
from service.page.inputs import used_by
from service.page.rendering import answer
from service.routes import datasets
from service.routes.parameters import Cursor, DatasetPath
from store.jobs.job_lists import JobFilter

PAGE = 50
MOST_LABELS = 200

router = APIRouter(route_class=FairRoute)


USUAL = (Split.TRAIN, Split.VALIDATION, Split.TEST)


@dataclass(frozen=True)
class Class:
    """A label, its rows in each split, in the order of `splits`, and in all of them."""

    name: str
    rows: tuple[int, ...]
    total: int


def splits(contents: DatasetContents | None) -> dict[str, int]:
    """Rows by split, those that are trained on first."""
    rows = {} if contents is None else contents.rows
    return {split: rows[split] for split in sorted(rows, key=_place)}


def _place(split: str) -> int:
    return USUAL.index(Split(split)) if split in USUAL else len(USUAL)


def answer_columns(contents: DatasetContents | None) -> tuple[str, ...]:
    """Of answers to the questions that the dataset is of; none of one with labels or without a second text."""
    if contents is None or contents.pair_column is None:
        return ()
    found = [name for name, column in contents.label_columns.items() if column.context == contents.pair_column]
    return tuple(found) if contents.label_column in (None, *found) else ()


def classes(contents: DatasetContents | None) -> Iterator[Class]:
    """Every label that was counted, in the order of the labels."""
    counts = contents.label_counts if contents is not None else None
    if contents is None or counts is None:
        return
    for name in contents.labels:
        rows = tuple(counts.get(split, {}).get(name, 0) for split in splits(contents))
        if any(rows):
            yield Class(name, rows, sum(rows))


@router.get("/datasets", include_in_schema=False)
def datasets_page(services: ToReadUploads, request: Request, cursor: Cursor = None) -> Response:
    """The list, newest first."""
    page = datasets.list_datasets(services, cursor, PAGE)
    return answer(
        request, "inputs/datasets.html.j2", datasets=page.items, older=page.next_cursor, newest=cursor is not None
    )


@router.get("/datasets/{dataset_id}", include_in_schema=False)
def dataset_page(services: ToReadUploads, request: Request, dataset_id: DatasetPath) -> Response:
    """One. Raises NOT_FOUND, or DELETED."""
    dataset = datasets.get_dataset(services, dataset_id)
    ready = dataset.state is UploadState.READY
    used, living, more = used_by.jobs_of(services, JobFilter(dataset_id=dataset_id))
    return answer(
        request,
        "inputs/dataset.html.j2",
        dataset=dataset,
        classes=tuple(classes(dataset.contents)),
        splits=splits(dataset.contents),
        answered=answer_columns(dataset.contents),
        samples=sorted(samples.of(services, dataset_id).items, key=lambda each: _place(each.split)) if ready else (),
        jobs=used,
        sees_jobs=used_by.may_see_jobs(services),
        living=living,
        more=more,
        deletable=used_by.may_delete(services),
        most_labels=MOST_LABELS,
    )
