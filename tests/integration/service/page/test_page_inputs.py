"""Models, datasets, lineage, workers and the form's sources: what stands on these pages is what the API says, to its owner."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api_schemas.enums import DeviceKind, JobState
from api_schemas.spec.job import JobRequest
from service.page.form_fields import Filled
from service.page.rerun import asked_of, fields_of, settling
from service.services import Services
from store.database.tables import Job, Upload
from store.jobs.workers.live_workers import Announcement, announce
from tests.integration.service.conftest import Stock, claim
from tests.integration.service.page.test_page_answers import HOSTILE
from tests.integration.service.page.test_page_jobs import finish, finished, look
from tests.support.pages import BROWSER, Page
from tests.support.uploads import checkpoint_files, declared, send, table


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def facts(page_text: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page_text))


def test_a_model_says_what_is_inside_and_what_was_made_of_it(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    layout = client.get(f"/v1/models/{stock.model_id}").json()["layout"]
    assert f"/models/{stock.model_id}" in set(look(client, "/models").addresses())
    address = f"/models/{stock.model_id}"
    assert "No job has pruned it yet." in look(client, address).text
    waiting = client.post("/v1/jobs", json=job_body | {"name": "in the way"}).json()["id"]
    page = look(client, address)
    assert "In use, so it cannot be deleted: in the way (queued)" in page.text
    assert not page.all("button", id="delete")
    finish(services, claim(services))
    page = look(client, address)
    shown = facts(client.get(address, headers=BROWSER).text)
    assert shown["Class"] == layout["architecture"]
    assert shown["Attention layers"] == str(len(layout["widths"]["layers"]))
    assert {layout["labels"][0], layout["labels"][-1]} <= set(page.words)
    assert f"/jobs/{waiting}" in set(page.addresses())
    [button] = page.all("button", id="delete")
    assert client.delete(button["hx-delete"]).status_code == 204
    assert button["data-then"] == "/models"
    assert Page(client.get(address, headers=BROWSER)).status == 410
    assert address not in set(look(client, "/models").addresses())


def test_a_dataset_says_what_is_inside_and_who_used_it(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    contents = client.get(f"/v1/datasets/{stock.dataset_id}").json()["contents"]
    used = finished(client, services, job_body, name="user")
    address = f"/datasets/{stock.dataset_id}"
    assert address in set(look(client, "/datasets").addresses())
    text = client.get(address, headers=BROWSER).text
    assert facts(text)["Rows"] == str(sum(contents["rows"].values()))
    splits = re.search(r'<table class="splits">.*?</table>', text, re.DOTALL)
    assert splits is not None
    rows = dict(re.findall(r'<th scope="row">([^<]*)</th><td class="number">(\d+)</td>', splits[0]))
    assert rows == {split: str(count) for split, count in contents["rows"].items()}
    page = look(client, address)
    assert set(contents["labels"]) <= set(page.words)
    assert f"/jobs/{used}" in set(page.addresses())
    # One more dataset, which nobody has used, lists no job.
    other = client.post("/v1/datasets", json={"files": [{"name": "train.parquet", "size": 1, "sha256": "ab" * 32}]})
    page = look(client, f"/datasets/{other.json()['id']}")
    assert "No job has used it yet." in page.text
    assert "0 of 1 files uploaded" in look(client, "/datasets").text


def test_a_job_leads_to_what_it_was_made_from(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    first = finished(client, services, job_body)
    page = look(client, f"/jobs/{first}")
    assert {f"/models/{stock.model_id}", f"/datasets/{stock.dataset_id}", f"/lineage/{first}"} <= set(page.addresses())
    second = finished(client, services, job_body)
    request = client.get(f"/v1/jobs/{second}").json()["request"]
    hub = {"type": "hf", "id": "owner/name", "revision": "a" * 40}
    for model, words, address in (
        ({"type": "step", "job": first, "step": 1}, f"step 1 of {first}", f"/jobs/{first}/steps/1"),
        ({"type": "s3", "bucket": "b", "prefix": "models/ast"}, "models/ast in the bucket b", None),
        (hub, "owner/name on Hugging Face", None),
    ):
        changed = JobRequest.model_validate(request | {"model": model, "dataset": hub})
        with services.database.write() as session:
            session.execute(update(Job).where(Job.id == second).values(request=changed))
        page = look(client, f"/jobs/{second}")
        assert words in page.text
        assert address is None or address in set(page.addresses())
        assert "Data owner/name on Hugging Face" in page.text
    # What is gone has no page.
    client.delete(f"/v1/models/{stock.model_id}")
    page = look(client, f"/jobs/{first}")
    assert f"{stock.model_id}, deleted" in page.text
    assert f"/models/{stock.model_id}" not in set(page.addresses())


def test_a_dataset_of_questions_shows_answers_and_train_comes_first(client: TestClient) -> None:
    strings, context = pa.list_(pa.string()), "Anna was born in Bonn."
    answers = pa.struct([("text", strings), ("answer_start", pa.list_(pa.int32()))])
    rows = [{"text": ["Bonn"], "answer_start": [17]}, {"text": [], "answer_start": []}]
    asked = {"question": (pa.string(), ["where", "why"]), "context": (pa.string(), [context] * 2)}
    data = table(**asked, answers=(answers, rows))
    sent = send(client, "datasets", {"test.parquet": data, "train.parquet": data, "validation.parquet": data})
    page = look(client, f"/datasets/{sent.json()['id']}")
    assert "Answers answers" in page.text
    assert "Mean length 26 characters" in page.text
    assert page.text.count("Answer: Bonn") == page.text.count("No answer in the text.") == 3
    places = [words for words in page.words if ", row " in words]
    assert [place.split(",")[0] for place in places] == ["train", "train", "validation", "validation", "test", "test"]
    # Labels are no answers.
    labelled = table(text=(pa.string(), ["a", "b"]), label=(pa.string(), ["x", "y"]))
    page = look(client, f"/datasets/{send(client, 'datasets', {'train.parquet': labelled}).json()['id']}")
    assert "Label column label" in page.text
    assert "nswer" not in page.text


def test_lineage_is_what_came_from_which(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    """A job goes on from a step of another; its row alone is changed, since the step's files are not there to be read."""
    first = finished(client, services, job_body, name="first cut")
    second = finished(client, services, job_body, name="second cut")
    step = {"type": "step", "job": first, "step": 1}
    request = JobRequest.model_validate(client.get(f"/v1/jobs/{second}").json()["request"] | {"model": step})
    with services.database.write() as session:
        session.execute(update(Job).where(Job.id == second).values(model_id=first, request=request))
    page = look(client, f"/models/{stock.model_id}")
    assert "from step 1" in page.text
    links = [address for address in page.addresses() if address.startswith("/jobs/")]
    steps = {job: [f"/jobs/{job}/steps/{step}" for step in (1, 2)] for job in (first, second)}
    assert links == [f"/jobs/{first}", *steps[first], f"/jobs/{second}", *steps[second]]
    lineage = look(client, f"/lineage/{second}")
    assert [link["href"] for link in lineage.all("a", aria_current="true")] == [f"/jobs/{second}"]
    assert {f"/models/{stock.model_id}", f"/jobs/{first}"} <= set(lineage.addresses())
    # What is left out is said.
    more = "More jobs started from its steps than are shown here."
    assert more not in lineage.text
    third = finished(client, services, job_body, name="third cut")
    with services.database.write() as session:
        session.execute(update(Job).where(Job.id == third).values(model_id=first, request=request))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("service.page.inputs.lineage.MOST_JOBS", 1)
        narrow = look(client, f"/lineage/{first}")
    links = [address for address in narrow.addresses() if re.fullmatch("/jobs/[^/]+", address)]
    assert links == [f"/jobs/{first}", f"/jobs/{first}", f"/jobs/{third}"]
    assert more in narrow.text
    client.delete(f"/v1/jobs/{third}")
    client.delete(f"/v1/jobs/{first}")
    assert f"a step of {first} , which was deleted" in look(client, f"/lineage/{second}").text
    assert look(client, f"/new?model_from=step&model_step={second}/2").all("option", value=f"{second}/2", selected="")
    asked = fields_of(request, settling(services, request.model))
    assert (asked["model_from"], asked["model_step"]) == ("step", f"{first}/1")


