"""Uploads: models and datasets that clients send file by file."""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, Row, Select, delete, exists, select, text, tuple_, union_all, update
from sqlalchemy.orm import Session

from api_schemas import ids
from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from store.database import stored_bytes
from store.database.paging import Rows, fetch_page
from store.database.tables import Upload, UploadFile
from store.database.tables.uploads import THERE
from store.database.tenancy import owned_by, select_owned

UploadKind = Literal["model", "dataset"]
FILES_A_QUERY = 50
_SUFFIXES = (".safetensors", ".parquet")
PREFIXES: dict[UploadKind, str] = {"model": ids.MODEL, "dataset": ids.DATASET}


def create(
    session: Session,
    tenant: str,
    kind: UploadKind,
    name: str | None,
    files: Sequence[DeclaredFile],
    stored: Collection[str] | None = None,
    left_out: Sequence[str] = (),
) -> Upload:
    """A new, open upload that expects `files`, but for those whose bytes the tenant has sent before. `stored`: keys that have
    been found to be there; others do not count. `left_out`: names of files that were declared as well and are not needed."""
    size = sum(file.size for file in files)
    upload = Upload(
        id=ids.new_id(PREFIXES[kind]), tenant=tenant, kind=kind, name=name, state=UploadState.OPEN, size=size
    )
    upload.left_out = list(left_out) or None
    known = _known(session, tenant, kind, files, stored)
    upload.files = [
        UploadFile(
            tenant=tenant,
            name=file.name,
            position=position,
            size=file.size,
            sha256=file.sha256,
            key=known.get((_judged_as(file.name), file.size, file.sha256)),
        )
        for position, file in enumerate(files)
    ]
    session.add(upload)
    session.flush()
    stored_bytes.add(session, tenant, size)
    session.refresh(upload)
    return upload


def _known(
    session: Session, tenant: str, kind: UploadKind, files: Sequence[DeclaredFile], stored: Collection[str] | None
) -> dict[tuple[str, int, str], str]:
    """Where bytes lie that the tenant has sent before, by what they were judged as, size and sha256.

    Locked: a transaction that removes the upload they came with waits, and then sees that another row references them.
    """
    found = [row for row in sent_before(session, tenant, kind, files) if stored is None or row.key in stored]
    if not found:
        return {}
    named = tuple_(UploadFile.upload_id, UploadFile.name).in_([(row.upload_id, row.name) for row in found])
    rows = session.scalars(
        select_owned(UploadFile, tenant)
        .where(named, UploadFile.key.is_not(None))
        .order_by(UploadFile.upload_id, UploadFile.name)
        .with_for_update(of=UploadFile)
        .execution_options(populate_existing=True)
    )
    return {(_judged_as(row.name), row.size, row.sha256): row.key for row in rows if row.key is not None}


def sent_before(
    session: Session, tenant: str, kind: UploadKind, files: Sequence[DeclaredFile]
) -> list[Row[str, str, int, str | None]]:
    """A file of the tenant's (upload_id, name, size, key) with the same bytes, judged as the same, for each of `files` that there
    is one for.

    One each, whatever their number: what goes with every model is in as many uploads as there are models.
    """
    alike = sorted({(_judged_as(file.name), file.size, file.sha256) for file in files})
    found: list[Row[str, str, int, str | None]] = []
    for at in range(0, len(alike), FILES_A_QUERY):
        some = (select(_like(tenant, kind, *file).subquery()) for file in alike[at : at + FILES_A_QUERY])
        found += session.execute(union_all(*some)).all()
    return found


def _like(tenant: str, kind: UploadKind, judged_as: str, size: int, sha256: str) -> Select[str, str, int, str | None]:
    of_kind = exists().where(Upload.id == UploadFile.upload_id, Upload.kind == kind)
    whole = UploadFile.name == judged_as
    named = UploadFile.name.endswith(judged_as, autoescape=True) if judged_as in _SUFFIXES else whole
    columns = select(UploadFile.upload_id, UploadFile.name, UploadFile.size, UploadFile.key)
    bytes_of = (owned_by(UploadFile, tenant), UploadFile.sha256 == sha256, UploadFile.size == size)
    return columns.where(*bytes_of, UploadFile.key.is_not(None), named, of_kind).limit(1)


