"""Folders of recordings become the shards that a service takes, split as their owner split them."""

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from api_schemas.errors import SecateurError
from demo import DemoError, inputs
from secateur.client.files.packing import pack_folder
from tests.support.checkpoints.clips import word


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(word("low"))


def rows(out, split):
    table = pq.read_table(next(out.glob(f"{split}-*.parquet")))
    return sorted(row["path"] for row in table["audio"].to_pylist())


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_folders_by_split(tmp_path, out):
    write(tmp_path / "in", "train/low/a_1.wav", "train/high/b_1.wav", "test/low/c_1.wav")
    pack_folder(tmp_path / "in", out)
    assert (rows(out, "train"), rows(out, "test")) == (["a_1.wav", "b_1.wav"], ["c_1.wav"])


def test_speech_commands_lists(tmp_path, out):
    folder = tmp_path / "in"
    write(folder, "low/a_1.wav", "low/b_1.wav", "high/a_1.wav", "high/c_1.wav", "_background_noise_/hum.wav")
    (folder / "validation_list.txt").write_text("low/b_1.wav\n")
    (folder / "testing_list.txt").write_text("high/c_1.wav\n")
    pack_folder(folder, out)
    assert rows(out, "train") == ["a_1.wav", "a_1.wav"]
    assert (rows(out, "validation"), rows(out, "test")) == (["b_1.wav"], ["c_1.wav"])


def test_nothing_to_pack_is_said(tmp_path, out):
    (tmp_path / "in" / "low").mkdir(parents=True)
    with pytest.raises(SecateurError, match="no parquet shards, audio"):
        pack_folder(tmp_path / "in", out)


def test_the_demo_refuses_data_without_a_test_split_before_it_starts(tmp_path, monkeypatch):
    write(tmp_path / "in", "low/a_1.wav", "high/b_1.wav")
    monkeypatch.setenv("DEMO_DATA", str(tmp_path / "in"))
    monkeypatch.setenv("DEMO_MODEL", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(inputs, "ROOT", tmp_path / "cache")
    with pytest.raises(DemoError, match="no split `test`"):
        inputs.model_and_data(Console())
