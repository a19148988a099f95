"""Cached folders: made once, by one process, and never half."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo import cache


@dataclass(frozen=True)
class Parameters:
    size: int


def test_a_folder_is_made_once_and_again_for_other_parameters(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("done")

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(cache.cached, tmp_path, "x", Parameters(1), (cache,), make) for _ in range(4)]
    assert len({each.result() for each in asked}) == len(made) == 1
    assert (asked[0].result() / "file").read_text() == "done"
    assert cache.cached(tmp_path, "x", Parameters(2), (cache,), make) != asked[0].result()
    assert cache.cached(tmp_path, "x", Parameters(1), (cache,), make, depends="other") != asked[0].result()


def test_a_failure_leaves_no_folder_and_the_next_call_starts_clean(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("stopped half way")

    with pytest.raises(RuntimeError):
        cache.cached(tmp_path, "x", Parameters(1), (), fail)
    assert list(cache.cached(tmp_path, "x", Parameters(1), (), lambda _: None).iterdir()) == []
