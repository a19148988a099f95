"""The list, a job's tabs, comparisons and the form: what stands on them is what the API says."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api_schemas.enums import JobState, StopReason
from api_schemas.results.display import head_sparsity
from api_schemas.results.events import StepDone
from api_schemas.results.metrics import DropSearch, JobResult, JobWarning, Scores, TriedCut
from service.services import Services
from store.database.tables import Job
from store.jobs import transitions
from store.jobs.transitions import Lease, StepFile
from tests.integration.service.conftest import Stock, claim
from tests.support.jobs.sample_metrics import measured_step
from tests.support.pages import BROWSER, Page

RENEW = {"HX-Request": "true"}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def look(client: TestClient, address: str, **headers: str) -> Page:
    answer = client.get(address, headers=BROWSER | headers)
    assert answer.status_code == 200, answer.text
    return Page(answer)


def finish(services: Services, lease: Lease, steps: int = 2, taken: int | None = None) -> None:
    """Commit measured steps and end the job, as a worker would; `taken` is the step before a drop that was too large."""
    for step in range(steps + 1):
        file = StepFile("report.html", 3, "ab" * 32, f"jobs/{lease.job_id}/step-{step}/report.html")
        metrics = measured_step(step)
        told = (StepDone(folder=f"step-{step}", metrics=metrics),)
        with services.database.write() as session:
            transitions.commit_step(session, lease, metrics, [file] if step else [], downloadable=step > 0, events=told)
    result = JobResult(step=steps, stopped=None, detail=f"All {steps} steps completed.", test=measured_step(0).test)
    if taken is not None:
        result = result.model_copy(
            update={"step": taken, "stopped": StopReason.MAX_DROP, "detail": "It lost too much."}
        )
    with services.database.write() as session:
        transitions.succeed(session, lease, result=result)


def finished(client: TestClient, services: Services, body: dict[str, Any], **changes: Any) -> str:
    made = client.post("/v1/jobs", json=body | changes)
    assert made.status_code == 202, made.text
    finish(services, claim(services))
    return str(made.json()["id"])


def drawn(page_text: str, figure: str) -> dict[str, list[float | None]]:
    """The series of a figure, from the table that is drawn."""
    part = re.search(rf'id="figure-{figure}".*?</figure>', page_text, re.DOTALL)
    assert part is not None, figure
    names = re.findall(r"data-look=[^>]*>([^<]*)</th>", part[0])
    rows = [
        re.findall(r"<td( data-value=\"[^\"]*\")?(?: data-low[^>]*)?>", row)
        for row in re.findall(r"<tr data-x.*?</tr>", part[0])
    ]
    values = [[float(cell.split('"')[1]) if cell else None for cell in row[-len(names) :]] for row in rows]
    return {name: [row[number] for row in values] for number, name in enumerate(names)}


def test_an_empty_list_says_what_to_do(client: TestClient) -> None:
    page = look(client, "/")
    assert "There are no jobs yet." in page.text
    assert page.all("a", href="/new")


def test_the_list_shows_states_places_and_results(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    done = finished(client, services, job_body, name="first", labels={"team": "speech"})
    waiting = client.post("/v1/jobs", json=job_body).json()["id"]
    page = look(client, "/")
    assert "number 1 in the queue" in page.text
    assert "91.0%" in page.text
    assert "accuracy; was 95.0%" in page.text
    assert "team=speech" in page.text
    assert {f"/jobs/{done}", f"/jobs/{waiting}"} <= set(page.addresses())
    assert page.all("div", id="jobs", hx_trigger="every 2s")


def test_filters_stand_in_the_address(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    done = finished(client, services, job_body, labels={"team": "speech"})
    waiting = client.post("/v1/jobs", json=job_body).json()["id"]
    for query, shown, hidden in (
        ("?state=queued", waiting, done),
        ("?state=succeeded&state=failed&label=", done, waiting),
        ("?label=team%3Dspeech", done, waiting),
    ):
        page = look(client, f"/{query}")
        assert f"/jobs/{shown}" in set(page.addresses()), query
        assert f"/jobs/{hidden}" not in set(page.addresses()), query
        [listing] = page.all("div", id="jobs")
        assert listing["hx-get"] == f"/{query}"
    assert [box["value"] for box in look(client, "/?state=queued").all("input", type="checkbox", checked="")] == [
        "queued"
    ]
    assert "is not a valid label" in look(client, "/?label=%20UPPER").text
    assert "No jobs match." in look(client, "/?state=paused").text


def test_two_hundred_jobs_are_pages_of_fifty(client: TestClient, job_body: dict[str, Any]) -> None:
    made = [client.post("/v1/jobs", json=job_body).json()["id"] for _ in range(120)]
    address, seen = "/?state=queued", []
    while address:
        page = look(client, address)
        rows = [box["value"] for box in page.all("input", name="job")]
        assert len(rows) <= 50
        seen += rows
        older = [link["href"] for link in page.all("a", class_="button") if "cursor" in link["href"]]
        assert all("state=queued" in link for link in older)
        address = older[0] if older else ""
    assert seen == made[::-1]


def test_a_part_is_renewed_by_itself(client: TestClient, job_id: str) -> None:
    rows = client.get("/", headers=RENEW | {"HX-Target": "jobs"})
    assert Page(rows).all("div", id="jobs")
    assert "<html" not in rows.text
    head = client.get(f"/jobs/{job_id}", headers=RENEW | {"HX-Target": "status"})
    assert Page(head).all("section", id="status")
    assert "<html" not in head.text
    tab = client.get(f"/jobs/{job_id}?tab=log", headers=RENEW | {"HX-Target": "tab"})
    assert Page(tab).all("section", id="tab", data_tab="log")
    assert all("HX-Target" in answer.headers["vary"] for answer in (rows, head, tab))


def test_results_are_the_numbers_of_the_api(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    job_id = finished(client, services, job_body, stop={"max_drop": 0.05})
    metrics = client.get(f"/v1/jobs/{job_id}").json()["metrics"]
    answer = client.get(f"/jobs/{job_id}", headers=BROWSER)
    curves = drawn(answer.text, "tradeoff")
    accuracy = [step["validation"]["accuracy"] for step in metrics]
    assert curves["after recovery, validation"] == accuracy
    assert curves["before recovery, validation"] == [
        None, *(step["validation_before_recovery"]["accuracy"] for step in metrics[1:])
    ]  # fmt: skip
    assert curves["original, validation"] == [accuracy[0]] * 3
    assert curves["lowest allowed"] == [pytest.approx(accuracy[0] - 0.05)] * 3
    assert drawn(answer.text, "speed")["batch 8"] == [step["latency"][1]["speedup"] for step in metrics]
    # Step 2 at batch 1 was not measurable: no point, and words for a number.
    assert drawn(answer.text, "speed")["batch 1"] == [1.0, 1.2, None]
    assert answer.text.count("not measurable here (0.98 to 1.82×)") == 1
    assert "not measurable (0.98× to 1.82×)" in answer.text
    assert "1.20× (1.17 to 1.23×)" in answer.text
    assert drawn(answer.text, "times")["batch 8"] == [step["latency"][1]["p50_ms"] / 8 for step in metrics]
    sizes = [step["size"]["file_bytes"] for step in metrics]
    assert drawn(answer.text, "size")["file"] == [size / sizes[0] for size in sizes]
    page = Page(answer)
    assert "Recommended: step 2. All 2 steps completed." in page.text
    assert "+1.00 points" in page.text
    # A text alternative for every figure.
    assert len(page.all("figure", class_="plot card")) == len(page.all("details")) == 4


def test_a_job_without_recovery_has_one_curve_of_validation(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    job_id = finished(client, services, job_body, finetune=None)
    curves = drawn(client.get(f"/jobs/{job_id}", headers=BROWSER).text, "tradeoff")
    assert "validation" in curves
    assert not [name for name in curves if "recovery" in name]


def test_a_job_that_stopped_shows_the_step_that_was_taken(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    job_id = client.post("/v1/jobs", json=job_body | {"stop": {"max_drop": 0.03}}).json()["id"]
    finish(services, claim(services), taken=1)
    page = look(client, f"/jobs/{job_id}")
    assert "Recommended: step 1. It lost too much." in page.text
    assert "Stopped before the target was reached." in page.text
    opening = page.text.split("Accuracy against")[0]
    assert "1.20× faster at batch 1 (1.17 to 1.23×)" in opening
    assert "1.40×" not in opening
    assert len(page.all("tr", class_="chosen")) == 1
    assert "93.0%" in look(client, "/").text


def test_what_is_to_be_known_of_the_data_is_said(client: TestClient, services: Services, job_id: str) -> None:
    found = JobWarning(code="shared_rows", pointer="/dataset/splits/test", detail="7 rows are in <train>, too.")
    with services.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(warnings=(found,)))
    assert "Warning: 7 rows are in <train>, too." in look(client, f"/jobs/{job_id}").text


def test_maps_show_every_layer_and_every_head_of_the_original(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    job_id = finished(client, services, job_body)

    def cells(address: str, name: str) -> list[str]:
        text = client.get(address, headers=BROWSER).text
        part = re.search(rf'aria-labelledby="{name}">\s*<thead.*?</table>', text, re.DOTALL)
        assert part is not None, name
        return re.findall(r'<td class="h\d+">([^<]*)</td>', part[0])

    assert cells(f"/jobs/{job_id}?tab=layers", "layers-qk") == ["0", "25", "0", "50"]
    for step in (1, 2):
        measured = measured_step(step)
        for pair in ("QK", "VO"):
            shares = head_sparsity(measured_step(0).widths, measured.widths, pair)  # type: ignore[arg-type]
            wanted = [f"{100 * share:.0f}" for row in shares for share in row]
            assert cells(f"/jobs/{job_id}?tab=layers&step={step}", f"heads-{pair.lower()}") == wanted
    assert cells(f"/jobs/{job_id}?tab=layers", "sensitivity-metric") == ["5.0", "25.0", "0.0", "-1.0"]
    assert cells(f"/jobs/{job_id}?tab=layers", "sensitivity-loss") == ["0.10", "0.70", "0.00", "-0.01"]
    assert client.get(f"/jobs/{job_id}?tab=layers&step=7", headers=BROWSER).status_code == 404


def test_recovery_downloads_events_and_request(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    job_id = finished(client, services, job_body)
    losses = drawn(client.get(f"/jobs/{job_id}?tab=training", headers=BROWSER).text, "loss")
    assert losses == {"step 1": [0.6, 0.3], "step 2": [0.6, 0.3]}
    files = look(client, f"/jobs/{job_id}?tab=files")
    here = f"/v1/jobs/{job_id}"
    wanted = {f"{here}/report", *(f"{here}/checkpoints/{step}/archive" for step in (1, 2))}
    assert wanted | {f"{here}/checkpoints/1/files/report.html"} <= set(files.addresses())
    events = look(client, f"/jobs/{job_id}?tab=events")
    assert "step 2: 25.0% of attention removed, validation accuracy 91.0%" in events.text
    assert '"attention_sparsity": 0.5' in look(client, f"/jobs/{job_id}?tab=request").text


def test_another_like_it_is_the_form_with_what_was_asked(
    client: TestClient, stock: Stock, job_body: dict[str, Any]
) -> None:
    pruning = {"preset": "paper", "target": {"flops": 0.2}, "schedule": {"steps": 4}}
    pruning |= {"layout": "stock", "granularity": "per_head"}
    more = {
        "finetune": None,
        "stop": {"max_drop": 0.025},
        "exports": ["onnx"],
        "labels": {"team": "speech", "urgent": ""},
    }
    answer = client.post("/v1/jobs", json={**job_body, "pruning": pruning, **more})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    [link] = look(client, f"/jobs/{job_id}?tab=request").all("a", id="like")
    form = look(client, link["href"])
    chosen = {box["value"] for box in (*form.all("input", checked=""), *form.all("option", selected=""))}
    assert {stock.model_id, stock.dataset_id, "paper", "flops", "attention", "stock", "onnx"} <= chosen
    values = {name: form.all("input", id=name)[0]["value"] for name in ("share", "steps", "epochs", "drop", "labels")}
    assert values == {"share": "20", "steps": "4", "epochs": "0", "drop": "2.5", "labels": "team=speech, urgent"}
    assert not form.all("details", id="others", open="")
    # What the address says besides comes before what the job asked for; a link to try again without exports does so.
    changed = look(client, f"{link['href']}&exports=&epochs=2&rest=%7B%22seed%22:7%7D")
    assert "onnx" not in {box["value"] for box in changed.all("input", checked="")}
    assert changed.all("input", id="epochs")[0]["value"] == "2"
    assert changed.all("details", id="others", open="")
    assert '"seed": 7' in changed.text


def test_a_bound_on_the_drop_is_shown_as_what_was_asked_and_what_was_tried(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    pruning = {"target": {"max_drop": 0.015, "of": "parameters"}, "parts": ["attention", "feed_forward"]}
    made = client.post("/v1/jobs", json={**job_body, "pruning": pruning})
    assert made.status_code == 202, made.text
    job_id = made.json()["id"]
    held, lost = (
        TriedCut(
            requested=share,
            achieved=share,
            validation=Scores(samples=120, accuracy=0.95 - drop),
            drop=drop,
            within=within,
        )
        for share, drop, within in ((0.25, 0.005, True), (0.375, 0.03, False))
    )
    search = DropSearch(of="parameters", max_drop=0.015, reach=0.5, tried=(held, lost))
    lease = claim(services)
    for step in (0, 1):
        metrics = measured_step(step).model_copy(update={"search": None if step else search})
        told = (StepDone(folder=f"step-{step}", metrics=metrics),)
        with services.database.write() as session:
            transitions.commit_step(session, lease, metrics, [], downloadable=step > 0, events=told)
    with services.database.write() as session:
        result = JobResult(step=1, stopped=None, detail="It holds.", test=None)
        transitions.succeed(session, lease, result=result)
    page = client.get(f"/jobs/{job_id}", headers=BROWSER).text
    assert "the smallest model by parameters that loses no more than 1.5 points on validation, 1 step<" in page
    sentence = (
        "the largest within the bound removes 25.00% of the original parameters and loses 0.50 points on validation."
    )
    assert sentence in page
    tried = re.search(r'aria-labelledby="tried".*?</table>', page, re.DOTALL)
    assert tried is not None
    rows = [re.findall(r"<td>([^<]*)</td>", row) for row in tried[0].split("<tr>")[2:]]
    assert rows == [
        ["25.0%", "25.0%", "94.5%", "0.50 points", "within"], ["37.5%", "37.5%", "92.0%", "3.00 points", "exceeded"],
    ]  # fmt: skip
    assert drawn(page, "tradeoff")["lowest allowed"] == [pytest.approx(0.95 - 0.015)] * 2
    assert "≤ 1.5 points" in client.get("/", headers=BROWSER).text
    other = finished(client, services, job_body)
    assert "≤ 1.5 points drop, by parameters" in client.get(f"/compare?job={job_id}&job={other}", headers=BROWSER).text
    [link] = look(client, f"/jobs/{job_id}?tab=request").all("a", id="like")
    form = look(client, link["href"])
    assert "within" in {box["value"] for box in form.all("input", checked="")}
    assert form.all("input", id="within")[0]["value"] == "1.5"
    assert "parameters" in {option["value"] for option in form.all("option", selected="")}


def test_buttons_are_those_that_can_be_pressed(client: TestClient, services: Services, job_id: str) -> None:
    def buttons() -> set[str]:
        page = look(client, f"/jobs/{job_id}")
        return {
            button["id"] for button in page.all("button") if button.get("id") in ("pause", "resume", "cancel", "delete")
        }

    assert buttons() == {"pause", "cancel"}
    client.post(f"/v1/jobs/{job_id}/pause")
    assert buttons() == {"resume", "cancel"}
    client.post(f"/v1/jobs/{job_id}/resume")
    claim(services)
    assert buttons() == {"pause", "cancel"}
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert buttons() == set()
    with services.database.write() as session:
        session.execute(update(Job).values(state=JobState.CANCELLED))
    assert buttons() == {"delete"}


def test_two_to_four_jobs_are_compared(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    first = finished(client, services, job_body, name="same")
    second = finished(client, services, job_body, name="same")
    answer = client.get(f"/compare?job={first}&job={second}", headers=BROWSER)
    curves = drawn(answer.text, "tradeoff")
    assert list(curves) == [f"same …{job[-6:]}" for job in (first, second)]
    assert list(curves.values()) == [[step.validation.accuracy for step in map(measured_step, range(3))]] * 2
    assert drawn(answer.text, "speed-8")
    # What is not measurable is seen as an interval: of the two steps of each job.
    assert answer.text.split('id="figure-speed-1"')[1].split("</figure>")[0].count("data-low") == 4
    # A job without a step has no curve, and none of the colours.
    empty = client.post("/v1/jobs", json=job_body).json()["id"]
    page = look(client, f"/compare?job={empty}&job={first}&job={second}")
    assert [each["class"] for each in page.all("svg") if "swatch" in each.get("class", "")] == [
        "swatch s0",
        "swatch s1",
    ]
    client.post(f"/v1/jobs/{empty}/cancel")
    alone = look(client, f"/compare?job={first}")
    assert "Select 2 to 4 jobs" in alone.text
    assert [box["value"] for box in alone.all("input", name="job", checked="")] == [first]
    several = [finished(client, services, job_body) for _ in range(3)]
    many = look(client, "/compare?" + "&".join(f"job={job}" for job in (first, second, *several)))
    assert "5 jobs are selected; you can compare at most 4" in many.text
    assert not many.all("figure", class_="plot card")


def test_what_is_left_to_a_model_of_the_hub_is_said_so(client: TestClient, job_body: dict[str, Any]) -> None:
    """Nor does JSON say it: programs of before take what is not there for the preset's."""
    hub = {"type": "hf", "id": "someone/speech", "revision": "0" * 40}
    first, second = (client.post("/v1/jobs", json=job_body | {"model": hub}).json() for _ in range(2))
    assert "criterion" not in first["request"]["pruning"]
    assert client.get(f"/v1/jobs/{first['id']}").json()["request"]["pruning"]["align"] is None
    assert (
        "default criterion for the model"
        in client.get(f"/compare?job={first['id']}&job={second['id']}", headers=BROWSER).text
    )


