"""Uploads as rows: open, filled, ready."""

from api_schemas.api.resources import DeclaredFile
from api_schemas.enums import UploadState
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.uploads import uploads

FILES = (
    DeclaredFile(name="model.safetensors", size=8, sha256="ab" * 32),
    DeclaredFile(name="config.json", size=2, sha256="cd" * 32),
)


def create(database: Database, kind: uploads.UploadKind = "model") -> str:
    with database.write() as session:
        return uploads.create(session, DEFAULT_TENANT, kind, "mine", FILES).id


def test_files_keep_the_order_in_which_they_were_declared(database: Database) -> None:
    upload_id = create(database)
    with database.read() as session:
        upload = uploads.get(session, DEFAULT_TENANT, "model", upload_id)
    assert upload is not None
    assert upload_id.startswith("mdl_")
    assert upload.state is UploadState.OPEN
    assert [(file.name, file.size, file.key) for file in upload.files] == [
        ("model.safetensors", 8, None),
        ("config.json", 2, None),
    ]


def test_an_upload_is_found_only_under_its_kind_and_tenant(database: Database) -> None:
    upload_id = create(database, "dataset")
    with database.read() as session:
        assert uploads.get(session, DEFAULT_TENANT, "dataset", upload_id) is not None
        assert uploads.get(session, DEFAULT_TENANT, "model", upload_id) is None
        assert uploads.get(session, "other", "dataset", upload_id) is None


def test_a_ready_upload_takes_no_more_files(database: Database) -> None:
    upload_id = create(database)
    with database.write() as session:
        assert uploads.record_file(session, DEFAULT_TENANT, upload_id, "config.json", "uploads/a")
        assert not uploads.record_file(session, DEFAULT_TENANT, upload_id, "other.json", "uploads/b")
        assert uploads.mark_ready(session, DEFAULT_TENANT, upload_id, {"family": "ast"})
        assert not uploads.mark_ready(session, DEFAULT_TENANT, upload_id, {"family": "bert"})
        assert not uploads.record_file(session, DEFAULT_TENANT, upload_id, "config.json", "uploads/c")
    with database.read() as session:
        upload = uploads.get(session, DEFAULT_TENANT, "model", upload_id)
    assert upload is not None
    assert (upload.state, upload.description) == (UploadState.READY, {"family": "ast"})
    assert [file.key for file in upload.files] == [None, "uploads/a"]
