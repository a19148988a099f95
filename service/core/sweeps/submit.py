"""Accepts a sweep as a whole or not at all: every job is checked as if it were submitted by itself."""

import json
from collections.abc import Callable, Sequence

from sqlalchemy.orm import Session

from api_schemas.api.sweeps import PlannedJob, SweepPlan
from api_schemas.enums import AuditAction
from api_schemas.errors import ErrorItem, SecateurError
from api_schemas.spec.job import JobRequest
from api_schemas.spec.sweep import SweepRequest
from service.core.jobs import model_source
from service.core.jobs import submit as single
from service.core.sweeps import plan
from service.core.sweeps.plan import Spec
from service.services import Services
from store.access import quotas
from store.database.tables import Sweep
from store.jobs import sweeps

_NO_DIFFERENCE = {"name", "labels", "priority"}
"""Fields that change nothing of what a job comes to."""


def submit(services: Services, request: SweepRequest, also: Callable[[Session, Sweep], None]) -> Sweep:
    """Create the sweep and its jobs in one transaction, in which `also` writes; `waking.wake` is to follow.

    Raises what `single.submit` does, with the place in the sweep's request of everything that is wrong.
    """
    specs = plan.plan(request)
    requests = plan.checked(specs, request)
    accepted = _accepted(services, request, specs, requests)
    with services.database.write() as session:
        for each in accepted[:1]:
            single.hold(session, services, each)
        quotas.check_jobs(session, services.tenant, services.settings, len(accepted))
        planned = tuple(PlannedJob(label=spec.label, changes=dict(spec.changes)) for spec in specs)
        told = SweepPlan(model=request.model, dataset=request.dataset, jobs=planned)
        sweep = sweeps.create(session, services.tenant, request.name, told, request.max_parallel)
        for index, each in enumerate(accepted):
            single.create(session, services, each, (sweep.id, index))
        services.note(session, AuditAction.CREATE_SWEEP, sweep.id)
        also(session, sweep)
    return sweep


def _accepted(
    services: Services, request: SweepRequest, specs: Sequence[Spec], requests: Sequence[JobRequest]
) -> list[single.Accepted]:
    """All of them, with their labels for names where they have none. Raises the errors of all that cannot run."""
    # Looked for once: it may be on another host.
    model = model_source.find(services, request.model)
    found: list[single.Accepted] = []
    errors: list[ErrorItem] = []
    before: dict[str, Spec] = {}
    for spec, each in zip(specs, requests, strict=True):
        try:
            accepted = single.check(
                services, each if each.name else each.model_copy(update={"name": spec.label}), model
            )
        except SecateurError as error:
            if error.retry_after is not None:
                raise
            items = error.errors or (ErrorItem(code=error.code, detail=error.detail),)
            errors += (item if plan.of_inputs(item) else plan.placed(item, spec, request) for item in items)
            continue
        does = json.dumps(accepted.request.model_dump(mode="json", exclude=_NO_DIFFERENCE), sort_keys=True)
        if does in before:
            errors.append(plan.same_as(before[does], spec, request))
        before.setdefault(does, spec)
        found.append(accepted)
    plan.raise_all(errors)
    return found
