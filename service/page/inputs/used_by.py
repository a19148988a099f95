"""Which jobs used a model or a dataset, as far as the key may see jobs."""

from collections.abc import Sequence
from dataclasses import replace

from api_schemas.api.resources import JobResource
from api_schemas.enums import TERMINAL_STATES, JobState, KeyScope
from service.core.jobs import jobs
from service.services import Services
from store.jobs.job_lists import JobFilter

NEWEST = 20
LIVING = tuple(state for state in JobState if state not in TERMINAL_STATES)


def may_see_jobs(services: Services) -> bool:
    """As the calls that list them ask."""
    return not services.caller.scopes.isdisjoint((KeyScope.JOBS_READ, KeyScope.JOBS_WRITE))


def may_delete(services: Services) -> bool:
    """As the calls that delete uploads ask."""
    return KeyScope.MODELS_WRITE in services.caller.scopes


def jobs_of(services: Services, used: JobFilter) -> tuple[Sequence[JobResource], Sequence[JobResource], bool]:
    """The newest, those that have not ended and so keep it from being deleted, and whether there are more than these."""
    if not may_see_jobs(services):
        return (), (), False
    page = jobs.page(services, None, NEWEST, used)
    living = jobs.page(services, None, NEWEST, replace(used, states=LIVING)).items
    return page.items, living, page.next_cursor is not None
