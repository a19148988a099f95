"""The lineage of checkpoints: jobs of a model, jobs that continued from their steps, and so on; `/lineage/{job}`."""

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from api_schemas.api.resources import JobResource
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import StepModel, UploadedModel
from api_schemas.spec.pruning import SHARE_OF
from service.access.turns import FairRoute
from service.core.jobs import jobs
from service.core.uploads import uploads
from service.dependencies import ToReadJobs
from service.page.inputs.used_by import NEWEST
from service.page.rendering import answer
from service.routes.parameters import JobPath
from service.services import Services
from store.jobs.job_lists import JobFilter

MOST_JOBS = 100
"""Below the first ones of a page: each costs two queries."""
_GONE = (ErrorCode.NOT_FOUND, ErrorCode.DELETED)

router = APIRouter(route_class=FairRoute)


@dataclass(frozen=True)
class Tree:
    """A job, and those that go on from its steps."""

    job: JobResource
    children: "tuple[Tree, ...]"
    more: bool = False
    """Whether there are others that go on from its steps."""

    @property
    def from_step(self) -> int | None:
        """Of the job above it; None of one that began with an original."""
        model = self.job.request.model
        return model.step if isinstance(model, StepModel) else None

    @property
    def steps(self) -> tuple[int, ...]:
        """That it made."""
        return tuple(step.step for step in self.job.metrics if step.step > 0)


def trees(services: Services, found: Iterable[JobResource]) -> tuple[Tree, ...]:
    """Of these jobs, whose steps may have been gone on from: the newest `NEWEST` of each, and `MOST_JOBS` in all."""
    left = MOST_JOBS

    def tree(job: JobResource) -> Tree:
        nonlocal left
        if len(job.metrics) < 2:
            return Tree(job, ())
        # A step is an original of what goes on from it, and is found under the job that made it.
        page = jobs.page(services, None, max(1, min(NEWEST, left)), JobFilter(model_id=job.id))
        shown = page.items[:left]
        left -= len(shown)
        more = page.next_cursor is not None or len(shown) < len(page.items)
        return Tree(job, tuple(map(tree, shown)), more)

    return tuple(map(tree, found))


@router.get("/lineage/{job_id}", include_in_schema=False)
def lineage_page(services: ToReadJobs, request: Request, job_id: JobPath) -> Response:
    """The original that a job's checkpoints come from, and everything that was made on the way. Raises NOT_FOUND, or DELETED."""
    job = jobs.get(services, job_id)
    first, lost = _first(services, job)
    return answer(
        request,
        "inputs/lineage.html.j2",
        job=job,
        found=trees(services, (first,)),
        share_of=SHARE_OF,
        lost=lost,
        original=first.request.model,
        named=_name(services, first),
    )


def _first(services: Services, job: JobResource) -> tuple[JobResource, str | None]:
    """The job that the steps before this one lead back to, and the job before it where that is gone."""
    # A job names only what was there before it, so that this ends.
    while isinstance(step := job.request.model, StepModel):
        try:
            job = jobs.get(services, step.job)
        except SecateurError as error:
            if error.code not in _GONE:
                raise
            return job, step.job
    return job, None


def _name(services: Services, job: JobResource) -> str | None:
    """What the uploaded model is called; None where it is none, or is gone."""
    model = job.request.model
    if not isinstance(model, UploadedModel):
        return None
    try:
        return uploads.get(services, "model", model.id).name
    except SecateurError as error:
        if error.code not in _GONE:
            raise
        return None
