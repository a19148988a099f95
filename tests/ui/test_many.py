"""Two hundred jobs: the list stays a page of fifty that costs next to nothing while nothing changes."""

import re
from pathlib import Path

from playwright.sync_api import Page, Response, expect

from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs
from store.settings import Settings
from tests.support.jobs.records import job_request
from tests.support.servers.processes import service_process
from tests.ui.watching import assert_usable

JOBS = 200
LARGEST = 200_000
"""Bytes of a page of the list."""


def fill(settings: Settings) -> None:
    """Queued, and no worker takes them."""
    database = Database(settings.database_url)
    with database.write() as session:
        for number in range(JOBS):
            labels = {"team": "speech" if number % 2 else "vision", "number": str(number)}
            request = job_request(name=f"job {number}", labels=labels)
            jobs.create(session, DEFAULT_TENANT, request, {"model": "test"})
    database.close()


def test_two_hundred_jobs(page: Page, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0")
    with service_process(settings, tmp_path / "log") as service:
        fill(settings)
        url = str(service.base_url)
        polls: list[Response] = []
        page.on("response", lambda answer: polls.append(answer) if answer.request.headers.get("hx-target") else None)
        page.goto(url)
        expect(page.locator("table.jobs tbody tr")).to_have_count(50)
        assert len(service.get("/", headers={"Accept": "text/html"}).content) < LARGEST
        assert_usable(page, "two hundred jobs")
        # A row that is in use is not taken away from under the hand.
        page.get_by_label("Compare job 199", exact=True).check()
        for _ in range(2):
            page.wait_for_event("response", lambda answer: bool(answer.request.headers.get("hx-target")))
        expect(page.get_by_label("Compare job 199", exact=True)).to_be_checked()
        row = page.locator("table.jobs tbody tr").first.element_handle()
        assert row.evaluate("(row) => row.isConnected"), "nothing has changed, and the list was replaced"
        names = []
        for _ in range(4):
            names += page.locator("table.jobs th a").all_inner_texts()
            older = page.get_by_role("link", name="Older")
            if older.count():
                older.click()
                expect(page.locator("table.jobs th a").first).not_to_have_text(names[-50])
        # Several are of one millisecond, and then in any order.
        assert sorted(names) == sorted(f"job {number}" for number in range(JOBS))
        page.goto(f"{url}/?label=team%3Dspeech")
        expect(page.locator("table.jobs tbody tr")).to_have_count(50)
        page.locator("#label").fill("number=7")
        page.locator("#label").press("Enter")
        expect(page.locator("table.jobs tbody tr")).to_have_count(1)
        expect(page).to_have_url(re.compile("number%3D7"))
        assert {answer.status for answer in polls} <= {200, 304}
        # Nothing asks any more when the service ends.
        page.goto("about:blank")
