"""A job's page in every state, at every width: nothing is wider than the window or cut off, every plot says its units."""

import re
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from playwright.sync_api import Page, expect

from store.database.connection import Database
from store.settings import Settings
from tests.support.jobs.sample_jobs import SampleJobs, fill
from tests.support.servers.processes import service_process
from tests.ui.watching import (
    Watched,
    assert_noise_is_a_band,
    assert_plots_say_units,
    assert_usable,
    curves_drawn,
    note_drawn_words,
)

WIDTHS = (360, 768, 1024, 1440)
TABS = ("results", "layers", "training", "files", "log", "events", "request")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, SampleJobs]]:
    """A service without keys and without a worker, that holds one job of each kind."""
    folder = tmp_path_factory.mktemp("states")
    settings = Settings(data_dir=folder, broker_url="redis://127.0.0.1:1/0")
    with service_process(settings, folder / "log") as service:
        database = Database(settings.database_url)
        made = fill(database)
        database.close()
        yield str(service.base_url), made


def fits(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{page.url} is {wide} wide in a window of {width}"
    # The list of jobs is read whole, at any width; what scrolls inside a page are tables of measurements.
    hidden = page.evaluate(
        "[...document.querySelectorAll('#jobs .wide')].map((each) => each.scrollWidth - each.clientWidth)"
    )
    assert all(pixels <= 0 for pixels in hidden), f"{hidden} pixels of {page.url} are cut off in a window of {width}"


def unfold(page: Page) -> None:
    """What is folded has to fit, too."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def test_every_state_fits_every_width(seen: Watched, page: Page, jobs: tuple[str, SampleJobs]) -> None:
    url, made = jobs
    # An address without a job, and an estimate for a model that is not there.
    seen.expected += ["404 (Not Found)", "422 (Unprocessable"]
    note_drawn_words(page)
    addresses = [f"/jobs/{job}" for job in asdict(made).values()]
    addresses += [f"/jobs/{made.large}?tab={tab}" for tab in TABS[1:]]
    addresses += [f"/jobs/{made.running}?tab={tab}" for tab in TABS[1:]]
    addresses += [f"/jobs/{made.large}/steps/{step}" for step in (0, 2)]
    for address in ("/", f"/compare?job={made.large}&job={made.finished}", *addresses):
        page.goto(url + address)
        unfold(page)
        expect(page.locator("figure.plot .canvas:not(:has(canvas))")).to_have_count(0)
        for width in WIDTHS:
            fits(page, width)
        assert_plots_say_units(page)
    # What has no plot.
    others = ("/new", "/models", "/datasets", "/sweeps", "/workers", "/compare", f"/lineage/{made.large}")
    for address in (*others, "/keys", "/webhooks", "/audit", "/limits", "/jobs/job_unknown", f"/new?like={made.large}"):
        page.goto(url + address)
        unfold(page)
        for width in WIDTHS:
            fits(page, width)
    # On a phone the tabs are one line, with the current one in view.
    page.set_viewport_size({"width": 360, "height": 900})
    page.goto(f"{url}/jobs/{made.finished}?tab=request")
    tops = page.eval_on_selector_all(".tabs a", "links => new Set(links.map((link) => link.offsetTop)).size")
    assert tops == 1
    expect(page.locator(".tabs [aria-current]")).to_be_in_viewport(ratio=0.9)
    assert page.evaluate("scrollY") == 0


def test_on_a_phone_the_list_is_cards(page: Page, jobs: tuple[str, SampleJobs]) -> None:
    url, _ = jobs
    page.set_viewport_size({"width": 360, "height": 900})
    page.goto(url)
    states = page.locator("table.jobs .state")
    ended = ["cancelled", "failed", "running", "failed", "nothing removed", "succeeded"]
    expect(states).to_have_text(["queued", "paused", "succeeded", *ended])
    ends = states.evaluate_all("states => states.map((state) => state.getBoundingClientRect().right)")
    assert max(ends) <= 360
    assert page.evaluate("document.querySelector('.wide').scrollWidth <= document.querySelector('.wide').clientWidth")
    assert_usable(page, "the list")


def test_the_answer_comes_first_and_axes_do_not_exaggerate(page: Page, jobs: tuple[str, SampleJobs]) -> None:
    url, made = jobs
    note_drawn_words(page)
    page.goto(f"{url}/jobs/{made.finished}")
    expect(page.locator("#answer")).to_be_in_viewport()
    expect(page.locator("#download")).to_be_in_viewport()
    expect(page.locator(".bars svg")).to_have_count(5)
    curves_drawn(page, 4)
    assert_usable(page, "a finished job")
    # The table leads to the pages of steps.
    page.get_by_role("link", name="Step 1", exact=True).click()
    expect(page).to_have_url(re.compile("/steps/1$"))
    curves_drawn(page, 1)
    assert_usable(page, "a step")
    page.get_by_role("link", name="Start a job from this step").click()
    expect(page.locator("#model_step")).to_have_value(f"{made.finished}/1")
    page.goto(f"{url}/jobs/{made.finished}")
    # The noise is a band over the whole width, as wide at each step as it was there, and not a corner between two of them.
    assert_noise_is_a_band(page, "#figure-speed")
    # Two points of ten are drawn as a fifth of the axis, unless somebody zooms in.
    figure = page.locator("#figure-tradeoff")
    before = figure.locator(".canvas").screenshot()
    figure.get_by_role("button", name="Zoom").click()
    expect(figure.get_by_role("button", name="Zoom")).to_have_attribute("aria-pressed", "true")
    assert figure.locator(".canvas").screenshot() != before


def test_no_page_has_what_axe_calls_serious(seen: Watched, page: Page, jobs: tuple[str, SampleJobs]) -> None:
    """Those that no other test looks at so."""
    url, made = jobs
    seen.expected += ["404 (Not Found)", "422 (Unprocessable"]
    for address in (f"/jobs/{made.large}?tab=layers", f"/jobs/{made.interrupted}", f"/jobs/{made.paused}"):
        page.goto(url + address)
        assert_usable(page, address)
    for address in ("/sweeps", f"/lineage/{made.large}", "/jobs/job_unknown", f"/new?like={made.large}"):
        page.goto(url + address)
        unfold(page)
        assert_usable(page, address)


def test_running_and_failed(page: Page, jobs: tuple[str, SampleJobs]) -> None:
    url, made = jobs
    page.goto(f"{url}/jobs/{made.running}")
    expect(page.locator(".timeline .now[aria-current=step]")).to_contain_text("Fine-tuning")
    expect(page.locator(".timeline .next .pieces")).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 900})
    expect(page.locator(".timeline .next .pieces")).to_be_hidden()
    page.set_viewport_size({"width": 1440, "height": 900})
    curves_drawn(page, 1)
    assert_usable(page, "a running job")
    page.goto(f"{url}/jobs/{made.failed}")
    expect(page.get_by_role("heading", name="The target cannot be reached")).to_be_in_viewport()
    page.get_by_role("link", name="Try again with 83%").click()
    expect(page).to_have_url(re.compile("share=83(&|$)"))
