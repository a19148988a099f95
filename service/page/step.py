"""`/jobs/{id}/steps/{n}`: one step of a job: its results, its files, and how to continue from it."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from api_schemas.api.resources import JobResource
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results import display, parts, step_rows
from api_schemas.results.metrics import StepMetrics
from api_schemas.results.step_rows import Row
from service.access.turns import FairRoute
from service.core.jobs import jobs
from service.dependencies import ToReadJobs
from service.page.figures import heat_maps, step_curves
from service.page.job_parts import outcome
from service.page.rendering import answer
from service.routes.parameters import JobPath, StepPath

router = APIRouter(route_class=FairRoute)


@router.get("/jobs/{job_id}/steps/{step}", include_in_schema=False)
def step_page(services: ToReadJobs, request: Request, job_id: JobPath, step: StepPath) -> Response:
    """Step 0, the original, has measurements alone. Raises NOT_FOUND, also where the step is not complete, or DELETED."""
    job = jobs.get(services, job_id)
    found = next((measured for measured in job.metrics if measured.step == step), None)
    if found is None:
        there = ", ".join(str(measured.step) for measured in job.metrics) or "none yet"
        raise SecateurError(ErrorCode.NOT_FOUND, f"Job {job_id} has no step {step}; complete steps: {there}.")
    cut = found.step > 0
    onwards = {"like": job.id, "model_from": "step", "model_step": f"{job.id}/{step}"}
    return answer(
        request,
        "step.html.j2",
        job=job,
        step=found,
        outcome=outcome.of_step(services, job, found) if cut else None,
        onwards=f"/new?{urlencode(onwards)}" if cut else None,
        rows=_rows(job, found),
        losses=step_curves.recovery(found),
        layers=heat_maps.layers(job, found) if cut else (),
        heads=heat_maps.heads(job, found),
    )


def _rows(job: JobResource, step: StepMetrics) -> list[Row]:
    original = job.metrics[0]
    found = step_rows.rows(original, step, parts.cut_by(job.request.pruning))
    if step.step and job.request.finetune is not None:
        name = f"{display.metric_name(job.metrics)}, validation, before recovery"
        found.insert(0, (name, "–", display.written(step.validation_before_recovery)))
    return found
