"""The files of a step, from the engine's output folder into the artifact store."""

from pathlib import Path, PurePosixPath

from api_schemas.errors import ErrorCode
from api_schemas.events import StepDone
from store.artifacts import KEY, Artifacts
from store.transitions import Lease, StepFile
from worker.engine_output import Crashed
from worker.heartbeat import Heartbeat


def staging_prefix(lease: Lease, step: int) -> str:
    """A place that no other claim of the job ever writes to."""
    return f"jobs/{lease.job_id}/epoch-{lease.epoch}/step-{step}"


def upload_step(artifacts: Artifacts, lease: Lease, out: Path, event: StepDone, beat: Heartbeat) -> list[StepFile]:
    """Make the step's files durable; the step does not exist before it is committed. Raises Interrupted or Crashed."""
    step = event.metrics.step
    if event.folder != f"step-{step}":
        raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine put step {step} into {event.folder!r}.")
    prefix = staging_prefix(lease, step)
    files = []
    for name, path in _files_below(out / event.folder):
        beat.check()
        stored = artifacts.put_file(f"{prefix}/{name}", path)
        files.append(StepFile(name=name, size=stored.size, sha256=stored.sha256, key=stored.key))
    return files


def _files_below(folder: Path) -> list[tuple[str, Path]]:
    """(path inside the folder, path) of every regular file, by name."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(PurePosixPath(path.relative_to(folder)))
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or not KEY.fullmatch(name):
            raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine's {name!r} is no plain file with a plain name.")
        if path.is_file():
            found.append((name, path))
    if not found:
        raise Crashed(ErrorCode.ENGINE_ERROR, f"The engine announced {folder.name}, which is empty or missing.")
    return found