def _judged_as(name: str) -> str:
    """A file's bytes were checked for what its name says they are: weights and shards by suffix, all else by name."""
    suffix = PurePosixPath(name).suffix
    return suffix if suffix in _SUFFIXES else name


def get(session: Session, tenant: str, kind: UploadKind, upload_id: str) -> Upload | None:
    """The tenant's upload of this kind, with its files."""
    return session.scalar(select_owned(Upload, tenant).where(Upload.id == upload_id, Upload.kind == kind))


def page(session: Session, tenant: str, kind: UploadKind, cursor: str | None, limit: int) -> Rows[Upload]:
    """Newest first, those left out whose files are gone."""
    query = select_owned(Upload, tenant).where(Upload.kind == kind, text(THERE))
    return fetch_page(session, Upload, query, cursor, limit)


def artifact_key(upload_id: str, name: str, attempt: str) -> str:
    """Where the bytes of a file are put: every attempt has its own key, so that two at once cannot mix."""
    return f"{artifact_prefix(upload_id)}/{attempt}/{name}"


def artifact_prefix(upload_id: str) -> str:
    """Below this lies everything that was ever put for an upload."""
    return f"uploads/{upload_id}"


def recorded_key(session: Session, tenant: str, upload_id: str, name: str) -> str | None:
    """Where the file's bytes are now, None if they have not arrived; locked until this transaction ends."""
    file = select(UploadFile.key).where(
        owned_by(UploadFile, tenant), UploadFile.upload_id == upload_id, UploadFile.name == name
    )
    return session.scalar(file.with_for_update())


def record_file(session: Session, tenant: str, upload_id: str, name: str, key: str) -> bool:
    """Note that the file's bytes lie under `key`. False where the upload is no longer open or expects no such file."""
    is_open = select_owned(Upload, tenant).where(Upload.id == upload_id, Upload.state == UploadState.OPEN).exists()
    statement = update(UploadFile).where(
        owned_by(UploadFile, tenant), UploadFile.upload_id == upload_id, UploadFile.name == name, is_open
    )
    return _changed(session, statement.values(key=key))


def hold_ready(session: Session, tenant: str, upload_ids: Collection[str]) -> bool:
    """Whether all of them are ready; if so they do not expire before this transaction ends."""
    ready = select(Upload.id).where(owned_by(Upload, tenant), Upload.state == UploadState.READY)
    found = session.scalars(ready.where(Upload.id.in_(upload_ids)).order_by(Upload.id).with_for_update(of=Upload))
    return set(found) == set(upload_ids)


def mark_ready(session: Session, tenant: str, upload_id: str, description: dict[str, Any]) -> bool:
    """open → ready, with what `complete` found. False where it was not open any more."""
    statement = update(Upload).where(owned_by(Upload, tenant), Upload.id == upload_id, Upload.state == UploadState.OPEN)
    return _changed(session, statement.values(state=UploadState.READY, description=description))


def discard(session: Session, tenant: str, kind: UploadKind, upload_id: str) -> bool:
    """Remove an upload that is not ready, its files' rows and its check; the bytes are the caller's to remove after the commit
    (`unnamed`). False: it is ready, or no more.
    """
    unready = Upload.state.in_([UploadState.OPEN, UploadState.CHECKING])
    statement = delete(Upload).where(owned_by(Upload, tenant), Upload.id == upload_id, Upload.kind == kind, unready)
    size = session.scalar(statement.returning(Upload.size).execution_options(synchronize_session=False))
    session.expire_all()
    if size is None:
        return False
    stored_bytes.add(session, tenant, -size)
    return True


def unnamed(session: Session, keys: Collection[str]) -> set[str]:
    """Those of `keys` that no file of any upload has: bytes that were sent once may be in several uploads."""
    return set(keys) - {key for key in session.scalars(select(UploadFile.key).where(UploadFile.key.in_(keys))) if key}


def _changed(session: Session, statement: Any) -> bool:
    result = cast("CursorResult[Any]", session.execute(statement))
    session.expire_all()
    return result.rowcount > 0
