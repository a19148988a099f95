"""A large checkpoint through the service: the client sends it in pieces, it is judged, a job on it is estimated, and a step of
its size is fetched; how long each takes, and what the processes of the service hold meanwhile.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.api.servers import BOUNDED, serving
from benchmarks.memory.watch import LOOK_SECONDS, Peaks
from secateur import Secateur
from secateur.client.progress import Progress
from store.database.connection import Database
from store.files.artifacts import Artifacts
from store.jobs import transitions
from store.jobs.transitions import Lease, StepFile
from store.settings import Settings
from tests.support.jobs.records import step_metrics
from tests.support.servers.databases import valkey_server, wait_for
from tests.support.servers.processes import environment, maintenance_worker

START_SECONDS = 120
IDLE = "idle"
MOST_GROWTH = 64 * 2**20
"""The goal: by so many bytes at most what the API holds grows, as in docs/results/api.md."""


class Watched:
    """Seconds of the client, and peaks of the service's processes, by what is being done."""

    def __init__(self, api: psutil.Process, maintenance: psutil.Process) -> None:
        self.of = {"api": (api, Peaks(phase=IDLE)), "maintenance": (maintenance, Peaks(phase=IDLE))}
        self.seconds: dict[str, float] = {}
        self._doing, self._began = IDLE, time.monotonic()

    def begin(self, what: str) -> None:
        """From now on this is being done. What is done twice takes the time of both."""
        now = time.monotonic()
        if what != self._doing:
            self.seconds[self._doing] = self.seconds.get(self._doing, 0.0) + now - self._began
            self._doing, self._began = what, now
            for _, peaks in self.of.values():
                peaks.phase = what

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look until the block ends."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                for process, peaks in self.of.values():
                    try:
                        peaks.look(process)
                    except psutil.Error:
                        return

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.begin("")
            ended.set()
            thread.join()

    def found(self) -> dict[str, Any]:
        """By what was done: seconds, and bytes of each process."""
        return {
            what: {
                "seconds": round(seconds, 1),
                **{
                    name: {
                        "held": peaks.held.get(what, 0),
                        "resident": peaks.resident.get(what, 0),
                        "children": peaks.gate.get(what, 0),
                    }
                    for name, (_, peaks) in self.of.items()
                },
            }
            for what, seconds in self.seconds.items()
        }


def through(folder: Path, model: Path, data: Path) -> dict[str, Any]:
    """Send `model` and `data` to a service of its own below `folder`, ask for an estimate, fetch a step with the same files."""
    (folder / "service").mkdir(parents=True)
    with valkey_server() as broker:
        settings = Settings(data_dir=folder / "service", broker_url=broker)
        with (
            serving("service.app:create_app", environment(settings), folder / "service.log", *BOUNDED) as server,
            maintenance_worker(settings, folder / "maintenance.log") as maintenance,
            Secateur(server.url) as client,
        ):
            wait_for(lambda: maintenance.ready, START_SECONDS, "maintenance")
            watched = Watched(psutil.Process(server.pid), psutil.Process(maintenance.process.pid))

            def tell(said: Progress) -> None:
                watched.begin(f"{said.phase} the model")

            with watched.looking():
                time.sleep(10 * LOOK_SECONDS)
                watched.begin("hashing the model")
                sent = client.upload_model(model, progress=tell)
                watched.begin("sending and checking the dataset")
                dataset = client.upload_dataset(data)
                watched.begin("estimating a job")
                estimate = client.estimate(sent, dataset, sparsity=0.5)
                job = client.submit(sent, dataset, sparsity=0.5)
                watched.begin("storing a step, as a worker does")
                _commit_step(settings, job.id, model)
                watched.begin("downloading the step")
                fetched = client.job(job.id).download(folder / "fetched", step=1, partial=True)
            same = {path.name: path.stat().st_size for path in model.iterdir()}
            if {path.name: path.stat().st_size for path in fetched.iterdir()} != same:
                raise RuntimeError("what was fetched is not what was sent")
    return {
        "weights": sum(path.stat().st_size for path in model.glob("*.safetensors")),
        "shards": len(list(model.glob("*.safetensors"))),
        "parameters_after": estimate.steps[-1].total_parameters,
        "service": watched.found(),
    }


def _commit_step(settings: Settings, job_id: str, model: Path) -> None:
    """A step whose files are those of `model`, since a worker would prune for an hour before it has one."""
    database, artifacts = Database(settings.database_url), Artifacts(settings.artifacts_url)
    with database.write() as session:
        job = transitions.claim(session, "benchmark", 3600, 3)
    if job is None or job.id != job_id:
        raise RuntimeError("the job was not there to be claimed")
    files = []
    for path in sorted(model.iterdir()):
        key = f"jobs/{job.id}/epoch-{job.epoch}/step-1/{path.name}"
        stored = artifacts.put_file(key, path)
        files.append(StepFile(path.name, stored.size, stored.sha256, key))
    lease = Lease(job.id, job.epoch)
    with database.write() as session:
        transitions.commit_step(session, lease, step_metrics(0), [], downloadable=False)
        transitions.commit_step(session, lease, step_metrics(1), files, downloadable=True)
    database.close()


def growth(found: dict[str, Any]) -> int:
    """By how many bytes what the API held grew at most beyond what it held idle."""
    return max(int(each["api"]["held"]) for each in found.values()) - int(found[IDLE]["api"]["held"])
