"""Administration in the browser: a key and a webhook are made, their secrets shown once, and every page fits."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from store.settings import Settings
from tests.support.servers.processes import service_process
from tests.ui.test_keyboard import press, tab_to
from tests.ui.watching import Watched, assert_usable


def test_keys_webhooks_audit_and_quotas(seen: Watched, page: Page, tmp_path: Path) -> None:
    # An address that the service does not call.
    seen.expected += ["422 (Unprocessable"]
    settings = Settings(
        data_dir=tmp_path,
        broker_url="redis://127.0.0.1:1/0",
        max_waiting_jobs=4,
        outbound_test_target="127.0.0.1:9",
    )
    page.on("dialog", lambda dialog: dialog.accept())
    with service_process(settings, tmp_path / "log") as service:
        page.goto(f"{service.base_url}/keys")
        # By keyboard alone; without a scope it is not even asked for.
        tab_to(page, "#name")
        page.keyboard.type("nightly")
        press(page, "#new-key button")
        expect(page.locator("#new-key .error")).to_have_text("Choose at least one of the scopes.")
        page.goto(f"{service.base_url}/keys")
        tab_to(page, "#name")
        page.keyboard.type("nightly")
        press(page, "input[value='jobs:read']", "Space")
        press(page, "#new-key button")
        expect(page.locator("#secret")).to_be_focused()
        expect(page.locator("#secret-text")).to_have_text(re.compile(r"^sk_\w+$"))
        token = page.locator("#secret-text").inner_text()
        assert service.get("/v1/keys").json()["items"][0]["expires_at"] is not None
        page.get_by_label("Expires").select_option("on a date")
        page.locator("input[value='jobs:read']").check()
        page.get_by_role("button", name="Create key").click()
        expect(page.locator("#new-key .error")).to_have_text("Enter the last day on which the key is valid.")
        page.get_by_label("Last day").fill("2031-02-03")
        page.get_by_role("button", name="Create key").click()
        expect(page.locator("#keys tbody tr")).to_have_count(2)
        assert service.get("/v1/keys").json()["items"][0]["expires_at"].startswith("2031-02-03T23:59:59")
        expect(page.locator("#on-date")).to_be_hidden()
        page.locator("#keys button.danger").first.click()
        expect(page.locator("#keys .state").first).to_have_text("revoked")
        assert_usable(page, "a new key")
        # It is gone with the page, also where the browser keeps that for Back.
        page.evaluate("dispatchEvent(new Event('pagehide'))")
        expect(page.locator("#secret")).to_be_hidden()
        assert token not in page.content()
        page.get_by_role("button", name="Revoke nightly").click()
        expect(page.locator("#keys .state").last).to_have_text("revoked")

        page.goto(f"{service.base_url}/webhooks")
        page.locator("#url").fill("http://127.0.0.1:9/hook")
        page.get_by_role("button", name="Create webhook").click()
        first = page.locator("#secret-text")
        expect(first).to_have_text(re.compile("^whsec_"))
        secret = first.inner_text()
        assert_usable(page, "a new webhook")
        page.get_by_role("link", name="http://127.0.0.1:9/hook").click()
        assert secret not in page.content()
        page.locator("#edit summary").click()
        page.get_by_label("URL").fill("http://127.0.0.1:9/other")
        page.get_by_label("job.paused").uncheck()
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#webhook")).to_contain_text("http://127.0.0.1:9/other")
        expect(page.locator("#webhook")).not_to_contain_text("job.paused")
        page.get_by_label("URL").fill("http://elsewhere.example/")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#edit-webhook .error")).to_contain_text("it must start with https://")
        page.get_by_role("button", name="Send a test event").click()
        expect(page.locator("#webhook tbody tr")).to_have_count(1)
        page.get_by_role("button", name="Rotate secret").click()
        expect(first).to_have_text(re.compile("^whsec_"))
        assert first.inner_text() != secret
        page.get_by_role("button", name="Pause").click()
        # Nothing is sent any more, and what was pending has failed.
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        expect(page.locator("#webhook tbody .state")).to_have_text("failed")
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Redeliver").click()
        expect(page.locator("#webhook tbody tr")).to_have_count(2)
        assert_usable(page, "a webhook")
        page.goto(f"{service.base_url}/audit")
        expect(page.locator("tbody th").first).to_have_text("redeliver_webhook_delivery")
        assert_usable(page, "the audit log")
        page.goto(f"{service.base_url}/limits")
        expect(page.get_by_role("progressbar", name="Waiting jobs used")).to_be_visible()
        assert_usable(page, "quotas")
        page.goto("about:blank")
