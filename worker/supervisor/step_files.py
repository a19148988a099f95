"""Copies the files of a step, and saved states of its recovery, from the engine's output folder into the artifact store."""

from pathlib import Path, PurePosixPath

from api_schemas.errors import ErrorCode
from api_schemas.results.events import StepDone, TrainingSaved
from store.database.tables import TrainingFile
from store.files.artifacts import KEY, Artifacts, Stored
from store.jobs.transitions import Lease, StepFile
from worker.children.engine_output import Crashed
from worker.lease.heartbeat import Heartbeat
from worker.lease.retries import stored


def staging_prefix(lease: Lease, step: int) -> str:
    """A prefix to which no other claim of the job ever writes."""
    return f"jobs/{lease.job_id}/epoch-{lease.epoch}/step-{step}"


class Uploads:
    """Uploads files of one claim to the artifact store. Each method raises Interrupted, or Crashed if the engine's files are
    invalid."""

    def __init__(self, artifacts: Artifacts, lease: Lease, beat: Heartbeat, patience_seconds: float) -> None:
        self._artifacts, self._lease, self._beat, self._patience = artifacts, lease, beat, patience_seconds

    def step(self, out: Path, event: StepDone) -> list[StepFile]:
        """Make the step's files durable; the step does not exist before it is committed."""
        step = event.metrics.step
        if event.folder != f"step-{step}":
            raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine stored step {step} in {event.folder!r}.")
        prefix = staging_prefix(self._lease, step)
        files = []
        for name, path in _files_below(out / event.folder):
            kept = self._put(f"{prefix}/{name}", path, self._patience)
            files.append(StepFile(name=name, size=kept.size, sha256=kept.sha256, key=kept.key))
        return files

    def training(self, out: Path, event: TrainingSaved) -> TrainingFile | None:
        """Make the state of a recovery durable; no attempt uses it before the job's row names it.

        None if the engine has replaced it by a newer one meanwhile, which it will report next. Raises errors of the artifact
        store at once, because saving is a convenience and not worth a wait.
        """
        folder = out / "training"
        path = folder / Path(event.file).name
        if event.file != f"training/{path.name}" or path.is_symlink() or folder.is_symlink():
            raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine's {event.file!r} is not a saved state of a recovery.")
        if not path.is_file():
            return None
        # A separate directory, because the step's own contains only what becomes part of the step.
        key = f"{staging_prefix(self._lease, event.step)}-training/epoch-{event.epoch}"
        kept = self._put(key, path, 0.0)
        return TrainingFile(step=event.step, epoch=event.epoch, key=key, size=kept.size, sha256=kept.sha256)

    def _put(self, key: str, path: Path, patience_seconds: float) -> Stored:
        self._beat.check()
        return stored(lambda: self._artifacts.put_file(key, path), patience_seconds, self._beat)


def _files_below(folder: Path) -> list[tuple[str, Path]]:
    """(path inside the folder, path) of every regular file, by name."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(PurePosixPath(path.relative_to(folder)))
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or not KEY.fullmatch(name):
            raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine's {name!r} is not a regular file with a plain name.")
        if path.is_file():
            found.append((name, path))
    if not found:
        raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine reported {folder.name}, which is empty or missing.")
    return found
