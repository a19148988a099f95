"""`secateur worker --devices`: a process a device, each with a name that stays; and the table of `secateur workers`."""

from datetime import UTC, datetime

import pytest
from rich.console import Console
from typer.testing import CliRunner

from api_schemas.api.workers import WorkerResource
from api_schemas.enums import DeviceKind
from secateur.cli import app
from secateur.local_server.workers import programs
from secateur.terminal.listings import workers_table
from store.settings import Settings


def test_each_device_has_a_process_a_name_and_an_environment_of_its_own() -> None:
    started = programs("0, 3,cpu", "gpu-7")
    assert [program.name for program in started] == ["gpu-7-cuda0", "gpu-7-cuda3", "gpu-7-cpu"]
    first, _, last = started
    assert first.environment == {
        "SECATEUR_WORKER_NAME": "gpu-7-cuda0",
        "SECATEUR_DEVICE": "cuda",
        "SECATEUR_ENGINE_DEVICES": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert (last.environment["SECATEUR_DEVICE"], last.environment["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
    assert first.command[1:] == [
        *("-m", "celery", "-A", "worker.app", "worker", "-Q", "jobs", "-n", "gpu-7-cuda0@%h", "--loglevel", "INFO")
    ]
    assert first.log_tail() == ""


def test_devices_together_are_one_worker_whose_engines_see_all_of_them() -> None:
    [program] = programs("0,3", "gpu-7", together=True)
    environment = program.environment
    assert (environment["SECATEUR_WORKER_NAME"], environment["CUDA_VISIBLE_DEVICES"]) == ("gpu-7-cuda0-3", "0,3")
    assert Settings(engine_devices=environment["SECATEUR_ENGINE_DEVICES"]).engine_devices == 2


@pytest.mark.parametrize("devices", ["0", "cpu", "0,cpu"])
def test_what_cannot_work_together_is_refused(devices: str) -> None:
    result = CliRunner().invoke(app, ["worker", "--together", "--devices", devices])
    assert result.exit_code == 2
    assert "--together takes several GPUs" in result.stderr


@pytest.mark.parametrize("host", ["a" * 80, "host name/ü", "gpu.example.com"])
def test_the_name_of_any_host_makes_one_that_a_worker_may_have(host: str) -> None:
    [program] = programs("15", host)
    name = program.environment["SECATEUR_WORKER_NAME"]
    assert name.endswith("-cuda15")
    assert Settings(worker_name=name).worker_name == name


@pytest.mark.parametrize("devices", ["", "0,", "0,0", "0,00", "gpu", "-1", "0;1", "cpu,cpu"])
def test_what_is_no_list_of_devices_is_refused(devices: str) -> None:
    result = CliRunner().invoke(app, ["worker", "--devices", devices])
    assert result.exit_code == 2
    assert "--devices" in result.stderr


def test_the_table_says_who_is_busy_and_who_is_silent() -> None:
    moment = datetime.now(UTC)
    gpu = WorkerResource(
        id="gpu-7-cuda0:a:1", name="gpu-7-cuda0", host="gpu-7", device=DeviceKind.CUDA, device_name="NVIDIA H200",
        device_memory_bytes=2**37, host_memory_bytes=2**36, started_at=moment, seen_at=moment, alive=True, busy=True, job="job_1",
    )  # fmt: skip
    silent = gpu.model_copy(
        update={"name": "old", "device": None, "device_memory_bytes": None, "alive": False, "busy": False}
    )
    console = Console(width=160)
    with console.capture() as captured:
        console.print(workers_table([gpu, silent], 160))
    first, second = captured.get().splitlines()[1:]
    for word in ("gpu-7-cuda0", "busy", "cuda", "NVIDIA H200", "128.0 GiB", "64.0 GiB", "job_1"):
        assert word in first
    assert "silent" in second
    assert "?" in second
