"""The demo's data: repeatable, speaker-disjoint, readable by `datasets`, and made so that order matters."""

import io
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from api_schemas.errors import SecateurError
from demo.keywords import RATE, KeywordData, make_folder
from demo.phonemes import SOUNDS, WORDS
from demo.score import read_clips
from secateur.client.files.packing import pack_folder
from tests.support.checkpoints.tiny import tiny_data, tiny_model

SMALL = KeywordData(
    words=("sami", "misa", "tulo"),
    clips=(("train", 9), ("validation", 3), ("test", 3)),
    speakers=(("train", 3), ("validation", 2), ("test", 2)),
)


@pytest.fixture(scope="module")
def wavs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wavs")
    make_folder(SMALL, folder)
    return folder


def test_words_of_a_set_share_their_sounds_so_that_only_order_tells_them_apart() -> None:
    assert len(set(WORDS)) == 20
    assert {sound for word in WORDS for sound in word} <= set(SOUNDS)
    sets = [WORDS[first : first + 4] for first in range(0, 20, 4)]
    assert all(len({"".join(sorted(word)) for word in words}) == 1 for words in sets)


def test_clips_are_one_second_of_sound_at_16_khz(wavs: Path) -> None:
    files = sorted(wavs.rglob("*.wav"))
    assert len(files) == 15
    for file in files:
        samples, rate = soundfile.read(file)
        assert (rate, samples.shape) == (RATE, (RATE,))
        assert 0.15 < np.abs(samples).max() <= 0.95
        assert samples.std() > 0.005


def test_equal_seeds_give_equal_clips_and_another_seed_others(wavs: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    make_folder(SMALL, again)
    make_folder(KeywordData(SMALL.words, SMALL.clips, SMALL.speakers, seed=1), other)
    first = {path.relative_to(wavs): path.read_bytes() for path in wavs.rglob("*.wav")}
    assert first == {path.relative_to(again): path.read_bytes() for path in again.rglob("*.wav")}
    assert not set(first.values()) & {path.read_bytes() for path in other.rglob("*.wav")}


def test_packed_shards_load_with_datasets_and_hold_the_bytes_of_the_files(wavs: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    pack_folder(wavs, packed)
    files = {split: [str(next(packed.glob(f"{split}-*.parquet")))] for split in ("train", "validation", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].features["label"].names == ["misa", "sami", "tulo"]
    row = loaded["test"].cast_column("audio", datasets.Audio(decode=False))[0]
    name = loaded["test"].features["label"].int2str(row["label"])
    assert row["audio"]["bytes"] == (wavs / "test" / name / row["audio"]["path"]).read_bytes()
    speakers = {split: set(rows["speaker"]) for split, rows in loaded.items()}
    assert not speakers["train"] & speakers["test"]
    assert not speakers["train"] & speakers["validation"]


def test_a_folder_of_labels_without_splits_becomes_train(wavs: Path, tmp_path: Path) -> None:
    pack_folder(wavs / "train", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001.parquet"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecateurError, match="no parquet shards, audio"):
        pack_folder(tmp_path, tmp_path)


def test_a_limit_takes_clips_from_the_whole_split() -> None:
    clips, labels = read_clips(tiny_data(), "test", limit=16)
    assert len(clips) == 16
    assert len(set(labels)) > 4


def test_the_tests_own_model_is_readable_and_knows_the_words_of_its_data() -> None:
    names = pq.read_schema(tiny_data() / "train.parquet").metadata[b"huggingface"]
    assert all(f'"{word}"'.encode() in names for word in ("sami", "rafo"))
    assert {path.stat().st_mode & 0o777 for path in tiny_model().iterdir()} == {0o644}


def test_audio_in_a_shard_decodes_without_a_file() -> None:
    row = pq.read_table(tiny_data() / "test.parquet").slice(0, 1).to_pylist()[0]
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
    assert (rate, len(samples)) == (RATE, RATE)
