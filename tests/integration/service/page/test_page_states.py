"""What a job's page opens with in every state: the answer, the timeline, the error and what to do."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.api.resources import JobError, JobProgress
from api_schemas.enums import JobState, Part, Phase
from api_schemas.errors import ErrorCode, ErrorItem
from api_schemas.results import step_rows
from api_schemas.results.answer import answer, of_step
from api_schemas.results.events import Loss, PhaseChanged
from api_schemas.results.metrics import EpochLoss, UnfinishedEpoch
from service.core.jobs import jobs
from service.page.figures import step_curves
from service.services import Services
from store.jobs import transitions
from tests.integration.service.conftest import claim
from tests.integration.service.page.test_page_jobs import drawn, finish
from tests.support.jobs.sample_jobs import TOLD, SampleJobs, falling, fill
from tests.support.jobs.sample_metrics import measured_step
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
    # A recovery of one epoch is a curve, too.
    losses = drawn(client.get(f"/jobs/{samples.finished}?tab=training", headers=BROWSER).text, "loss")
    assert losses == {f"step {step.step}": list(step.losses[0].points) for step in job.metrics[1:]}
    assert len(losses["step 2"]) == 50


def test_a_model_that_is_known_is_loaded_by_its_class(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    made = client.post("/v1/jobs", json=job_body).json()["id"]
    finish(services, claim(services))
    lines = f'model = AutoModelForAudioClassification.from_pretrained("{made}-step-2", trust_remote_code=True)'
    assert f"from transformers import AutoModelForAudioClassification {lines}" in look(client, f"/jobs/{made}").text


def test_an_epoch_is_told_once_whichever_attempt_and_however_often(
    client: TestClient, services: Services, job_id: str
) -> None:
    """The epoch that progress still speaks of has ended, and was told by an earlier attempt as well; the fifth goes on."""
    lease = claim(services)
    at = {"phase": Phase.FINETUNING, "step": 1, "steps": 1, "done": 1, "total": 9, "fraction": 0.1, "eta_seconds": None}

    def shown(epoch: int, points: tuple[float, ...]) -> list[float | None]:
        training = UnfinishedEpoch(epoch=epoch, epochs=5, parts=4, points=points)
        with services.database.write() as session:
            transitions.renew(session, lease, 3600, JobProgress.model_validate({**at, "training": training}), 1.0)
        return drawn(client.get(f"/jobs/{job_id}?tab=training", headers=BROWSER).text, "loss")["step 1"]

    first = Loss(step=1, epoch=1, epochs=5, train_loss=0.5, points=(0.8, 0.6, 0.4, 0.2))
    with services.database.write() as session:
        transitions.record(session, lease, (first.model_copy(update={"points": (9.0, 9.0, 9.0, 9.0)}), first))
    assert shown(1, (7.0, 7.0)) == [0.8, 0.6, 0.4, 0.2]
    assert shown(2, (0.15, 0.1)) == [0.8, 0.6, 0.4, 0.2, 0.15, 0.1]


def test_many_recoveries_are_drawn_as_the_newest_and_old_ones_by_epoch() -> None:
    def job(count: int, points: tuple[float, ...]) -> Any:
        losses = (EpochLoss(epoch=1, train_loss=0.5, learning_rate=1e-4, points=points),)
        steps = [
            measured_step(0),
            *(measured_step(1).model_copy(update={"step": n, "losses": losses}) for n in range(1, count)),
        ]
        return SimpleNamespace(metrics=tuple(steps), progress=None, state=JobState.SUCCEEDED)

    found = step_curves.losses(job(9, (0.6, 0.4)))
    assert found is not None
    assert [series.name for series in found.series] == [f"step {step}" for step in range(3, 9)]
    assert "The newest 6 of 8 recoveries" in found.caption
    assert (found.x, found.x_unit) == ((0.5, 1.0), "number")
    old = step_curves.losses(job(9, ()))
    assert old is not None
    assert old.title == "Training loss by step"
    assert len(old.x) == 8
    assert step_curves.losses(job(2, ())) is None


def test_a_step_has_a_page(client: TestClient, services: Services, samples: SampleJobs) -> None:
    job = jobs.get(services, samples.finished)
    address = f"/jobs/{job.id}/steps"
    first, second = (look(client, f"{address}/{step}") for step in (1, 2))
    # Each has its own sentence: the result's test scores are not the first step's.
    sentences = [of_step(job.metrics[0], job.metrics[step], job.result, job.request).sentence for step in (1, 2)]
    assert sentences[0] in first.text
    assert "on validation" in sentences[0] or "validation samples" in sentences[0]
    assert sentences[1] in second.text
    assert "on test" in sentences[1]
    assert "Step 2 result" in second.text
    assert "Step 1 result" not in first.text
    [row] = [
        found for found in step_rows.rows(job.metrics[0], job.metrics[2], (Part.ATTENTION,)) if "test" in found[0]
    ][:1]
    assert " ".join(row)[1:] in second.text
    assert "Accuracy, validation, before recovery – 87.1%" in first.text
    assert drawn(client.get(f"{address}/1", headers=BROWSER).text, "loss") == {
        "step 1": list(job.metrics[1].losses[0].points)
    }
    # What was removed of the second layer's four heads, by layer and by head.
    assert "QK: channels removed (%) Step Layer 0 Layer 1 1 0 25" in first.text
    # Its files, each with its hash and a button.
    [link] = [found for found in first.all("a", class_="button") if found["href"].endswith("/model.safetensors")]
    assert link["href"] == f"/v1/jobs/{job.id}/checkpoints/1/files/model.safetensors"
    assert "ab" * 32 in first.text
    assert first.all("a", id="download", href=f"/v1/jobs/{job.id}/checkpoints/1/archive")
    assert f'load("{job.id}-step-1", trust_remote_code=True)' in first.text
    # The form of another job begins with it.
    [onwards] = first.all("a", id="onwards")
    asked = parse_qs(urlsplit(onwards["href"]).query)
    assert asked == {"like": [job.id], "model_from": ["step"], "model_step": [f"{job.id}/1"]}
    assert f'value="{job.id}/1" selected' in client.get(onwards["href"], headers=BROWSER).text
    # The original has measurements alone, and each is reached from the table of the job.
    original = look(client, f"{address}/0")
    assert "The original model, as this job measured it." in original.text
    assert not original.all("a", id="download")
    assert {f"{address}/{step}" for step in range(3)} <= set(look(client, f"/jobs/{job.id}").addresses())
    missing = client.get(f"{address}/3", headers=BROWSER)
    assert missing.status_code == 404
    assert "has no step 3; complete steps: 0, 1, 2." in missing.text


def test_nothing_removed_is_no_green_success(client: TestClient, samples: SampleJobs) -> None:
    page = look(client, f"/jobs/{samples.unchanged}")
    assert "Nothing was removed: accuracy on validation was 3.8 points lower" in page.text
    assert page.all("span", class_="state unchanged")
    assert not page.all("span", class_="state succeeded")
    assert not page.all("a", id="download")
    # In the list the original's number is said to be the original's.
    assert "91.8% accuracy; original" in look(client, "/").text


def test_a_running_job_is_never_empty(client: TestClient, samples: SampleJobs) -> None:
    answer = client.get(f"/jobs/{samples.running}", headers=BROWSER)
    page = Page(answer)
    timeline = page.text.split("Model mdl_")[0]
    for words in ("Original Starting 0 s Preparing data 0 s Evaluating 0 s", "Step 1 Scoring", "Step 2 Scoring"):
        assert words in timeline
    now, coming = timeline.split("Fine-tuning")[-2:]
    assert "Packaging Evaluating" in now
    assert coming.endswith("Packaging Evaluating next ")
    assert [found["class"] for found in page.all("span", aria_current="step")] == ["now"]
    assert "91.8% original model" in page.text
    # Three epochs from their events, and of the fourth what is known so far.
    losses = [*falling(0.9, 40), *falling(0.45, 40), *falling(0.9 / 3, 40), *falling(0.2, 20)]
    assert drawn(answer.text, "loss") == {"step 1": losses}
    assert [row["data-x"] for row in page.all("tr") if "data-x" in row][39::40] == ["1.0", "2.0", "3.0"]
    assert page.all("tr", data_x="3.5")
    assert "INFO step 1 of 2: epoch 19" in page.text
    assert "Peak memory 3.00 GB" in page.text


def test_the_curve_of_a_recovery_that_did_not_finish(client: TestClient, samples: SampleJobs) -> None:
    told = {"step 2": [point for loss in TOLD for point in loss.points]}
    for job in (samples.interrupted, samples.cancelled):
        answer = client.get(f"/jobs/{job}", headers=BROWSER)
        assert drawn(answer.text, "loss") == told
        assert "The epochs that step 2 completed before the job ended." in Page(answer).text
        # Beside the recoveries that did, on their own tab.
        both = drawn(client.get(f"/jobs/{job}?tab=training", headers=BROWSER).text, "loss")
        assert list(both) == ["step 1", "step 2"]
        assert [value for value in both["step 2"] if value is not None] == told["step 2"]
    # Of a job that has a result there is nothing that did not finish.
    assert "did not finish" not in look(client, f"/jobs/{samples.finished}").text


def test_what_belongs_together_has_one_colour(client: TestClient, samples: SampleJobs) -> None:
    text = client.get(f"/jobs/{samples.finished}", headers=BROWSER).text
    times = text.split('id="figure-times"')[1].split("</figure>")[0]
    colours = {name: colour for colour, name in re.findall(r'data-colour="(\d)">([^<]*)</th>', times)}
    assert colours == {"batch 1": "0", "original, batch 1": "0", "batch 8": "2", "original, batch 8": "2"}
    assert times.count('class="s0 ') == times.count('class="s2 ') == 2


def test_a_paused_job_says_what_it_waits_for(client: TestClient, samples: SampleJobs) -> None:
    assert "Paused. Resume the job to go on" in look(client, f"/jobs/{samples.paused}").text
    assert "Waiting for a worker." in look(client, f"/jobs/{samples.queued}").text


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
