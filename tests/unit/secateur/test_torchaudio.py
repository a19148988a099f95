"""The repair removes torchaudio's compiled half only where torch has no CUDA."""

import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from secateur.doctor import torchaudio


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder with a torchaudio that has two compiled libraries."""
    folder = tmp_path / "torchaudio" / "lib"
    folder.mkdir(parents=True)
    for name in ("_torchaudio.so", "libtorchaudio.so", "__init__.py"):
        (folder / name).touch()
    monkeypatch.setattr(torchaudio, "distribution", lambda _: SimpleNamespace(locate_file=lambda name: tmp_path / name))
    return folder


def torch_says(cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=f"{cuda}\n"))


def test_beside_a_cpu_build_the_compiled_half_goes_and_a_second_run_changes_nothing(
    libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_says("", monkeypatch)
    assert "removed" in torchaudio.repair_torchaudio()
    assert [path.name for path in libraries.iterdir()] == ["__init__.py"]
    assert "nothing to do" in torchaudio.repair_torchaudio()


def test_beside_a_cuda_build_it_stays(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_says("13.0", monkeypatch)
    assert "unchanged" in torchaudio.repair_torchaudio()
    assert len(list(libraries.iterdir())) == 3


def test_without_torchaudio_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(torchaudio, "distribution", missing)
    assert "nothing to do" in torchaudio.repair_torchaudio()