def test_who_runs_what_and_what_waits_and_why(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    assert "There are no workers, so no job can run." in look(client, "/workers").text
    worker = Announcement("w1", "gpu-1", "host-1", DeviceKind.CUDA, "H200", 10**9, 2 * 10**9)
    with services.database.write() as session:
        announce(session, worker, 60)
    running = client.post("/v1/jobs", json=job_body | {"name": "now"}).json()["id"]
    claim(services)
    client.post("/v1/jobs", json=job_body | {"name": "next", "limits": {"device": "cpu"}})
    with services.database.write() as session:
        session.execute(update(Job).where(Job.id == running).values(worker="w1"))
    page = look(client, "/workers")
    assert "gpu-1 host-1 busy" in page.text
    assert page.text.count("now") == 2
    [waiting] = client.get("/v1/jobs?state=queued").json()["items"]
    assert waiting["waiting_reason"]
    assert waiting["waiting_reason"] in page.text
    part = client.get("/workers", headers={"HX-Request": "true", "HX-Target": "workers"})
    assert Page(part).all("section", id="workers")
    assert "<html" not in part.text


def test_the_slider_goes_as_far_as_a_job_would(client: TestClient, stock: Stock, job_body: dict[str, Any]) -> None:
    def reach(**query: str) -> dict[str, float | None]:
        answer = client.get("/new/reach", params={"model": stock.model_id, **query})
        assert answer.status_code == 200, answer.text
        found: dict[str, float | None] = answer.json()
        return found

    def estimate(target: dict[str, float], **pruning: Any) -> int:
        body = job_body | {"pruning": {"target": target, **pruning}}
        return client.post("/v1/jobs:estimate", json=body).status_code

    for preset, kind, parts in (
        ("paper", "attention_sparsity", ""),
        ("best", "attention_sparsity", ""),
        ("paper", "flops", "attention"),
        ("best", "flops", "both"),
        ("best", "parameters", "feed_forward"),
        ("best", "latency", "both"),
    ):
        most = reach(preset=preset, kind=kind, parts=parts)["most"]
        assert most is not None
        said = {"preset": preset}
        if parts:
            said |= {"parts": {"both": ["attention", "feed_forward"]}.get(parts, [parts])}
        assert estimate({kind: most / 100}, **said) == 200, (preset, kind, parts, most)
        if most < 95:
            # A structure of a model this small is some percent of it.
            assert estimate({kind: min(0.999, most / 100 + 0.2)}, **said) == 422, (preset, kind, parts, most)
    assert reach(kind="nonsense") == reach(kind="flops", parts="both", layout="stock") == {"least": None, "most": None}
    assert reach(only="encoder") == reach(only="nonsense") == {"least": None, "most": None}
    assert reach(model_from="step", model_step=f"job_{'a' * 26}/{'9' * 5000}") == {"least": None, "most": None}
    assert client.get("/new/reach", params={"model": f"mdl_{'a' * 26}"}).status_code == 404


def test_a_request_comes_back_as_the_form_that_asks_for_it(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    asked = {
        **job_body,
        "name": "half",
        "dataset": {
            **job_body["dataset"],
            "columns": {"label": "word", "label_ids": True}, "splits": {"validation": "dev", "test": "two  spaces"},
        },
        "pruning": {
            "target": {"flops": 0.345}, "parts": ["attention", "feed_forward"], "criterion": "fisher", "only": "encoder",
            "calibration": {"samples": 64, "draws": 2}, "exclude_layers": [1], "neuron_selection": "ranked",
        },
        "finetune": {"epochs": 2, "learning_rate": 1e-4},
        "limits": {"max_runtime": "6h"},
        "labels": {"team": "speech", "said": "yes, no"},
        "seed": 7,
    }  # fmt: skip
    request = JobRequest.model_validate(asked)
    fields = fields_of(request, settling(services, request.model))
    rest = json.loads(fields.pop("rest"))
    # `neuron_selection` is what it is without being named, since the criterion is.
    assert fields == {
        "model": stock.model_id, "dataset": stock.dataset_id, "preset": "best", "kind": "flops", "parts": "both", "share": "34.5",
        "epochs": "2", "criterion": "fisher", "only": "encoder", "calibration_samples": "64",
        "columns_label": "word", "splits_validation": "dev",
        "name": "half", "labels": "team=speech",
    }  # fmt: skip
    assert rest == {
        "dataset": {"columns": {"label_ids": True}, "splits": {"test": "two  spaces"}},
        "pruning": {"calibration": {"draws": 2}, "exclude_layers": [1]},
        "finetune": {"learning_rate": 1e-4},
        "limits": {"max_runtime": 21600},
        "labels": {"said": "yes, no"},
        "seed": 7,
    }
    assert fields.keys() <= set(Filled.model_fields)
    # A slider of whole percents would round it.
    for share, step in (("50", "1"), ("12.5", "any")):
        [slider] = look(client, f"/new?share={share}").all("input", id="share")
        assert (slider["value"], slider["step"]) == (share, step)
    hub = {"type": "hf", "id": "owner/name", "revision": "0" * 40}
    request = JobRequest.model_validate({**job_body, "model": hub, "dataset": hub | {"config": "en"}})
    other = fields_of(request, settling(services, request.model))
    assert (other["model_from"], other["model_hub"], other["dataset_config"]) == ("hf", "owner/name", "en")
    assert "rest" not in other


@pytest.mark.parametrize(
    "pruning",
    [
        {"target": {"attention_sparsity": 0.5, "ffn_sparsity": 0.25}, "align": 1},
        {"target": {"flops": 0.1}, "parts": ["attention"], "criterion": "fisher_gate"},
        {"target": {"attention_sparsity": 1 / 3}, "preset": "paper", "schedule": {"steps": 20}, "min_heads": 0},
        {"target": {"max_drop": 0.007}, "layout": "stock", "granularity": "entire_head", "compensation": "none"},
    ],
)
def test_nothing_of_a_request_is_lost_between_fields_and_rest(
    services: Services, job_body: dict[str, Any], pruning: dict[str, Any]
) -> None:
    """What can be left out is found by trying; what is left, in fields or rest, has to make the same job."""
    request = JobRequest.model_validate({**job_body, "pruning": pruning})
    settle = settling(services, request.model)
    stored = settle(request)
    left = asked_of(stored, settle)
    assert settle(JobRequest.model_validate(left)) == stored
    assert left.keys() <= job_body.keys() | {"pruning"}


@pytest.mark.parametrize("field", ["model_upload", "dataset_upload"])
def test_an_address_continues_an_upload_and_nothing_else(client: TestClient, stock: Stock, field: str) -> None:
    own = {"model_upload": stock.model_id, "dataset_upload": stock.dataset_id}[field]
    assert look(client, f"/new?{field}={own}").all("fieldset", data_upload=own)
    for other in (f"../jobs/job_{'a' * 26}", f"{own}/files", "..", f"job_{'a' * 26}"):
        assert client.get("/new", params={field: other}).status_code == 422, other


def test_strangers_names_are_words_on_every_page(
    client: TestClient, services: Services, stock: Stock, job_body: dict[str, Any]
) -> None:
    finished(client, services, job_body, name=HOSTILE)
    with services.database.write() as session:
        session.execute(update(Upload).values(name=HOSTILE))
        session.execute(update(Job).values(state=JobState.SUCCEEDED))
    opened = client.post("/v1/models", json={"name": HOSTILE, "files": declared(checkpoint_files())}).json()["id"]
    [job] = client.get("/v1/jobs").json()["items"]
    for address in (
        *("/models", "/datasets", "/workers", "/new", f"/models/{opened}", f"/models/{stock.model_id}"),
        *(
            f"/datasets/{stock.dataset_id}",
            f"/lineage/{job['id']}",
            f"/new?model_step={HOSTILE}&columns_label={HOSTILE}",
            f"/new?rest={HOSTILE}",
            # Half of a surrogate pair, which no answer in UTF-8 can hold.
            '/new?rest={"a": "\\ud800"}',
            f"/new?like={job['id']}",
        ),
    ):
        answer = client.get(address, headers=BROWSER)
        page = Page(answer)
        assert answer.status_code == 200, address
        assert [element for element, _ in page.elements].count("h1") == 1, address
        assert "\u202e" not in answer.text, address
        assert "<script>alert" not in answer.text, address
        assert "<img" not in answer.text, address


def test_without_uploads_the_form_says_how_to_come_by_samples(client: TestClient) -> None:
    assert "demo.inputs" not in look(client, "/new").text
    for kind in ("models", "datasets"):
        for each in client.get(f"/v1/{kind}").json()["items"]:
            client.delete(f"/v1/{kind}/{each['id']}")
    assert "demo.inputs" in look(client, "/new").text
    assert "No checkpoint has been uploaded yet." in look(client, "/models").text
    assert "No data has been uploaded yet." in look(client, "/datasets").text
