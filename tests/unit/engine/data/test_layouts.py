"""Every way a data folder may be laid out, read through `prepare`, and the ways in which one is refused."""

import builtins
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns, Splits
from tests.support.checkpoints.clips import WORDS, word, write_checkpoint
from worker.engine.data import PreparedData, prepare

AUDIO = datasets.Audio(decode=False)
FEATURES = datasets.Features({"audio": AUDIO, "label": datasets.ClassLabel(names=list(WORDS))})


def write_shard(path: Path, rows: Iterable[dict[str, Any]], features: datasets.Features | None = FEATURES) -> None:
    """Rows as `datasets` stores them; without `features`, as another program would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = features.arrow_schema if features is not None else None
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def row(number: int, label: Any, **more: Any) -> dict[str, Any]:
    return {"audio": {"bytes": word(WORDS[number % 3], number), "path": None}, "label": label, **more}


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [row(number, number % 3) for number in range(start, start + count)]


def read(folder: Path, **changes: Any) -> PreparedData:
    options: dict[str, Any] = {
        "labels": WORDS,
        "multi_label": False,
        "columns": Columns(),
        "splits": Splits(),
        "seed": 0,
        "cache_dir": folder.parent / "cache",
        "progress": lambda *_: None,
    }
    return prepare(folder, write_checkpoint(folder.parent / "model"), **options | changes)


def refusal(folder: Path, **changes: Any) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        read(folder, **changes)
    cache = folder.parent / "cache"
    assert not cache.exists() or not list(cache.iterdir()), "a refused dataset leaves nothing behind"
    return caught.value


def pitches(data: PreparedData, role: Split) -> list[int]:
    """Which of WORDS each clip sounds like, from its loudest mel bin: independent of the labels."""
    loudest = data.splits[role].inputs["input_values"][:, :10].mean(axis=1).argmax(axis=1)
    order = np.array([2, 0, 1])[np.searchsorted([4, 9], loudest, side="right").clip(0, 2)]
    return [int({2: 1, 0: 2, 1: 0}[value]) for value in order]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def check_three_splits(data: PreparedData, train: int, validation: int, test: int) -> None:
    assert data.summary.samples == {"train": train, "validation": validation, "test": test}
    assert data.summary.held_out == ()
    for role in Split:
        assert data.splits[role].targets.tolist() == pitches(data, role)


def test_parquet_shards_by_name(folder: Path) -> None:
    write_shard(folder / "train-00000-of-00002.parquet", rows(6))
    write_shard(folder / "train-00001-of-00002.parquet", rows(4, start=6))
    write_shard(folder / "validation.parquet", rows(3, start=10))
    write_shard(folder / "test.parquet", rows(5, start=13))
    data = read(folder)
    check_three_splits(data, 10, 3, 5)
    # Rows stay in the order of the shards.
    assert data.splits[Split.TRAIN].targets.tolist() == [n % 3 for n in range(10)]


def test_parquet_shards_in_folders_of_their_split(folder: Path) -> None:
    for split, count in (("train", 6), ("validation", 3), ("test", 3)):
        write_shard(folder / "default" / split / "0000.parquet", rows(count))
    check_three_splits(read(folder), 6, 3, 3)


def test_parquet_that_another_program_wrote(folder: Path) -> None:
    for split in ("train", "val", "test"):
        text = [row(n, WORDS[n % 3], speaker="a") for n in range(6)]
        write_shard(folder / f"{split}.parquet", text, features=None)
    check_three_splits(read(folder), 6, 6, 6)


def test_splits_and_columns_of_other_names(folder: Path) -> None:
    features = datasets.Features(
        {
            "clip": AUDIO,
            "noise": AUDIO,
            "word": datasets.ClassLabel(names=list(WORDS)),
            "label": datasets.Value("string"),
        }
    )
    for split in ("fit", "decide", "report"):
        shard = [
            {"clip": row(n, 0)["audio"], "noise": row(0, 0)["audio"], "word": n % 3, "label": "unused"}
            for n in range(3)
        ]
        write_shard(folder / f"{split}.parquet", shard, features)
    splits = Splits(train="fit", validation="decide", test="report")
    check_three_splits(read(folder, columns=Columns(input="clip", label="word"), splits=splits), 3, 3, 3)


def write_clip(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(word(WORDS[number % 3], number))


def test_an_audio_folder_with_splits(folder: Path) -> None:
    for split, count in (("train", 6), ("validation", 3), ("test", 3)):
        for number in range(count):
            # Brackets would be a pattern to a library that searches for files by glob.
            write_clip(folder / split / WORDS[number % 3] / f"clip [{number}].wav", number)
    (folder / "train" / "notes.txt").write_text("not audio")
    check_three_splits(read(folder), 6, 3, 3)


def test_an_audio_folder_without_splits_holds_out_its_own(folder: Path) -> None:
    for number in range(30):
        write_clip(folder / WORDS[number % 3] / f"{number}.wav", number)
    data = read(folder)
    assert data.summary.samples == {"train": 24, "validation": 3, "test": 3}
    assert data.summary.held_out == ("validation", "test")
    for role in Split:
        assert data.splits[role].targets.tolist() == pitches(data, role)


def test_a_label_called_train_is_a_label(folder: Path) -> None:
    for number in range(20):
        write_clip(folder / ("train", "plane")[number % 2] / f"{number}.wav", number)
    assert sum(read(folder, labels=("plane", "train")).summary.samples.values()) == 20


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_audio_folder_with_metadata(folder: Path, kind: str) -> None:
    for split in ("train", "validation", "test"):
        entries = [{"file_name": f"{n}.wav", "label": WORDS[n % 3], "speaker": f"s{n}"} for n in range(6)]
        for number in range(6):
            write_clip(folder / split / f"{number}.wav", number)
        with (folder / split / f"metadata.{kind}").open("w", newline="") as file:
            if kind == "csv":
                writer = csv.DictWriter(file, list(entries[0]))
                writer.writeheader()
                writer.writerows(entries)
            else:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
    check_three_splits(read(folder), 6, 6, 6)


def test_numbers_in_a_csv_are_names(folder: Path) -> None:
    for number in range(20):
        write_clip(folder / f"{number}.wav", number)
    lines = [f"{number}.wav,{number % 3}" for number in range(20)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    data = read(folder, labels=("2", "1", "0"))
    assert data.summary.samples == {"train": 16, "validation": 2, "test": 2}
    for role in Split:
        # The labels are called in reverse.
        assert data.splits[role].targets.tolist() == [2 - heard for heard in pitches(data, role)]


def test_a_speech_commands_folder(folder: Path) -> None:
    for number in range(12):
        write_clip(folder / WORDS[number % 3] / f"{number}.wav", number)
    write_clip(folder / "_background_noise_" / "rain.wav", 0)
    (folder / "validation_list.txt").write_text(f"{WORDS[0]}/0.wav\n{WORDS[1]}/1.wav\nabsent/99.wav\n")
    (folder / "testing_list.txt").write_text(f"{WORDS[2]}/2.wav\r\n{WORDS[0]}/3.wav\n\n")
    data = read(folder)
    check_three_splits(data, 8, 2, 2)
    assert data.splits[Split.VALIDATION].targets.tolist() == [0, 1]
    assert sorted(data.splits[Split.TEST].targets.tolist()) == [0, 2]


def test_an_empty_folder_is_refused(folder: Path) -> None:
    (folder / "readme.txt").write_text("nothing here")
    assert refusal(folder).code is ErrorCode.DATASET_EMPTY


def test_shards_without_rows_are_refused(folder: Path) -> None:
    write_shard(folder / "train.parquet", [])
    assert refusal(folder).code is ErrorCode.DATASET_EMPTY


def test_clips_outside_label_folders_are_refused(folder: Path) -> None:
    write_clip(folder / "a" / "1.wav", 1)
    write_clip(folder / "2.wav", 2)
    error = refusal(folder)
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert "2.wav" in error.detail


def test_data_without_a_train_split_is_refused(folder: Path) -> None:
    write_shard(folder / "other.parquet", rows(3))
    error = refusal(folder)
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert "other" in error.detail


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (Columns(input="sound"), "'sound'"),
        (Columns(label="word"), "'word'"),
        (Columns(group="speaker"), "'speaker'"),
        (Columns(input="label"), "does not contain audio"),
        (Columns(label="audio"), "by name"),
    ],
)
def test_columns_that_are_not_there_are_refused_with_those_that_are(
    folder: Path, columns: Columns, reason: str
) -> None:
    write_shard(folder / "train.parquet", rows(12))
    error = refusal(folder, columns=columns)
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert reason in error.detail
    assert "audio (Audio), label (ClassLabel)" in error.detail


def test_numbers_without_names_that_no_class_has_are_refused(folder: Path) -> None:
    spoilt = [{**row, "label": row["label"] + 1} for row in rows(12)]
    write_shard(folder / "train.parquet", spoilt, features=None)
    assert refusal(folder).code is ErrorCode.LABELS_MISMATCH


def test_shards_that_name_labels_differently_are_refused(folder: Path) -> None:
    other = datasets.Features({"audio": AUDIO, "label": datasets.ClassLabel(names=list(reversed(WORDS)))})
    write_shard(folder / "train.parquet", rows(6))
    write_shard(folder / "validation.parquet", rows(6), other)
    error = refusal(folder)
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert "validation.parquet" in error.detail


def test_a_file_that_is_no_parquet_is_refused(folder: Path) -> None:
    (folder / "train.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    assert refusal(folder).code is ErrorCode.DATASET_SCHEMA


def test_a_path_in_a_shard_is_not_followed(folder: Path) -> None:
    secret = folder.parent / "secret.wav"
    secret.write_bytes(word("low"))
    shard = rows(12)
    shard[4]["audio"] = {"bytes": None, "path": str(secret)}
    write_shard(folder / "train.parquet", shard)
    error = refusal(folder)
    assert error.code is ErrorCode.AUDIO_UNDECODABLE
    assert error.errors[0].pointer == "/train[4]"


def test_an_undecodable_clip_is_refused_with_split_and_row(folder: Path) -> None:
    shard = rows(80)
    shard[70]["audio"]["bytes"] = b"RIFF, but no more than that"
    write_shard(folder / "train.parquet", shard)
    error = refusal(folder)
    assert error.code is ErrorCode.AUDIO_UNDECODABLE
    assert error.errors[0].pointer == "/train[70]"


def test_a_shard_without_rows_among_others_is_passed_over(folder: Path) -> None:
    write_shard(folder / "train-0.parquet", [])
    write_shard(folder / "train-1.parquet", rows(30))
    assert read(folder).summary.samples == {"train": 24, "validation": 3, "test": 3}


def test_torchcodec_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wheels need CUDA or ffmpeg, and `datasets` asks for it even to note a clip's path."""
    for name in [name for name in sys.modules if name.split(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "torchcodec":
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    for number in range(20):
        write_clip(folder / "clips" / WORDS[number % 3] / f"{number}.wav", number)
    (folder / "clips").rename(folder / "train")
    assert read(folder).summary.samples == {"train": 16, "validation": 2, "test": 2}
