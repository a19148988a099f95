"""Inputs are fetched once a worker, and a copy that was damaged is fetched anew."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from worker.inputs import kept_inputs
from worker.inputs.kept_inputs import KeptInputs

DATA = b"weights" * 100


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_inputs, "LEAST_BYTES", 1)


@pytest.mark.parametrize(("most_bytes", "fetches"), [(1000, 1), (10, 3), (0, 3)])
def test_what_was_fetched_before_is_not_fetched_again(tmp_path: Path, most_bytes: int, fetches: int) -> None:
    kept, fetched = KeptInputs(tmp_path / "caches", most_bytes), []
    for number in range(3):
        path = tmp_path / f"job-{number}" / "model" / "w"
        path.parent.mkdir(parents=True)

        def fetch(path: Path = path) -> None:
            fetched.append(path)
            path.write_bytes(DATA)

        kept.bring("uploads/a", path, fetch)
        assert path.read_bytes() == DATA
        path.write_bytes(b"an engine's")  # The job's own copy.
    assert len(fetched) == fetches


def test_what_was_damaged_is_fetched_anew(tmp_path: Path) -> None:
    kept, path = KeptInputs(tmp_path / "caches", 2000), tmp_path / "w"
    fetched = []

    def fetch() -> None:
        fetched.append(1)
        with path.open("ab") as file:  # As a download that goes on behind what is there.
            file.write(DATA[file.tell() :])

    kept.bring("uploads/a", path, fetch)
    path.unlink()
    [copy] = (tmp_path / "caches" / "inputs").glob("*/bytes")
    copy.write_bytes(b"?")
    for _ in range(2):
        kept.bring("uploads/a", path, fetch)
        assert path.read_bytes() == DATA
    assert len(fetched) == 2
    kept.bring("uploads/b", path, fetch)
    assert len(fetched) == 3
    copy.write_bytes(DATA[:-1] + b"?")
    kept.bring("uploads/a", path, fetch)
    assert (path.read_bytes(), len(fetched)) == (DATA, 4)


def test_what_cannot_be_fetched_is_not_there(tmp_path: Path) -> None:
    kept = KeptInputs(tmp_path / "caches", 1000)

    def fetch() -> None:
        raise FileNotFoundError

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            kept.bring("uploads/a", tmp_path / "w", fetch)


def test_all_of_them_have_no_more_than_that_together(tmp_path: Path) -> None:
    """Who was not used for longest makes room, and what others keep there counts."""
    kept, fetched = KeptInputs(tmp_path / "caches", 2600), list[str]()
    other = tmp_path / "caches" / "tenant" / "features"
    other.mkdir(parents=True)
    (other / "manifest.json").write_bytes(b"x" * 1000)
    os.utime(other, (time.time() + 60,) * 2)

    def bring(key: str) -> None:
        path = tmp_path / "w"
        kept.bring(key, path, lambda: (fetched.append(key), path.write_bytes(DATA))[0])
        assert path.read_bytes() == DATA

    for key in ("a", "b", "c"):
        bring(key)
        for copy in (tmp_path / "caches" / "inputs").iterdir():
            os.utime(copy, (copy.stat().st_mtime - 10,) * 2)
    assert sum(file.stat().st_size for file in (tmp_path / "caches").rglob("*") if file.is_file()) <= 2600
    bring("c")
    bring("b")
    bring("a")
    assert fetched == ["a", "b", "c", "a"]
    assert other.exists()


def test_where_the_disk_is_full_what_is_kept_goes_first(tmp_path: Path) -> None:
    kept, path, tries = KeptInputs(tmp_path / "caches", 10_000), tmp_path / "w", list[int]()

    def fetch() -> None:
        tries.append(1)
        if any((tmp_path / "caches").glob("*/*")):
            raise SecateurError(ErrorCode.SCRATCH_FULL, "full")
        path.write_bytes(DATA)

    kept.bring("a", path, fetch)
    kept.bring("b", path, fetch)
    assert len(tries) == 3
    full = KeptInputs(tmp_path / "empty", 10_000)
    (tmp_path / "caches" / "x" / "y").mkdir(parents=True)
    with pytest.raises(SecateurError):
        full.bring("c", path, fetch)


def test_several_threads_that_find_the_disk_full_try_again_once_it_was_emptied(tmp_path: Path) -> None:
    kept = KeptInputs(tmp_path / "caches", 10_000)
    kept.bring("old", tmp_path / "w", lambda: ((tmp_path / "w").write_bytes(DATA), None)[1])
    both, tries = threading.Barrier(2), list[str]()

    def bring(key: str) -> None:
        path = tmp_path / key

        def fetch() -> None:
            tries.append(key)
            if tries.count(key) == 1:
                both.wait(60)  # Neither has given up anything yet.
                raise OSError(errno.ENOSPC, "full")
            path.write_bytes(DATA)

        kept.bring(key, path, fetch)

    threads = [threading.Thread(target=bring, args=(key,)) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [(tmp_path / key).read_bytes() for key in "ab"] == [DATA, DATA]
    assert sorted(tries) == ["a", "a", "b", "b"]


def test_small_files_are_fetched_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_inputs, "LEAST_BYTES", len(DATA) + 1)
    kept, path, fetched = KeptInputs(tmp_path / "caches", 10_000), tmp_path / "w", list[int]()
    for _ in range(2):
        kept.bring("a", path, lambda: (fetched.append(1), path.write_bytes(DATA))[0])
    assert len(fetched) == 2
