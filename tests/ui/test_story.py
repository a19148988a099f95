"""The whole story: sign in, upload, create, watch, cancel one, download one, compare two."""

import base64
import json
import re
import runpy
import tarfile
from pathlib import Path
from typing import Any, Unpack
from unittest.mock import Mock, patch

from playwright.sync_api import Page, Route, expect

from api_schemas.spec.job import JobRequest
from secateur.client.job import Job
from secateur.client.job_request import JobFields, body_of
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.ui.watching import Watched, assert_usable, curves_drawn, picture

PIECE = 16 * 2**20
"""What the page sends at once (sending.js)."""
JOB = 180_000
"""Milliseconds that a whole job may take."""
OTHERS = {
    "seed": 7, "limits": {"max_runtime": "2h"}, "finetune": {"learning_rate": 0.001}, "evaluate": {"latency_runs": 5},
}  # fmt: skip
"""Of a request, what the form has no fields for."""


def sign_in(page: Page, url: str, key: str) -> None:
    page.goto(url)
    expect(page).to_have_url(re.compile("/signin"))
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


def ready(page: Page) -> None:
    """The form's script runs: it has said what the slider stands at."""
    expect(page.locator("#share-shown")).not_to_be_empty()


def drop(page: Page, selector: str, folder: Path, **beside: str) -> None:
    """The files of a folder, as if dropped with the mouse, and some texts."""
    files = [
        {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in sorted(folder.iterdir())
    ] + [{"name": name, "data": base64.b64encode(text.encode()).decode()} for name, text in beside.items()]
    transfer = page.evaluate_handle(
        """async (files) => {
            const transfer = new DataTransfer();
            for (const { name, data } of files) {
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name));
            }
            return transfer;
        }""",
        files,
    )
    page.dispatch_event(selector, "drop", {"dataTransfer": transfer})


def go_on_after_a_reload(page: Page) -> None:
    """The connection goes after the first piece of the largest file, and with it the page."""

    def stop_midway(route: Route) -> None:
        if int(route.request.headers.get("upload-offset", 0)):
            route.abort()
        else:
            route.continue_()

    files = sorted(tiny_data().iterdir())
    page.route("**/v1/uploads/*", stop_midway)
    page.locator("#dataset-files").set_input_files(files)
    expect(page.get_by_text("waiting for the connection")).to_be_visible()
    page.unroute("**/v1/uploads/*")
    page.reload()
    ready(page)
    expect(page.get_by_text("This upload was interrupted.")).to_be_visible()
    begun: list[str] = []
    page.on("request", lambda asked: begun.append(asked.headers["upload-offset"]) if asked.method == "PATCH" else None)
    page.locator("#dataset-files").set_input_files(files)
    expect(page.locator("#dataset")).to_have_value(re.compile("^dst_"))
    # The first piece is not sent again: only the rest of that file, and those that had not begun.
    assert begun.count(str(PIECE)) == 1
    assert begun.count("0") == sum(path.name > "train.parquet" for path in files)


def sent_by(program: str, folder: Path) -> dict[str, Any]:
    """The body that the client would send if the program were run."""
    sent: list[dict[str, Any]] = []

    class Client:
        def __init__(self, url: str) -> None:
            assert url.startswith("http://127.0.0.1:")

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            assert sent

        def submit(self, model: str, data: str, **fields: Unpack[JobFields]) -> Mock:
            sent.append(body_of(model, data, None, fields))
            return Mock(spec=Job)

    path = folder / "shown.py"
    path.write_text(program)
    with patch("secateur.Secateur", Client):
        runpy.run_path(str(path))
    return sent[0]


def test_the_whole_story(seen: Watched, page: Page, house: tuple[str, str], tmp_path: Path) -> None:
    url, key = house
    # The browser notes refusals that are brought about here: a wrong key, a broken connection, a target out of reach.
    seen.expected += ["401 (Unauthorized)", "net::ERR_FAILED", "422 (Unprocessable"]
    page.goto(url)
    page.get_by_label("Key").fill("sk_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That API key isn't valid")).to_be_visible()
    assert_usable(page, "signin")
    sign_in(page, url, key)
    expect(page.get_by_text("There are no jobs yet.")).to_be_visible()

    # Upload, over a connection that breaks once.
    page.get_by_role("link", name="New job").first.click()
    broken = []

    def break_once(route: Route) -> None:
        if route.request.method == "PATCH" and not broken:
            broken.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/uploads/*", break_once)
    ready(page)
    drop(page, ".source[data-kind=model] .drop", tiny_model(), **{"train.py": "import os", "model.onnx": "graph"})
    expect(page.locator("#model")).to_have_value(re.compile("^mdl_"))
    model = page.locator(".source[data-kind=model] .upload")
    assert model.locator("li", has_text="train.py").inner_text().endswith("skipped, not needed")
    assert "sent" in model.locator("li", has_text="config.json").first.inner_text()
    assert broken
    page.unroute("**/v1/uploads/*")
    go_on_after_a_reload(page)
    assert "model=mdl_" in page.url
    assert "dataset=dst_" in page.url

    # The estimate follows the form; the request is there to copy; what cannot be is said at its field.
    estimate = page.locator("#estimate")
    expect(estimate.get_by_text("All parameters")).to_be_visible()
    page.get_by_role("radio", name="paper").check()
    page.locator("#steps").fill("2")
    expect(estimate.locator("tbody tr")).to_have_count(3)
    expect(estimate.locator("tbody tr").last).to_contain_text("49.6%")
    expect(page.locator("#share-limit")).to_contain_text("up to 74.4%")
    expect(page.locator("#share")).to_have_attribute("max", "74")
    page.locator("#columns_label").evaluate("(field) => field.closest('details').open = true")
    page.locator("#columns_label").fill("nothing")
    wrong = page.locator('.error[data-pointer^="/dataset/columns"]')
    expect(wrong).to_contain_text("Data, column, label: The dataset has no column 'nothing'")
    page.locator("#columns_label").fill("")
    expect(wrong).to_be_hidden()
    page.locator("#columns_label").evaluate("(field) => field.closest('details').open = false")
    page.get_by_role("radio", name="within an accuracy drop").check()
    expect(page.locator("#share")).to_be_hidden()
    page.get_by_label("Allowed accuracy drop").fill("25")
    expect(page.locator('.error[data-pointer="/pruning/target/max_drop"]')).to_contain_text("from 0.01 to 20")
    expect(page.locator("#within")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Allowed accuracy drop").fill("0.7")
    expect(page.locator("#curl")).to_contain_text('"max_drop": 0.007')
    expect(estimate.get_by_text("the result will be between")).to_be_visible()
    page.get_by_role("radio", name="Remove a fixed amount").check()
    expect(page.locator("#share")).to_be_visible()
    page.get_by_label("Epochs after each step").fill("1")
    page.get_by_label("Maximum accuracy drop").fill("30")
    page.get_by_label("Name").fill("half of the heads")
    page.get_by_label("Labels").fill("team=speech")
    page.locator("#others summary").click()
    page.get_by_label("Fields of the request that this form lacks").fill("seed: 7")
    expect(page.locator('.error[data-pointer^="/rest"]')).to_contain_text("Enter a JSON object")
    page.get_by_label("Fields of the request that this form lacks").fill(json.dumps(OTHERS))
    expect(page.locator("#rest-names")).to_have_text(
        ": seed, limits.max_runtime, finetune.learning_rate, evaluate.latency_runs"
    )
    expect(page.locator("#curl")).to_contain_text('"attention_sparsity": 0.5')
    expect(page.locator("#python")).to_contain_text('name="half of the heads"')
    shown = json.loads(page.locator("#curl").inner_text().split("-d '")[1].rstrip("'"))
    JobRequest.model_validate(shown)
    assert sent_by(page.locator("#python").inner_text(), tmp_path) == shown
    expect(estimate.locator("tbody tr")).to_have_count(3)
    assert_usable(page, "new job")
    picture(page, "new", height=1080)
    address = page.url
    page.reload()
    ready(page)
    expect(page.locator("#steps-shown")).to_have_text("2")
    assert page.url == address
    page.get_by_role("button", name="Submit job").click()

    # Live: without a reload the job runs, its phases go by, and its curves grow.
    expect(page).to_have_url(re.compile("/jobs/job_"))
    first = page.url
    page.evaluate("window.untouched = true")
    expect(page.locator("#status .state")).to_have_text("running")
    expect(page.locator("#status progress")).to_be_visible()
    picture(page, "live")
    expect(page.locator("#status .state")).to_have_text("succeeded", timeout=JOB)
    expect(page.locator("table.numbers tbody tr")).to_have_count(3)
    curves_drawn(page, 4)
    assert page.evaluate("window.untouched") is True
    assert_usable(page, "results")
    curves_drawn(page, 4)
    picture(page, "job", height=1240)
    picture(page, "job-dark", height=1240, theme="dark")
    picture(page, "job-narrow", width=360, height=780, theme="dark")

    # Another like it, with the other preset, and one that is cancelled while it runs.
    for name, epochs in (("best, half", "1"), ("too long", "900")):
        page.goto(f"{first}?tab=request")
        page.get_by_role("link", name="New job with these settings").click()
        ready(page)
        if name == "best, half":
            page.get_by_role("radio", name="best").check()
        expect(page.locator("#rest-names")).to_contain_text("seed")
        page.get_by_label("Epochs after each step").fill(epochs)
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Submit job").click()
        expect(page).to_have_url(re.compile("/jobs/job_"))
        if name == "best, half":
            expect(page.locator("#status .state")).to_have_text("succeeded", timeout=JOB)
    # What was changed aside, it is the request of the first.
    before, after = (
        page.request.get(address.replace("/jobs/", "/v1/jobs/")).json()["request"] for address in (first, page.url)
    )
    assert after == before | {"name": "too long", "finetune": before["finetune"] | {"epochs": 900}}
    assert (after["seed"], after["limits"]["max_runtime"], after["finetune"]["learning_rate"]) == (7, 7200, 0.001)
    expect(page.locator(".timeline [aria-current=step]")).to_contain_text("Fine-tuning")
    expect(page.locator("#figure-loss canvas")).to_be_visible()
    picture(page, "running", height=980)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status .state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Delete")).to_be_visible()

    # Every tab.
    for tab in ("layers", "training", "files", "log", "events", "request"):
        page.goto(f"{first}?tab={tab}")
        expect(page.locator(f"#tab[data-tab={tab}]")).to_be_visible()
        assert_usable(page, tab)
        if tab == "training":
            curves_drawn(page, 1)
        if tab == "layers":
            picture(page, "layers")

    # Download one.
    page.goto(f"{first}?tab=files")
    with page.expect_download() as begun:
        page.locator("#download-2").click()
    begun.value.save_as(tmp_path / "step.tar")
    with tarfile.open(tmp_path / "step.tar") as archive:
        assert any(name.endswith("/model.safetensors") for name in archive.getnames())
    with page.expect_response("**/report") as report:
        page.get_by_role("link", name="Report").click()
    assert report.value.status == 200

    # Compare two, chosen in the list.
    page.goto(url)
    expect(page.locator("table.jobs tbody tr")).to_have_count(3)
    page.get_by_label("Compare half of the heads").check()
    page.get_by_label("Compare best, half").check()
    page.wait_for_event("response", lambda answer: answer.request.headers.get("hx-target") == "jobs")
    expect(page.get_by_label("Compare best, half")).to_be_checked()
    assert_usable(page, "jobs")
    picture(page, "jobs", height=620)
    page.get_by_role("button", name="Compare selected").click()
    curves_drawn(page, 5)
    assert_usable(page, "compare")
    picture(page, "compare", height=1000)

    # Filters stand in the address.
    page.goto(url)
    page.get_by_role("checkbox", name="cancelled").check()
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("state=cancelled"))

    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/signin"))
    page.goto(first)
    expect(page).to_have_url(re.compile("/signin"))
