"""The same without a mouse: everything is reached by Tab, and pressed by Enter, Space and arrows."""

import re

from playwright.sync_api import Page, expect

from secateur import Secateur
from tests.support.tiny import tiny_data, tiny_model

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


def test_by_keyboard_alone(page: Page, house: tuple[str, str]) -> None:
    url, key = house
    with Secateur(url, key) as client:
        model, dataset = client.upload_model(tiny_model()).id, client.upload_dataset(tiny_data()).id
    page.goto(url)
    # The field has the focus when the page opens.
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.goto(url)
    tab_to(page, 'nav a[href="/new"]')
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/new"))
    expect(page.locator("#share-shown")).not_to_be_empty()

    tab_to(page, "#model")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#model")).to_have_value(model)
    tab_to(page, "#model-files")
    tab_to(page, "#dataset")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#dataset")).to_have_value(dataset)
    tab_to(page, "input[name=preset]")
    page.keyboard.press("ArrowRight")
    assert "preset=paper" in page.url
    tab_to(page, "#share")
    page.keyboard.press("Home")
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#share-shown")).to_have_text("30%")
    tab_to(page, "#epochs")
    page.keyboard.type("500")
    tab_to(page, "#name")
    page.keyboard.type("by keyboard")
    expect(page.locator("#estimate tbody tr").first).to_be_visible()
    tab_to(page, "#submit")
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile("/jobs/job_"))
    expect(page.locator("#status .state")).to_have_text("running", timeout=90_000)
    tab_to(page, 'a[href$="tab=events"]')
    page.keyboard.press("Enter")
    expect(page.locator("#tab[data-tab=events]")).to_be_visible()
    tab_to(page, "#pause")
    page.keyboard.press("Enter")
    expect(page.get_by_text("It pauses after the step that runs.")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    tab_to(page, "#cancel")
    page.keyboard.press("Enter")
    expect(page.locator("#status .state")).to_have_text("cancelled", timeout=60_000)
    page.once("dialog", lambda dialog: dialog.accept())
    tab_to(page, "#delete")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    expect(page.get_by_text("by keyboard")).to_have_count(0)
    tab_to(page, "#theme")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
