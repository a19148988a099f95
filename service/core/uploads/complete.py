"""`complete`: checks an upload whose files have all arrived as a whole. It becomes usable, or is refused and stays open.

For a model, only headers are read, in the request. Maintenance reads the rows of a dataset (worker/checks.py), because that can
take many minutes.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from api_schemas.api.resources import JobError
from api_schemas.enums import AuditAction, UploadState
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from service.core import resources, waking
from service.core.uploads import uploads as core
from service.services import Services
from store.database.tables import Upload
from store.files.artifacts import Artifacts
from store.uploads import checks, uploads
from store.uploads.inspection.models.folder import describe_model

FIRST_LOOK, LAST_LOOK = 0.05, 0.25
"""Seconds between two looks at it."""
MOST_WAITING = 4


_waking: set[asyncio.Task[None]] = set()
"""The event loop itself keeps no hold of its tasks."""


@dataclass(frozen=True)
class StoredFiles:
    """A model's files where they lie: `describe_model` reads headers of them, by ranges."""

    artifacts: Artifacts
    keys: Mapping[str, str]
    sizes: Mapping[str, int]

    def read(self, name: str, start: int, end: int) -> bytes:
        return b"".join(self.artifacts.read(self.keys[name], start, end, size=self.sizes[name]))


def complete_model(services: Services, upload_id: str) -> Upload:
    """A ready one is returned as it is. Raises what is wrong with the checkpoint, UPLOAD_INCOMPLETE or CONFLICT."""
    upload = core.get(services, "model", upload_id)
    if upload.state is UploadState.READY:
        return upload
    core.require_kept(upload)
    core.require_all_files(upload)
    keys = {file.name: file.key for file in upload.files if file.key is not None}
    sizes = {file.name: file.size for file in upload.files}
    with _unchanged(upload_id):
        checkpoint = describe_model(StoredFiles(services.artifacts, keys, sizes))
    # Of two that complete at once one marks it; both found the same, since the files cannot have changed between.
    with services.database.write() as session:
        if uploads.mark_ready(session, services.tenant, upload_id, resources.model_description(checkpoint)):
            services.note(session, AuditAction.COMPLETE_MODEL, upload_id)
    return core.get(services, "model", upload_id)


def request_check(services: Services, upload_id: str, columns: Columns) -> Upload:
    """Ask for a dataset's check, where none is being made. `wait_for_check` is to follow. A ready one is returned as it is.

    Raises UPLOAD_INCOMPLETE, or CONFLICT where it is being checked with other columns.
    """
    upload = core.get(services, "dataset", upload_id)
    if upload.state is UploadState.READY:
        return upload
    core.require_kept(upload)
    core.require_all_files(upload)
    with services.database.write() as session:
        if checks.request(session, services.tenant, upload_id, columns):
            services.note(session, AuditAction.COMPLETE_DATASET, upload_id)
        elif checks.columns_of(session, services.tenant, upload_id) not in (None, columns):
            detail = f"{upload_id} is being checked with other columns. Wait until its state is no longer `checking`."
            raise SecateurError(ErrorCode.CONFLICT, detail)
    return core.get(services, "dataset", upload_id)


async def wait_for_check(services: Services, upload: Upload) -> Upload:
    """The dataset when its check has ended, or after `check_wait_seconds`. Raises what is wrong with it.

    No thread waits: a dataset may take as long as it takes, and other requests have the threads. Of a tenant only `MOST_WAITING`
    do, since one check of a tenant's is made at a time: more would look again and again for what cannot have ended.
    """
    if upload.state is UploadState.CHECKING:
        # Not waited for: a broker that does not answer is no reason to keep the caller.
        waking_up = asyncio.create_task(run_in_threadpool(waking.wake, services))
        _waking.add(waking_up)
        waking_up.add_done_callback(_waking.discard)
    look, left = FIRST_LOOK, services.settings.check_wait_seconds
    waits = services.check_waits
    if waits[services.tenant] >= MOST_WAITING:
        left = 0
    waits[services.tenant] += 1
    try:
        while upload.state is UploadState.CHECKING and left > 0:
            await asyncio.sleep(min(look, left))
            look, left = min(look * 1.5, LAST_LOOK), left - look
            upload = await services.in_thread(core.get, services, "dataset", upload.id)
    finally:
        waits[services.tenant] -= 1
        if not waits[services.tenant]:
            del waits[services.tenant]
    if upload.state is UploadState.OPEN and upload.error is not None:
        error = JobError.model_validate(upload.error)
        raise SecateurError(error.code, error.detail, error.errors)
    return upload


@contextmanager
def _unchanged(upload_id: str) -> Iterator[None]:
    """Bytes that go while they are read: a file was sent again, or the upload given up, by another request, or they are lost.

    Either way the upload is still open, and takes them once more.
    """
    try:
        yield
    except FileNotFoundError:
        detail = (
            f"Files of {upload_id} were sent again or removed during the check, or the artifact store lost them. Send "
            "the missing files, then call complete again."
        )
        raise SecateurError(ErrorCode.CONFLICT, detail) from None
