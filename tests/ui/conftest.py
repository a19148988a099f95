"""The page in Debian's Chromium (scripts/install_chromium.sh), over the real stack with keys."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.servers.up import stack_up
from tests.ui.watching import Watched, watched

CHROMIUM = "/usr/bin/chromium"
PATIENCE = 120_000
"""Milliseconds; a machine may be busy with other things."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Root has no user namespace to sandbox into, and in a container there is nobody else.
    options = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`secateur up` with keys: its URL, and the first key."""
    folder = tmp_path_factory.mktemp("ui")
    with stack_up(folder, SECATEUR_AUTH="keys") as url:
        secateur = str(Path(sys.executable).with_name("secateur"))
        command = [secateur, "keys", "create", "--bootstrap", "--data-dir", str(folder / "data")]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        yield url, made.stdout.strip().splitlines()[-1]


@pytest.fixture
def seen(browser: Browser) -> Iterator[Watched]:
    """A window of 1440 by 900. When the test ends, nothing may have been said in its console or asked of another host."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    window = watched(context.new_page())
    yield window
    context.close()
    assert window.complaints == []


@pytest.fixture
def page(seen: Watched) -> Page:
    return seen.page
