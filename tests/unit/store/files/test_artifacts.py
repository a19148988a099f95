"""Artifacts in a local folder: whole or not at all, ranges, and no way out of the folder. And how much an upload holds."""

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from store.files.artifacts import CHUNK, PART, Artifacts
from tests.support.servers.storage import stuck_bucket

DATA = bytes(range(256)) * 40_000  # 10 MB: several parts.
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts((tmp_path / "store").as_uri())


async def chunks(data: bytes, size: int = 1_000_003) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def upload(artifacts: Artifacts, key: str, data: bytes, size: int = len(DATA), sha256: str = SHA256) -> None:
    asyncio.run(artifacts.put_stream(key, chunks(data), size=size, sha256=sha256))


def files(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "store")) for path in tmp_path.rglob("*") if path.is_file())


def test_a_streamed_upload_is_stored_whole(artifacts: Artifacts, tmp_path: Path) -> None:
    upload(artifacts, "uploads/a/one.bin", DATA)
    assert b"".join(artifacts.read("uploads/a/one.bin")) == DATA
    assert artifacts.size("uploads/a/one.bin") == len(DATA)
    assert files(tmp_path) == ["uploads/a/one.bin"]
    assert stat.S_IMODE((tmp_path / "store/uploads/a/one.bin").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("data", "size", "sha256"),
    [(DATA[:-1], len(DATA), SHA256), (DATA + b"x", len(DATA), SHA256), (DATA, len(DATA), "0" * 64), (b"", 5, SHA256)],
    ids=["short", "long", "other bytes", "nothing"],
)
def test_an_upload_that_is_not_what_was_declared_leaves_nothing(
    artifacts: Artifacts, tmp_path: Path, data: bytes, size: int, sha256: str
) -> None:
    with pytest.raises(SecateurError) as refused:
        upload(artifacts, "uploads/a/one.bin", data, size, sha256)
    assert refused.value.code is ErrorCode.CHECKSUM_MISMATCH
    assert files(tmp_path) == []
    assert not artifacts.exists("uploads/a/one.bin")


def test_an_upload_whose_client_goes_away_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(artifacts.put_stream("uploads/a/one.bin", broken(), size=len(DATA), sha256=SHA256))
    assert files(tmp_path) == []


def test_no_more_is_taken_from_a_client_than_the_store_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four parts on their way and one that is filled: what an upload may hold in memory, whatever its size."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += CHUNK
            yield bytes(CHUNK)
            await asyncio.sleep(0)

    async def until_it_waits(url: str) -> None:
        upload = Artifacts(url).put_stream("uploads/a/one.bin", endless(), size=2**40, sha256=SHA256)
        task = asyncio.create_task(upload)
        before = -1
        while taken != before:
            before = taken
            await asyncio.sleep(1)
        task.cancel()

    with stuck_bucket(monkeypatch) as url:
        asyncio.run(until_it_waits(url))
    assert 4 * PART <= taken <= 6 * PART


def test_an_empty_file_can_be_stored(artifacts: Artifacts, tmp_path: Path) -> None:
    upload(artifacts, "a", b"", 0, hashlib.sha256(b"").hexdigest())
    assert list(artifacts.read("a")) == []
    artifacts.fetch("a", tmp_path / "copy", hashlib.sha256(b"").hexdigest())
    assert (tmp_path / "copy").read_bytes() == b""


def test_a_local_file_is_stored_with_its_size_and_hash(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    stored = artifacts.put_file("jobs/a/epoch-1/step-1/model.safetensors", tmp_path / "file")
    assert (stored.size, stored.sha256) == (len(DATA), SHA256)
    artifacts.fetch(stored.key, tmp_path / "copy", stored.sha256)
    assert (tmp_path / "copy").read_bytes() == DATA


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (7, None), (0, 1), (5, 3_000_000), (9, 9), (len(DATA) - 1, None)]
)
def test_ranges(artifacts: Artifacts, start: int, end: int | None) -> None:
    upload(artifacts, "a", DATA)

    async def stream() -> bytes:
        return b"".join([chunk async for chunk in await artifacts.stream("a", start, end)])

    assert b"".join(artifacts.read("a", start, end)) == DATA[start:end]
    assert asyncio.run(stream()) == DATA[start:end]


def test_what_is_not_there_is_said_at_once(artifacts: Artifacts) -> None:
    with pytest.raises(FileNotFoundError):
        artifacts.read("none")
    with pytest.raises(FileNotFoundError):
        asyncio.run(artifacts.stream("none"))
    with pytest.raises(FileNotFoundError):
        artifacts.size("none")


def test_a_changed_object_is_not_fetched(artifacts: Artifacts, tmp_path: Path) -> None:
    upload(artifacts, "a", DATA)
    (tmp_path / "store/a").write_bytes(b"other")
    with pytest.raises(SecateurError) as refused:
        artifacts.fetch("a", tmp_path / "copy", SHA256)
    assert refused.value.code is ErrorCode.CHECKSUM_MISMATCH
    assert not (tmp_path / "copy").exists()


def test_deleting_a_prefix_takes_nothing_beside_it(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for key in ("jobs/a/1", "jobs/a/2/b", "jobs/ab/1"):
        artifacts.put_file(key, tmp_path / "file")
    assert artifacts.delete_prefix("jobs/a") == 2
    assert [found.key for found in artifacts.list("jobs")] == ["jobs/ab/1"]
    artifacts.delete("jobs/ab/1")
    artifacts.delete("jobs/ab/1")
    assert list(artifacts.list("jobs")) == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.", "a/b\n", "a b", "a\\b", "ä"])
def test_keys_are_plain(artifacts: Artifacts, key: str) -> None:
    with pytest.raises(ValueError, match="not an artifact key"):
        artifacts.exists(key)
