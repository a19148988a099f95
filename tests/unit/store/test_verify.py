"""`secateur doctor --verify`: lost files, unnamed objects and wrong counts are found and named; what is whole is said to be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from api_schemas import ids
from api_schemas.api.checkup import Finding, Verdict
from api_schemas.api.resources import DeclaredFile
from store.checkup import verify
from store.database.connection import Database
from store.database.tables import StoredBytes
from store.files.artifacts import Artifacts
from store.jobs import transitions
from store.jobs.transitions import StepFile
from store.settings import Settings
from store.uploads import resumable, uploads
from tests.support.jobs.job_transitions import running
from tests.support.jobs.records import step_metrics


class Server:
    """A database and a store with files of every kind that rows name: keys by kind."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        url = database.url.render_as_string(hide_password=False)
        self.settings = Settings(data_dir=folder, database_url=url, orphan_seconds=0)
        self.artifacts = Artifacts(self.settings.artifacts_url)
        self.keys: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        lease = running(database)
        with database.write() as session:
            declared = [DeclaredFile(name=name, size=4, sha256="ab" * 32) for name in ("here", "parts")]
            upload = uploads.create(session, "default", "model", None, declared)
            self._put("upload", f"uploads/{upload.id}/1/here", upload.id)
            assert uploads.record_file(session, "default", upload.id, "here", self.keys["upload"])
            part = resumable.create(session, "default", upload.id, "parts", 8)
            epoch = resumable.begin(session, "default", part.id, 0)
            assert epoch is not None
            self._put("part", f"uploads/{upload.id}/parts/{part.id}/0", part.id)
            assert resumable.append(session, "default", part.id, epoch, [(0, 4, self.keys["part"])])
        self._put("step", f"jobs/{lease.job_id}/epoch-1/step-0/model.safetensors", lease.job_id)
        with database.write() as session:
            file = StepFile("model.safetensors", 4, "ab" * 32, self.keys["step"])
            transitions.commit_step(session, lease, step_metrics(0), [file], downloadable=True)

    def _put(self, kind: str, key: str, owner: str) -> None:
        self.artifacts.put_bytes(key, b"1234")
        self.keys[kind], self.owners[kind] = key, owner


@pytest.fixture
def server(database: Database, tmp_path: Path) -> Iterator[Server]:
    return Server(database, tmp_path)


def said(findings: list[Finding]) -> tuple[Verdict, str]:
    (finding,) = findings
    return finding.verdict, f"{finding.found} {finding.remedy}"


def test_what_is_whole_is_said_to_be(server: Server) -> None:
    assert said(verify.stored_files(server.settings)) == (
        Verdict.OK,
        "all 3 files in the database are in the store None",
    )
    assert said(verify.unnamed_objects(server.settings))[0] is Verdict.OK
    assert said(verify.counted_bytes(server.settings))[0] is Verdict.OK


@pytest.mark.parametrize("how", ["gone", "cut off"])
@pytest.mark.parametrize("kind", ["upload", "part", "step"])
def test_a_lost_file_is_found_by_its_owner(server: Server, kind: str, how: str) -> None:
    if how == "gone":
        server.artifacts.delete(server.keys[kind])
    else:
        server.artifacts.put_bytes(server.keys[kind], b"12")
    verdict, words = said(verify.stored_files(server.settings))
    assert verdict is Verdict.WRONG
    assert words.startswith(
        f"1 of 3 files are missing or have another size, of 1 uploads and jobs: {server.owners[kind]} "
    )


def test_rows_are_read_page_by_page(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "ROWS", 1)
    for kind in ("upload", "step"):
        server.artifacts.delete(server.keys[kind])
    assert said(verify.stored_files(server.settings))[1].startswith("2 of 3 files are missing")


def test_what_maintenance_would_remove_is_counted_and_stays(server: Server) -> None:
    key = f"uploads/{ids.new_id(ids.MODEL)}/1/config.json"
    server.artifacts.put_bytes(key, b"12345")
    verdict, words = said(verify.unnamed_objects(server.settings))
    assert (verdict, words.startswith("1 objects, 5 bytes, unreferenced")) == (Verdict.WARNING, True)
    assert server.artifacts.exists(key)


def test_a_wrong_count_is_found_and_mended(server: Server) -> None:
    with server.database.write() as session:
        session.execute(update(StoredBytes).values(size=1))
    verdict, words = said(verify.counted_bytes(server.settings))
    assert (verdict, "default" in words) == (Verdict.WRONG, True)
    verify.count_anew(server.settings)
    assert said(verify.counted_bytes(server.settings))[0] is Verdict.OK