def test_the_form_is_filled_in_as_the_address_says(client: TestClient, stock: Stock) -> None:
    query = f"model={stock.model_id}&dataset={stock.dataset_id}&preset=paper&kind=flops&share=30&steps=4&name=mine&exports=onnx"
    page = look(client, f"/new?{query}")
    chosen = {option["value"] for option in page.all("option", selected="")}
    assert chosen == {stock.model_id, stock.dataset_id, "flops", "both"}
    ticked = {box["value"] for box in page.all("input", checked="")}
    assert ticked == {"paper", "onnx", "share", "upload"}
    assert page.all("input", id="share")[0]["value"] == "30"
    assert page.all("input", id="name")[0]["value"] == "mine"
    assert look(client, f"/new?model=mdl_{'a' * 26}").all("select", id="model")


def test_a_sweep_is_a_table_with_its_fronts(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    assert "There are no sweeps" in look(client, "/sweeps").text
    body = {"model": job_body["model"], "dataset": job_body["dataset"], "name": "<i>seeds</i>"}
    shares = {"pruning.target.attention_sparsity": [0.25, 0.5]}
    sweep = client.post("/v1/sweeps", json=body | {"grid": shares}).json()
    address = f"/sweeps/{sweep['id']}"
    assert "2 queued" in look(client, address).text
    for _ in sweep["rows"]:
        finish(services, claim(services))
    page = look(client, address)
    assert "attention_sparsity=0.25" in page.text
    assert "Accuracy against FLOPs" in page.text
    # Equally good and equally cheap: none is beaten, so nothing speaks of those that are.
    assert "dominated" not in page.text
    assert "<i>seeds" not in client.get(address, headers=BROWSER).text
    part = client.get(address, headers=BROWSER | RENEW | {"HX-Target": "sweep"}).text
    assert part.lstrip().startswith('<section id="sweep"')
    assert "every 5s" not in part
    assert sweep["id"] in client.get("/sweeps", headers=BROWSER).text
    missing = client.get(f"/sweeps/swp_{'a' * 26}", headers=BROWSER)
    assert missing.status_code == 404
