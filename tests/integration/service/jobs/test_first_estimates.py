"""Before a job of a family has finished, the time of one is a range, by what workers have measured of their devices."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.enums import DeviceKind, Head, Phase
from api_schemas.results.estimate import FirstEstimate
from api_schemas.results.metrics import Memory
from checkpoints.sizes.cost_model import COUNTED, JobCost, PhaseTime
from service.core.jobs import text_lengths
from service.core.jobs.text_lengths import TextLengths
from service.services import Services
from store.database.tables import DatasetSample, JobCostRow
from store.jobs.workers import device_speeds
from store.jobs.workers.device_speeds import DeviceFacts
from tests.integration.service.conftest import Stock
from tests.unit.service.test_text_lengths import known_model
from tests.unit.store.jobs.workers.test_device_speeds import speed

CPU = DeviceFacts("a" * 64, DeviceKind.CPU, "A processor", 2)
GPU = DeviceFacts("b" * 64, DeviceKind.CUDA, "A GPU", 8)
SHORT = {"finetune": None, "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": None}}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def measured(services: Services, facts: DeviceFacts, call: float) -> None:
    with services.database.write() as session:
        device_speeds.keep(session, facts, speed(call))


def asked(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/jobs:estimate", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def finished(services: Services, seconds: float = 1.0) -> None:
    """A job of the family has been: so many for a billion FLOPs."""
    cost = JobCost(
        phases={Phase.EVALUATING: PhaseTime(seconds=seconds, work=1e9)},
        outside_seconds=1.0,
        base=Memory(host=1),
        peak=Memory(host=2),
        tensor_bytes=1,
        counted=COUNTED,
    )
    with services.database.write() as session:
        session.add(JobCostRow(family="ast", device="cpu", body=cost))


def test_a_range_once_a_worker_has_measured_its_device(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    unknown = asked(client, job_body)
    assert (unknown["seconds"], unknown["first_estimate"]) == (None, None)
    assert "as soon as a worker that has nothing to do has measured its device" in unknown["reason"]

    measured(services, CPU, 1e-6)
    known = asked(client, job_body)
    assert (known["seconds"], known["seconds_range"], known["phase_seconds"]) == (None, None, {})
    assert "The time is a range, from a short measurement of the worker's device" in known["reason"]
    first = FirstEstimate.model_validate(known["first_estimate"])
    assert (first.device, first.device_name, first.threads) == (DeviceKind.CPU, "A processor", 2)
    low, high = first.seconds_range
    assert 0 < low < high
    for end in (0, 1):
        assert sum(each[end] for each in first.phase_seconds_range.values()) == pytest.approx(
            first.seconds_range[end], abs=0.1
        )
    assert Phase.FINETUNING in first.phase_seconds_range
    preview = client.post("/v1/jobs?validate_only=true", json=job_body).json()
    assert preview["estimate"] == known

    measured(services, CPU, 1e-5)
    slower = FirstEstimate.model_validate(asked(client, job_body)["first_estimate"])
    assert slower.seconds_range[0] > 5 * low


def test_it_is_of_the_device_that_the_job_asks_for(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    measured(services, CPU, 1e-6)
    measured(services, GPU, 1e-7)
    assert asked(client, job_body)["first_estimate"]["device"] == "cuda"
    on_cpu = asked(client, job_body | {"limits": {"device": "cpu"}})
    assert on_cpu["first_estimate"]["device_name"] == "A processor"


def test_finished_jobs_speak_for_themselves(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    measured(services, CPU, 1e-6)
    finished(services)
    found = asked(client, job_body)
    assert found["seconds"] > 0
    assert (found["first_estimate"], found["reason"], found["jobs_observed"]) == (None, None, 1)


def test_rows_that_are_many_inputs_take_as_much_longer(
    client: TestClient, services: Services, job_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(services, CPU, 1e-6)
    plain = asked(client, job_body | SHORT)
    finished(services, 1e5)
    known = asked(client, job_body | SHORT)
    monkeypatch.setattr(text_lengths, "of_texts", lambda *_: TextLengths((1.0, 1.0), (25.0, 100.0)))
    assert asked(client, job_body | SHORT)["phase_seconds"]["evaluating"] == pytest.approx(
        50 * known["phase_seconds"]["evaluating"], rel=0.1
    )
    with services.database.write() as session:
        session.query(JobCostRow).delete()
    # Of recordings they say nothing.
    assert asked(client, job_body | SHORT)["first_estimate"] == plain["first_estimate"]


def test_a_bound_on_the_drop_widens_it(client: TestClient, services: Services, job_body: dict[str, Any]) -> None:
    measured(services, CPU, 1e-6)
    plain, bound = (
        FirstEstimate.model_validate(
            asked(client, job_body | SHORT | {"pruning": {"target": target}})["first_estimate"]
        )
        for target in ({"attention_sparsity": 0.2}, {"max_drop": 0.01})
    )
    spans = [high / low for low, high in (plain.seconds_range, bound.seconds_range)]
    assert spans[1] > spans[0]


def test_where_the_worker_fetches_the_data_there_is_none(
    client: TestClient, services: Services, job_body: dict[str, Any]
) -> None:
    measured(services, CPU, 1e-6)
    found = asked(client, job_body | {"dataset": {"type": "hf", "id": "somebody/data", "revision": "a" * 40}})
    assert (found["first_estimate"], found["seconds"]) == (None, None)
    assert "can be estimated once one has" in found["reason"]
    assert "a range" not in found["reason"]


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (("a" * 52, "b" * 104), (15.0, 20.53)),
        # What is shown ends there, and goes on.
        (("a" * 300,), (57.69, 3 * 78.95)),
        ((), None),
    ],
)
def test_texts_are_as_long_as_those_that_are_shown(
    services: Services, stock: Stock, texts: tuple[str, ...], tokens: tuple[float, float] | None
) -> None:
    with services.database.write() as session:
        session.query(DatasetSample).delete()
        for number, text in enumerate(texts):
            values = {"split": "train", "row": number, "text": text, "size": 0, "tenant": services.tenant}
            session.add(DatasetSample(upload_id=stock.dataset_id, number=number, **values))
    accepted: Any = SimpleNamespace(dataset=stock.dataset_id, contents=None)
    known: Any = known_model(Head.CLASSIFICATION, 128)
    with services.database.read() as session:
        found = text_lengths.of_texts(session, services.tenant, accepted, known)
    if tokens is None:
        assert found is None
        return
    assert found is not None
    assert found.length == pytest.approx([each / 128 for each in tokens], rel=1e-3)
    assert found.inputs == (1.0, 1.0)
