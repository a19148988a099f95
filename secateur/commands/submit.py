"""`secateur submit` and `secateur estimate`: the same description of a job, queued or estimated."""

from typing import Any

import typer

from api_schemas.spec.job import JobRequest
from secateur.commands.shared import arguments
from secateur.commands.shared.group import JOBS
from secateur.commands.shared.pruning_options import PruningOptions, options_of, with_pruning_options
from secateur.commands.shared.session import Session, served
from secateur.commands.upload import uploaded
from secateur.commands.wait import wait_for
from secateur.specs.job_request import DraftRequest, draft_request, labels_of
from secateur.specs.other_preset import without_preset
from secateur.specs.overrides import overridden
from secateur.specs.validation import validated
from secateur.terminal.details import estimate_page


def register(app: typer.Typer) -> None:
    """Both commands."""
    served(app, JOBS, patient=True)(with_pruning_options(submit))
    served(app, JOBS, patient=True)(with_pruning_options(estimate))
    served(app, JOBS, patient=True)(rerun)


def submit(
    session: Session,
    model: arguments.Model = None,
    data: arguments.Data = None,
    *,
    pruning: PruningOptions,
    settings: arguments.Settings = None,
    spec: arguments.Spec = None,
    name: arguments.JobName = None,
    label: arguments.Labels = None,
    priority: arguments.Priority = None,
    idempotency_key: arguments.IdempotencyKey = None,
    wait: arguments.Wait = False,
    timeout: arguments.Timeout = None,
) -> None:
    """Submit a job; prints its id. With --wait, prints the outcome.

    For example: `secateur submit --model ./my-ast --data ./my-data --sparsity 0.5 --granularity ragged --wait`
    """
    options = options_of(pruning, model, data, name, labels_of(label or ()), priority)
    body = uploaded(session, draft_request(spec, options, settings or ()))
    _submit(session, body, idempotency_key, wait, timeout)


def _submit(
    session: Session, body: dict[str, Any], idempotency_key: str | None, wait: bool, timeout: float | None
) -> None:
    job = session.client.submit(spec=body, idempotency_key=idempotency_key)
    for found in job.view.warnings:
        session.note(f"warning: {found.detail}")
    if wait:
        session.note(f"{job.id} is {job.state.value}.")
        wait_for(session, [job.id], timeout, alone=True)
        return
    session.note(f"{job.state.value}. Wait for it: secateur wait {job.id}")
    session.give(job.view, job.id)


def rerun(
    session: Session,
    identifier: arguments.Job,
    settings: arguments.Settings = None,
    name: arguments.JobName = None,
    priority: arguments.Priority = None,
    idempotency_key: arguments.IdempotencyKey = None,
    wait: arguments.Wait = False,
    timeout: arguments.Timeout = None,
) -> None:
    """Submit a job's request again, with the changes from --set; prints the new id. The old job is not changed.

    For example: `secateur rerun job_3vq7 --set finetune.learning_rate=1e-4 --wait`
    """
    before = session.client.job(session.whole_id(identifier, "job")).view.request
    given = {field: value for field, value in (("name", name), ("priority", priority)) if value is not None}
    body = overridden(before.model_dump(mode="json") | given, settings or ())
    pruning = body["pruning"]
    if isinstance(pruning, dict) and pruning.get("preset", before.pruning.preset) != before.pruning.preset:
        body = overridden(without_preset(before) | given, settings or ())
    validated(JobRequest, body, None)
    _submit(session, body, idempotency_key, wait, timeout)


def estimate(
    session: Session,
    model: arguments.Model = None,
    data: arguments.Data = None,
    *,
    pruning: PruningOptions,
    settings: arguments.Settings = None,
    spec: arguments.Spec = None,
) -> None:
    """Estimate a job: parameters, FLOPs and bytes after every step; time and memory once similar jobs have run."""
    described: DraftRequest = draft_request(spec, options_of(pruning, model, data), settings or ())
    found = session.client.estimate(spec=uploaded(session, described))
    session.give(found, *estimate_page(found))
