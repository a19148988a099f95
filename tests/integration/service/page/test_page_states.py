"""What a job's page opens with in every state: the answer, the timeline, the error and what to do."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.api.resources import JobError
from api_schemas.enums import Phase
from api_schemas.errors import ErrorCode, ErrorItem
from api_schemas.results.answer import answer
from api_schemas.results.events import Loss, PhaseChanged
from service.core.jobs import jobs
from service.services import Services
from store.jobs import transitions
from tests.integration.service.conftest import claim
from tests.integration.service.page.test_page_jobs import drawn, finish
from tests.support.jobs.sample_jobs import SampleJobs, fill
from tests.support.pages import BROWSER, Page


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def samples(services: Services) -> SampleJobs:
    return fill(services.database)


def look(client: TestClient, address: str) -> Page:
    answer = client.get(address, headers=BROWSER)
    assert answer.status_code == 200, answer.text
    return Page(answer)


def test_a_finished_job_opens_with_its_answer(client: TestClient, services: Services, samples: SampleJobs) -> None:
    page = look(client, f"/jobs/{samples.finished}")
    job = jobs.get(services, samples.finished)
    found = answer(job.metrics, job.result, job.request)
    assert found is not None
    opening = page.text.split("Accuracy against")[0]
    assert found.sentence in opening
    assert "Accuracy, test" in opening
    [download] = page.all("a", id="download")
    assert download["href"] == f"/v1/jobs/{samples.finished}/checkpoints/2/archive"
    # Nobody can say which class a model has that is not there: the client finds out.
    assert f'from secateur import load model = load("{samples.finished}-step-2", trust_remote_code=True)' in opening
    # The axis covers ten points at least, and the interval of 1,200 samples is drawn around the original.
    [figure] = page.all("figure", id="figure-tradeoff")
    assert figure["data-least"] == "0.1"
    band = page.all("td", data_value="0.918")[-1]
    assert float(band["data-low"]) < 0.918 < float(band["data-high"])
    [loss] = drawn(client.get(f"/jobs/{samples.finished}?tab=training", headers=BROWSER).text, "loss").values()
    assert loss == pytest.approx([0.4, 0.3])


def test_a_model_that_is_known_is_loaded_by_its_class(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    made = client.post("/v1/jobs", json=job_body).json()["id"]
    finish(services, claim(services))
    lines = f'model = AutoModelForAudioClassification.from_pretrained("{made}-step-2", trust_remote_code=True)'
    assert f"from transformers import AutoModelForAudioClassification {lines}" in look(client, f"/jobs/{made}").text


def test_nothing_removed_is_no_green_success(client: TestClient, samples: SampleJobs) -> None:
    page = look(client, f"/jobs/{samples.unchanged}")
    assert "Nothing was removed: accuracy on validation was 3.8 points lower" in page.text
    assert page.all("span", class_="state unchanged")
    assert not page.all("span", class_="state succeeded")
    assert not page.all("a", id="download")
    # In the list the original's number is said to be the original's.
    assert "91.8% accuracy, validation; original" in look(client, "/").text


def test_a_running_job_is_never_empty(client: TestClient, samples: SampleJobs) -> None:
    answer = client.get(f"/jobs/{samples.running}", headers=BROWSER)
    page = Page(answer)
    timeline = page.text.split("Target")[0]
    for words in ("Original Starting 0 s Preparing data 0 s Evaluating 0 s", "Step 1 Scoring", "Step 2 Scoring"):
        assert words in timeline
    now, coming = timeline.split("Fine-tuning")[-2:]
    assert "Packaging Evaluating" in now
    assert coming.endswith("Packaging Evaluating next ")
    assert [found["class"] for found in page.all("span", aria_current="step")] == ["now"]
    assert "91.8% original model" in page.text
    assert drawn(answer.text, "loss") == {"step 1": [0.9, 0.45, 0.3]}
    assert "INFO step 1 of 2: epoch 19" in page.text
    assert "Peak memory 3.00 GB" in page.text


def test_phases_go_by_one_after_the_other(client: TestClient, services: Services, job_id: str) -> None:
    """The timeline follows the events; nothing is to come of a job that was asked for no recovery but cuts."""
    lease = claim(services)

    def begins(step: int, phase: Phase) -> str:
        with services.database.write() as session:
            transitions.record(session, lease, (PhaseChanged(phase=phase, step=step, steps=1),))
        return look(client, f"/jobs/{job_id}").text

    assert "Starting 0 s Preparing data Evaluating" in begins(0, Phase.STARTING)
    assert "Evaluating 0 s" in begins(0, Phase.EVALUATING)
    text = begins(1, Phase.PRUNING)
    assert "Step 1 Pruning 0 s" in text
    # Between pruning and fine-tuning it evaluates once, which is not the end of the step.
    assert "Evaluating 0 s Fine-tuning Packaging Evaluating" in begins(1, Phase.EVALUATING)
    begins(1, Phase.PACKAGING)
    assert "Packaging 0 s Evaluating 0 s" in begins(1, Phase.EVALUATING)
    with services.database.write() as session:
        transitions.record(session, lease, (Loss(step=1, epoch=1, epochs=2, train_loss=0.7),))
    words = "Step 1: mean training loss 0.7000 over epoch 1 of 2."
    assert words in look(client, f"/jobs/{job_id}?tab=training").text


def test_a_failed_job_opens_on_its_error(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    def failed(code: ErrorCode, *errors: ErrorItem, **changes: Any) -> Page:
        made = client.post("/v1/jobs", json=job_body | changes).json()["id"]
        with services.database.write() as session:
            job = transitions.claim(session, "worker", 60, 3)
            assert job is not None
            error = JobError(code=code, detail="It could not.", errors=errors)
            transitions.fail(session, transitions.Lease(job.id, job.epoch), error)
        assert (
            "The log is empty: the job failed before the engine wrote anything."
            in look(client, f"/jobs/{made}?tab=log").text
        )
        page = look(client, f"/jobs/{made}")
        for words in ERROR_TEXTS[code]:
            assert words.replace("`", "") in page.text
        return page

    def proposed(page: Page) -> dict[str, str]:
        [link] = page.all("a", id="retry")
        return {name: values[0] for name, values in parse_qs(urlsplit(link["href"]).query, True).items()}

    item = ErrorItem(
        pointer="/pruning/target/attention_sparsity", code="sparsity_out_of_reach", detail="maximum 0.8329"
    )
    page = failed(ErrorCode.SPARSITY_OUT_OF_REACH, item)
    assert "Try again with 83%" in page.text
    assert "pruning.target.attention_sparsity : maximum 0.8329" in page.text
    assert proposed(page)["share"] == "83"
    # The form has one target: of two, another field than the one at fault would be filled in.
    both = {"pruning": {"target": {"attention_sparsity": 0.5, "ffn_sparsity": 0.5}}}
    of_feed_forward = item.model_copy(update={"pointer": "/pruning/target/ffn_sparsity"})
    assert not failed(ErrorCode.SPARSITY_OUT_OF_REACH, of_feed_forward, **both).all("a", id="retry")
    smallest = item.model_copy(update={"detail": "smallest cut 0.04"})
    assert not failed(ErrorCode.SPARSITY_OUT_OF_REACH, smallest).all("a", id="retry")
    assert proposed(failed(ErrorCode.MAX_RUNTIME, finetune={"epochs": 9}))["epochs"] == "4"
    assert not failed(ErrorCode.MAX_RUNTIME, finetune={"epochs": 1}).all("a", id="retry")
    assert proposed(failed(ErrorCode.EXPORT_FAILED, exports=["onnx"]))["exports"] == ""
    assert proposed(failed(ErrorCode.ENGINE_CRASHED, exports=["onnx"])).keys() == {"like"}
    assert not failed(ErrorCode.LABELS_MISMATCH).all("a", id="retry")


def test_times_say_their_zone(client: TestClient, samples: SampleJobs) -> None:
    for address in ("/", f"/jobs/{samples.finished}", f"/jobs/{samples.finished}?tab=events"):
        text = client.get(address, headers=BROWSER).text
        times = [part.split("</time>")[0].split(">")[1] for part in text.split("<time")[1:]]
        assert times
        assert all(time.endswith(" UTC") for time in times), address
