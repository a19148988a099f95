"""Which class a checkpoint is loaded with, and when code beside it may run."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from secateur import errors, load

STOCK = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}
OWN = {
    "model_type": "audio-spectrogram-transformer",
    "architectures": ["M"],
    "auto_map": {"AutoConfig": "c.C", "AutoModel": "m.Base", "AutoModelForAudioClassification": "m.M"},
}
BEFORE = {"model_type": "pruned-ast", "auto_map": {"AutoConfig": "c.C", "AutoModelForAudioClassification": "m.M"}}
"""As older files were written."""


class Transformers:
    """Remembers what was loaded with which class."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        class Auto:
            @staticmethod
            def from_pretrained(path: str, **options: Any) -> str:
                self.calls.append((name, path, options))
                return "a model"

        return Auto


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Transformers:
    found = Transformers()
    monkeypatch.setitem(sys.modules, "transformers", found)  # type: ignore[arg-type]
    return found


def checkpoint(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_pruned.py").write_text("")
    return folder


def test_a_stock_checkpoint_has_the_class_of_its_family(tmp_path: Path, transformers: Transformers) -> None:
    assert load(checkpoint(tmp_path, STOCK), dtype="float16") == "a model"
    assert transformers.calls == [("AutoModelForCTC", str(tmp_path), {"trust_remote_code": False, "dtype": "float16"})]


@pytest.mark.parametrize("trust", [False, None, 1, "yes"])
def test_code_of_its_own_runs_only_where_that_was_said(tmp_path: Path, transformers: Transformers, trust: Any) -> None:
    with pytest.raises(errors.TrustRequired, match=r"modeling_pruned\.py.*`trust_remote_code=True`"):
        load(checkpoint(tmp_path, OWN), trust_remote_code=trust)
    assert transformers.calls == []
    for config in (OWN, BEFORE):
        load(checkpoint(tmp_path, config), trust_remote_code=True)
    assert [call[0] for call in transformers.calls] == ["AutoModelForAudioClassification"] * 2


@pytest.mark.parametrize(
    "config", [{"model_type": "bloom", "architectures": ["BloomForCausalLM"]}, {"architectures": []}, []]
)
def test_what_is_no_checkpoint_of_ours_is_said(tmp_path: Path, transformers: Transformers, config: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"config\.json"):
        load(checkpoint(tmp_path, config))
    assert transformers.calls == []


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"no config\.json"):
        load(tmp_path)


def test_transformers_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", importing)
    with pytest.raises(errors.MissingDependency, match="pip install 'transformers"):
        load(checkpoint(tmp_path, STOCK))
