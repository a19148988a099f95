"""A sweep in the browser: its table, its fronts drawn, and the whole of it cancelled."""

from pathlib import Path

from playwright.sync_api import Page, expect

from api_schemas.api.sweeps import PlannedJob, SweepPlan
from api_schemas.results.metrics import JobResult
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, sweeps, transitions
from store.jobs.transitions import Lease
from store.settings import Settings
from tests.support.jobs.records import job_request, step_file
from tests.support.jobs.sample_metrics import measured_step
from tests.support.servers.processes import service_process
from tests.ui.watching import assert_usable

LABELS = ("per_head/fisher/global", "per_head/magnitude/global", "per_head/fisher/local")


def fill(settings: Settings) -> str:
    """A sweep of three jobs, of which two have succeeded."""
    database, request = Database(settings.database_url), job_request()
    with database.write() as session:
        planned = tuple(PlannedJob(label=label, changes={}) for label in LABELS)
        plan = SweepPlan(model=request.model, dataset=request.dataset, jobs=planned)
        sweep = sweeps.create(session, DEFAULT_TENANT, "three methods", plan, None)
        for index, label in enumerate(LABELS):
            asked = request.model_copy(update={"name": label})
            jobs.create(session, DEFAULT_TENANT, asked, {"model": "test"}, sweep=(sweep.id, index))
        for last in (1, 2):
            job = transitions.claim(session, "a", 3600, 3)
            assert job is not None
            lease = Lease(job.id, job.epoch)
            for step in range(last + 1):
                files = [step_file(job.id, step)] if step else []
                transitions.commit_step(session, lease, measured_step(step), files, downloadable=step > 0)
            end = JobResult(step=last, stopped=None, detail="the last step", test=measured_step(last).validation)
            transitions.succeed(session, lease, result=end)
        found = sweep.id
    database.close()
    return found


def test_a_sweep(page: Page, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0")
    with service_process(settings, tmp_path / "log") as service:
        sweep = fill(settings)
        page.goto(f"{service.base_url}/sweeps")
        page.get_by_role("link", name="three methods").click()
        expect(page.locator("#sweep tbody tr")).to_have_count(1 + len(LABELS))
        expect(page.locator("figure.plot canvas").first).to_be_visible()
        assert_usable(page, "a sweep")
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#cancel").click()
        expect(page.locator("#delete")).to_be_visible()
        expect(page.locator("#sweep .facts").first).to_contain_text(f"{sweep} ended: 1 cancelled, 2 succeeded")
        page.goto("about:blank")
