"""`python -m benchmarks.gpu` as small as it gets, on the CPU: it runs, and says what it should. Its numbers say nothing here."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest
import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import fisher, job, latency, recovery
from benchmarks.gpu.sizes import SIZES
from tests.support.jobs.engine import run_job
from worker.engine.__main__ import _arguments

CPU, TINY = torch.device("cpu"), SIZES["tiny"]


def test_it_is_one_command_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.json"
    parts = ["latency", "fisher", "recovery", "offload"]
    assert gpu.main(["--device", "cpu", "--shape", "tiny", "--only", *parts, "--out", str(file)]) == 0
    found = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found
    assert set(found["goals"]) == {"minutes", "fisher", "starved"}
    assert list(found["seconds"]) == list(found["peak_bytes"]) == parts
    cases = found["latency"]
    assert [(case["dtype"], case["batch"]) for case in cases] == [
        (dtype, batch) for dtype in ("float32", "bfloat16") for batch in TINY.latency_batches
    ]
    for case in cases:
        assert [row["model"] for row in case["models"]] == ["dense, stock", "dense", *latency.CUTS]
        half, quarter = (row["promise"] for row in case["models"][2:])
        assert 1 < half < quarter
    assert [case["products"] for case in found["fisher"]] == ["float32", "bfloat16"]
    assert [case["weights"] for case in found["offload"]] == ["on the device", "layers on the host"]
    assert set(found["recovery"]["feeds"]) == {"held on the device", "read ahead"}


def test_a_part_that_fails_costs_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setitem(gpu.PARTS, "latency", fail)
    assert gpu.main(["--device", "cpu", "--shape", "tiny", "--only", "latency", "fisher"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["errors"] == {"latency": "RuntimeError: no kernel"}
    assert found["fisher"]


def test_fisher_is_divided_within_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is twice as slow in the second round that counts; the first round of all does not count."""
    times = iter([9.0, 1.0, 0.1, 1.0, 0.2, 2.0] * 2)
    monkeypatch.setattr(fisher.Case, "seconds", lambda _self, _run: next(times))
    sizes = SimpleNamespace(**{**vars(TINY), "fisher_rounds": 2})
    assert [case["times_as_fast"] for case in fisher.measure(sizes, CPU)] == [10.0, 10.0]


def test_a_feed_that_is_slow_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"one batch": 2.0, "held on the device": 2.0, "read ahead": 8.0}
    monkeypatch.setattr(
        recovery, "train", lambda _dense, _split, _size, _device, feed: {"seconds": taken[feed], "waited": 6.0}
    )
    feeds = recovery.measure(TINY, CPU)["feeds"]
    assert {feed: found["starved"] for feed, found in feeds.items()} == {"held on the device": 0.0, "read ahead": 0.75}


def test_every_feed_trains_on_what_it_says(tmp_path: Path) -> None:
    split = recovery.split_on_disk(tmp_path, 6, 4, 3, 2)
    order = split.batches(3)
    seen = {}
    for feed, (loader, resident) in recovery.FEEDS.items():
        seen[feed] = [targets.tolist() for _, targets in loader(split, CPU, resident=resident).batches(order)]
    assert seen == {
        "one batch": [[0, 1, 0], [0, 1, 0]],
        "held on the device": [[0, 1, 0], [1, 0, 1]],
        "read ahead": [[0, 1, 0], [1, 0, 1]],
    }


def test_a_device_is_busy_where_any_of_its_work_runs() -> None:
    assert recovery.covered([]) == 0
    assert recovery.covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4

    def event(start: float, end: float, kind: Any) -> SimpleNamespace:
        return SimpleNamespace(device_type=kind, time_range=SimpleNamespace(start=start, end=end))

    events = [event(0, 2, DeviceType.CUDA), event(1, 3, DeviceType.CUDA), event(7, 8, DeviceType.CUDA)]
    profile: Any = SimpleNamespace(events=lambda: [event(0, 100, DeviceType.CPU), *events])
    assert recovery.busy_share(profile) == 0.5
    assert recovery.busy_share(SimpleNamespace(events=list)) is None  # type: ignore[arg-type]


def test_the_job_is_one_that_the_engine_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in the test's own process, with less to measure."""

    def engine(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["-m", "worker.engine"]
        assert settings["timeout"] == TINY.job_seconds
        asked = _arguments(command[3:])
        spec = json.loads(asked.spec.read_text())
        spec["evaluate"] = {
            "latency_batch_sizes": [1],
            "latency_runs": 5,
            "latency_seconds": 0,
            "sensitivity_samples": 2,
        }
        spec["pruning"]["schedule"] = {"steps": 1}
        events = run_job(asked.out, spec, model=asked.model, data=asked.data, fresh_process=False)
        settings["stdout"].writelines(f"{event.model_dump_json()}\n" for event in events)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(job.subprocess, "run", engine)
    found = job.measure(TINY, CPU)
    assert {"preparing", "scoring", "finetuning", "evaluating"} <= set(found["phases"])
    assert found["memory"]["host"] > 0
    assert found["sparsity"] > 0.2


@pytest.mark.parametrize("late", [False, True])
def test_a_job_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    said = [
        {"type": "phase", "phase": "scoring", "step": 1, "steps": 2},
        {"type": "failed", "code": "out_of_memory", "detail": "Out of memory."},
    ]

    def engine(command: list[str], stdout: TextIO, timeout: float, **_: Any) -> subprocess.CompletedProcess[str]:
        stdout.writelines(f"{json.dumps(event)}\n" for event in said[: 1 if late else 2])
        if late:
            stdout.write('{"type": "st')
            stdout.flush()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(job.subprocess, "run", engine)
    monkeypatch.setattr(job, "write_inputs", lambda *_: None)
    with pytest.raises(
        RuntimeError, match=r"after 120 s, in phase \['scoring'\]" if late else r"with 1: Out of memory\."
    ):
        job.measure(TINY, CPU)
