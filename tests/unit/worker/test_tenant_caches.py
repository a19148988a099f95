"""What engines leave for the next job of their tenant: whole entries alone, nobody else's, and no more than there is room for."""

import os
import time
from pathlib import Path

import pytest

from worker.inputs.kept_inputs import UNUSED_SECONDS
from worker.supervisor.tenant_caches import TenantCaches

ONE, TWO, THREE = (f"{kind}-{'0' * 31}{kind[0] == 's':d}" for kind in ("features", "scores", "statistics"))


def leave(place: Path, name: str, size: int = 10, ago: float = 0) -> Path:
    """An entry as an engine writes it."""
    entry = place / name
    entry.mkdir(parents=True)
    (entry / "manifest.json").write_bytes(b"x" * size)
    os.utime(entry, (time.time() - ago,) * 2)
    return entry


def found(caches: TenantCaches, tenant: str, place: Path) -> set[str]:
    with caches.lent(tenant, place):
        return {entry.name for entry in place.iterdir()} if place.exists() else set()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "job"


def test_the_next_job_of_the_tenant_finds_what_was_left_and_no_other(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 1000)
    with caches.lent("a", place):
        leave(place, ONE)
    assert not place.exists()
    assert found(caches, "b", tmp_path / "other") == set()
    assert found(caches, "a", place) == {ONE}
    assert (tmp_path / "caches").stat().st_mode & 0o777 == 0o700


def test_what_was_left_by_a_job_that_failed_is_kept_too(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 1000)

    def fail() -> None:
        with caches.lent("a", place):
            leave(place, ONE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert found(caches, "a", place) == {ONE}


def test_only_whole_entries_of_plain_files_are_kept(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 1000)
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    with caches.lent("a", place):
        leave(place, ONE)
        leave(place, f"{ONE}.x7k2")  # half-written when its engine was killed
        leave(place, "rows-1")
        (place / "file").write_text("x")
        (place / THREE).symlink_to(tmp_path)
        (leave(place, TWO) / "link").symlink_to(secret)
        os.link(secret, leave(place, f"scores-{'a' * 32}") / "hard")
        (leave(place, f"scores-{'b' * 32}") / "deeper").mkdir()
    assert found(caches, "a", place) == {ONE}
    assert secret.read_text() == "of somebody else"


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 25)
    with caches.lent("a", place):
        leave(place, ONE, ago=300)
    with caches.lent("b", tmp_path / "other"):
        leave(tmp_path / "other", ONE, ago=100)
        leave(tmp_path / "other", TWO, ago=200)
    assert found(caches, "a", place) == set()
    assert found(caches, "b", tmp_path / "other") == {ONE, TWO}


def test_what_nobody_used_for_a_day_goes(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 1000)
    with caches.lent("a", place):
        leave(place, ONE, ago=UNUSED_SECONDS + 60)
        leave(place, TWO, ago=UNUSED_SECONDS - 60)
    assert found(caches, "a", place) == {TWO}


def test_none_is_kept_where_none_may_be(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 0)
    with caches.lent("a", place):
        leave(place, ONE)
    assert place.exists()  # and goes with the job's folder
    assert found(caches, "a", tmp_path / "other") == set()


def test_when_an_entry_was_used_is_not_its_engines_to_say(tmp_path: Path, place: Path) -> None:
    caches = TenantCaches(tmp_path / "caches", 25)
    with caches.lent("a", place):
        leave(place, ONE, size=20, ago=-1e9)
    os.utime(next((tmp_path / "caches").glob("*/*")), (time.time() - 100,) * 2)
    with caches.lent("b", tmp_path / "other"):
        leave(tmp_path / "other", TWO, size=20, ago=-1e9)
    assert found(caches, "a", place) == set()
    assert all(entry.stat().st_mtime <= time.time() for entry in (tmp_path / "caches").glob("*/*"))
    assert found(caches, "b", tmp_path / "other") == {TWO}
