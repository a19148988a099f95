"""Inputs are fetched once a worker, and a copy that was damaged is fetched anew."""

import hashlib
from pathlib import Path

import pytest

from worker.inputs.kept_inputs import KeptInputs

DATA = b"weights" * 100
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(("most_bytes", "fetches"), [(1000, 1), (10, 3), (0, 3)])
def test_what_was_fetched_before_is_not_fetched_again(tmp_path: Path, most_bytes: int, fetches: int) -> None:
    kept, fetched = KeptInputs(tmp_path / "inputs", most_bytes), []
    for number in range(3):
        path = tmp_path / f"job-{number}" / "model" / "w"
        path.parent.mkdir(parents=True)

        def fetch(path: Path = path) -> None:
            fetched.append(path)
            path.write_bytes(DATA)

        kept.bring("uploads/a", SHA, path, fetch)
        assert path.read_bytes() == DATA
        path.write_bytes(b"an engine's")  # The job's own copy.
    assert len(fetched) == fetches


def test_what_was_damaged_is_fetched_anew(tmp_path: Path) -> None:
    kept, path = KeptInputs(tmp_path / "inputs", 1000), tmp_path / "w"
    fetched = []

    def fetch() -> None:
        fetched.append(1)
        path.write_bytes(DATA)

    kept.bring("uploads/a", SHA, path, fetch)
    [copy] = (tmp_path / "inputs").glob("*/bytes")
    copy.write_bytes(b"?")
    for _ in range(2):
        kept.bring("uploads/a", SHA, path, fetch)
        assert path.read_bytes() == DATA
    assert len(fetched) == 2
    kept.bring("uploads/b", SHA, path, fetch)
    assert len(fetched) == 3


def test_what_cannot_be_fetched_is_not_there(tmp_path: Path) -> None:
    kept = KeptInputs(tmp_path / "inputs", 1000)

    def fetch() -> None:
        raise FileNotFoundError

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            kept.bring("uploads/a", SHA, tmp_path / "w", fetch)
