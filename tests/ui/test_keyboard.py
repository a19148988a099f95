"""The same without a mouse: everything is reached by Tab, and pressed by Enter, Space and arrows."""

import re
import tarfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.ui.watching import curves_drawn

FURTHEST = 90


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, and it can be seen that it has."""
    for _ in range(FURTHEST):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            break
    else:
        raise AssertionError(f"{selector} is not reached by Tab")
    outlined = page.evaluate(
        """() => {
            const at = document.activeElement;
            const shown = [at, at.nextElementSibling, at.closest(".drop")].filter(Boolean);
            return shown.some((each) => getComputedStyle(each).outlineStyle !== "none");
        }"""
    )
    assert outlined, f"nothing shows that {selector} has the focus"


def press(page: Page, selector: str, key: str = "Enter") -> None:
    tab_to(page, selector)
    page.keyboard.press(key)


def to_tab(page: Page, name: str) -> None:
    press(page, f'a[href$="tab={name}"]')
    expect(page.locator(f"#tab[data-tab={name}]")).to_be_visible()


def upload(page: Page, kind: str, folder: Path) -> None:
    """By the window of the system that the field opens."""
    tab_to(page, f"#{kind}-files")
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Enter")
    opened.value.set_files(sorted(folder.iterdir()))
    expect(page.locator(f"#{kind}")).not_to_have_value("")


def submit(page: Page) -> str:
    """The id of the job."""
    press(page, "#submit")
    expect(page).to_have_url(re.compile("/jobs/job_"))
    return page.url.partition("?")[0].rpartition("/")[2]


def test_by_keyboard_alone(page: Page, house: tuple[str, str], tmp_path: Path) -> None:
    url, key = house
    # Windows of the system are caught while somebody listens; who begins with the key press begins too late now and then.
    page.on("filechooser", lambda _: None)
    page.goto(url)
    # The field has the focus when the page opens.
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    # Upload and create.
    page.goto(url)
    press(page, 'nav a[href="/new"]')
    expect(page.locator("#share-shown")).not_to_be_empty()
    upload(page, "model", tiny_model())
    upload(page, "dataset", tiny_data())
    tab_to(page, "#model")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#model")).to_have_value("")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#model")).to_have_value(re.compile("^mdl_"))
    press(page, "input[name=preset]", "ArrowRight")
    expect(page).to_have_url(re.compile("preset=paper"))
    press(page, "#share", "Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#share-shown")).to_have_text("10%")
    tab_to(page, "#epochs")
    page.keyboard.type("1")
    tab_to(page, "#name")
    page.keyboard.type("by keyboard")
    expect(page.locator("#estimate tbody tr").first).to_be_visible()
    first = submit(page)

    # Watch to the end; download.
    expect(page.locator("#status .state")).to_have_text("succeeded", timeout=180_000)
    to_tab(page, "files")
    tab_to(page, "#download-1")
    with page.expect_download() as begun:
        page.keyboard.press("Enter")
    begun.value.save_as(tmp_path / "step.tar")
    with tarfile.open(tmp_path / "step.tar") as archive:
        assert any(name.endswith("/model.safetensors") for name in archive.getnames())

    # Another like it, but longer: pause, resume, cancel.
    to_tab(page, "request")
    press(page, "#like")
    expect(page).to_have_url(re.compile("/new"))
    expect(page.locator("#share-shown")).to_have_text("10%")
    press(page, "#epochs", "ControlOrMeta+A")
    page.keyboard.type("500")
    second = submit(page)
    expect(page.locator(".timeline [aria-current=step]")).to_contain_text("Fine-tuning")
    to_tab(page, "events")
    press(page, "#pause")
    pausing = page.get_by_text("Pauses after the current step.")
    expect(pausing).to_be_visible()
    press(page, "#resume")
    expect(pausing).to_be_hidden()
    expect(page.locator("#pause")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    press(page, "#cancel")
    expect(page.locator("#status .state")).to_have_text("cancelled")

    # Compare the two.
    press(page, 'nav a[href="/"]')
    expect(page.locator("table.jobs")).to_be_visible()
    for job in (first, second):
        press(page, f"#pick-{job}", "Space")
        expect(page.locator(f"#pick-{job}")).to_be_checked()
    press(page, "#compare")
    expect(page).to_have_url(re.compile(f"/compare.*{first}"))
    curves_drawn(page, 5)

    # Delete one, and the theme is kept.
    page.goto(f"{url}/jobs/{first}")
    page.once("dialog", lambda dialog: dialog.accept())
    press(page, "#delete")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    press(page, "#theme")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
