"""`complete`: an upload whose files are all there is judged as a whole and becomes usable, or is refused and stays open."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_schemas.enums import AuditAction, UploadState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from service.core import resources
from service.core import uploads as core
from service.services import Services
from store.database.tables import Upload
from store.files.artifacts import Artifacts
from store.uploads import uploads
from store.uploads.inspection.dataset_process import inspect_in_process
from store.uploads.inspection.model_folder import describe_model
from store.uploads.uploads import UploadKind

_COMPLETED = {"model": AuditAction.COMPLETE_MODEL, "dataset": AuditAction.COMPLETE_DATASET}


@dataclass(frozen=True)
class StoredFiles:
    """A model's files where they lie: `describe_model` reads headers of them, by ranges."""

    artifacts: Artifacts
    keys: Mapping[str, str]
    sizes: Mapping[str, int]

    def read(self, name: str, start: int, end: int) -> bytes:
        return b"".join(self.artifacts.read(self.keys[name], start, end))


def complete_model(services: Services, upload_id: str) -> Upload:
    """Raises what is wrong with the checkpoint, UPLOAD_INCOMPLETE or CONFLICT. A ready one is returned as it is."""
    upload = core.get(services, "model", upload_id)
    if upload.state is UploadState.READY:
        return upload
    core.require_kept(upload)
    core.require_all_files(upload)
    keys = {file.name: file.key for file in upload.files if file.key is not None}
    sizes = {file.name: file.size for file in upload.files}
    with _unchanged(upload_id):
        checkpoint = describe_model(StoredFiles(services.artifacts, keys, sizes))
    return _ready(services, "model", upload_id, resources.model_description(checkpoint))


def complete_dataset(services: Services, upload_id: str, columns: Columns) -> Upload:
    """Raises what is wrong with the dataset, UPLOAD_INCOMPLETE or CONFLICT. A ready one is returned as it is."""
    upload = core.get(services, "dataset", upload_id)
    if upload.state is UploadState.READY:
        return upload
    core.require_kept(upload)
    core.require_all_files(upload)
    services.settings.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspect-", dir=services.settings.scratch) as folder:
        with _unchanged(upload_id):
            for file in upload.files:
                if file.key is not None:
                    services.artifacts.fetch(file.key, Path(folder, file.name), file.sha256)
        contents = inspect_in_process(Path(folder), columns)
    return _ready(services, "dataset", upload_id, contents.model_dump(mode="json"))


@contextmanager
def _unchanged(upload_id: str) -> Iterator[None]:
    """Bytes that go while they are read: a file was sent again, or the upload given up, by another request."""
    try:
        yield
    except FileNotFoundError:
        detail = (
            f"Files of {upload_id} were sent again or removed while it was checked. Complete it once all are there."
        )
        raise SecateurError(ErrorCode.CONFLICT, detail) from None


def _ready(services: Services, kind: UploadKind, upload_id: str, description: dict[str, Any]) -> Upload:
    # Of two that complete at once one marks it; both found the same, since the files cannot have changed between.
    with services.database.write() as session:
        if uploads.mark_ready(session, services.tenant, upload_id, description):
            services.note(session, _COMPLETED[kind], upload_id)
    return core.get(services, kind, upload_id)
