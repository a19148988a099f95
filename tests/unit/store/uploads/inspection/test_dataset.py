"""The dataset inspector: what it finds in good shards, and what it says of spoilt ones."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api_schemas.api.resources import DatasetContents, JobError
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from store.uploads.inspection.dataset import inspect
from store.uploads.inspection.dataset_process import Bounds, InspectionStopped, inspect_in_process
from tests.support.uploads import LABELS, class_label, dataset_files, shard, table, tone

IDS = pa.int64()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def inspected(tmp_path: Path) -> Any:
    def inspected(files: Mapping[str, bytes], **columns: str) -> DatasetContents:
        return inspect(write(tmp_path, files), Columns(**columns))

    return inspected


@pytest.fixture
def refusal(tmp_path: Path) -> Any:
    def refusal(files: Mapping[str, bytes], **columns: str) -> SecateurError:
        with pytest.raises(SecateurError) as caught:
            inspect(write(tmp_path, files), Columns(**columns))
        return caught.value

    return refusal


@pytest.fixture
def label_error(tmp_path: Path) -> Any:
    def label_error(files: Mapping[str, bytes]) -> JobError:
        """What is wrong with the label column: kept, since nobody may read it, and raised in the same words where it is named."""
        contents = inspect(write(tmp_path, files), Columns())
        assert contents.label_error is not None
        assert (contents.label_column, contents.labels) == ("label", ())
        with pytest.raises(SecateurError) as caught:
            inspect(tmp_path, Columns(label="label"))
        assert JobError.of(caught.value) == contents.label_error
        return contents.label_error

    return label_error


def test_counts_labels_and_durations(inspected: Any) -> None:
    contents = inspected(dataset_files())
    assert contents.rows == {"test": 4, "train": 4, "validation": 4}
    assert contents.labels == LABELS
    assert contents.columns == ("audio", "label")
    assert contents.seconds == pytest.approx(12 * 0.1)
    assert contents.sampling_rates == (16000,)
    assert not contents.multi_label


def test_names_of_a_class_label_in_the_order_of_their_ids_and_only_those_in_use(inspected: Any) -> None:
    names = ("zebra", "unused", "ant")
    data = shard([tone(), tone()], [2, 0], label_type=IDS, features=class_label(names))
    assert inspected({"train.parquet": data}).labels == ("zebra", "ant")


@pytest.mark.parametrize(
    "written",
    [
        lambda names: {"_type": "Sequence", "feature": {"names": names, "_type": "ClassLabel"}},
        lambda names: {"_type": "List", "feature": {"names": names, "_type": "ClassLabel"}},
        lambda names: [{"names": names, "_type": "ClassLabel"}],
    ],
)
def test_several_labels_a_clip(inspected: Any, written: Any) -> None:
    features = {"audio": {"_type": "Audio"}, "labels": written(["a", "b", "c"])}
    data = shard([tone(), tone()], [[0, 2], []], label_type=pa.list_(IDS), features=features, label_column="labels")
    contents = inspected({"train.parquet": data})
    assert contents.multi_label
    assert contents.labels == ("a", "c")
    assert contents.label_column == "labels"


def test_several_text_labels(inspected: Any) -> None:
    data = shard([tone(), tone()], [["b", "a"], ["a"]], label_type=pa.list_(pa.string()))
    contents = inspected({"train.parquet": data})
    assert (contents.multi_label, contents.labels) == (True, ("a", "b"))


def test_all_kinds_of_audio_and_shards_of_a_split(inspected: Any) -> None:
    clips = [
        tone(kind=kind, rate=rate) for kind, rate in (("WAV", 8000), ("FLAC", 44100), ("OGG", 16000), ("MP3", 32000))
    ]
    files = {
        "train-00000-of-00002.parquet": shard(clips[:2], ["a", "b"]),
        "train-00001-of-00002.parquet": shard(clips[2:], ["a", "b"]),
        "0000.parquet": shard([tone()], ["a"]),
    }
    contents = inspected(files)
    assert contents.rows == {"train": 5}
    assert contents.sampling_rates == (8000, 16000, 32000, 44100)


def test_columns_by_name(inspected: Any, refusal: Any) -> None:
    files = {"train.parquet": shard([tone()], ["a"], label_column="word")}
    assert inspected(files, label="word").label_column == "word"
    assert inspected(files).label_column is None, (
        "audio alone is data for embeddings; the checkpoint says whether it needs more"
    )
    assert "Its columns are: audio (Audio), word (text)" in refusal(files, label="speaker").detail
    assert "both input and label" in refusal(files, input="word", label="word").detail
    number = {"train.parquet": shard([tone()], [0.5], label_type=pa.float64())}
    assert "column 'label' does not contain audio" in refusal(number, input="label").detail
    assert "`columns.group` names 'speaker'" in refusal(files, label="word", group="speaker").detail


def test_an_empty_dataset(refusal: Any) -> None:
    assert refusal({"train.parquet": shard([], [])}).code is ErrorCode.DATASET_EMPTY


@pytest.mark.parametrize(
    ("clips", "labels", "more", "said"),
    [
        ([tone(), None], ["a", "b"], {}, r"train\[1\] has no embedded bytes"),
        ([tone(), b""], ["a", "b"], {}, r"train\[1\] has no embedded bytes"),
        ([None], [None], {}, r"train\[0\] has no embedded bytes"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    refusal: Any, clips: list[Any], labels: list[Any], more: dict[str, Any], said: str
) -> None:
    error = refusal({"train.parquet": shard(clips, labels, **more)})
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert re.search(said, error.detail)


@pytest.mark.parametrize(
    ("clips", "labels", "more", "said"),
    [
        ([tone(), tone()], ["a", None], {}, r"train\[1\] has no label"),
        ([tone()], [""], {}, r"label at train\[0\]"),
        ([tone()], [4], {"label_type": IDS, "features": class_label()}, r"train\[0\] is 4"),
        ([tone()], [-1], {"label_type": IDS, "features": class_label()}, r"train\[0\] is -1"),
        ([tone()], [2], {"label_type": IDS, "features": class_label(["a", "a"])}, r"train\[0\] is 2"),
        ([tone()], [[]], {"label_type": pa.list_(pa.string())}, "no row has a label"),
        ([tone()], ["a\0b"], {}, r"label at train\[0\]"),
        ([tone()], [0], {"label_type": IDS, "features": class_label(["a" * 1000, "b"])}, r"label at train\[0\]"),
        ([tone()], [0], {"label_type": IDS, "features": class_label(["\ud800", "b"])}, r"label at train\[0\]"),
    ],
)
def test_rows_whose_label_cannot_be_used_are_named(
    label_error: Any, clips: list[Any], labels: list[Any], more: dict[str, Any], said: str
) -> None:
    error = label_error({"train.parquet": shard(clips, labels, **more)})
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert re.search(said, error.detail)


def test_clips_are_looked_at_behind_a_label_that_cannot_be_used(refusal: Any) -> None:
    error = refusal({"train.parquet": shard([tone(), tone(), b"no clip"], ["a", None, "b"])})
    assert (error.code, error.errors[0].pointer) == (ErrorCode.AUDIO_UNDECODABLE, "/train[2]")


def test_audio_that_cannot_be_decoded_is_named_by_split_and_row(refusal: Any) -> None:
    error = refusal({"validation.parquet": shard([tone(), tone(), b"RIFF no wave at all"], ["a", "b", "c"])})
    assert error.code is ErrorCode.AUDIO_UNDECODABLE
    assert error.errors[0].pointer == "/validation[2]"
    assert "object at" not in error.detail, "an address in this process is nobody's business"


def test_audio_whose_samples_are_broken_behind_a_good_header(refusal: Any) -> None:
    flac = tone(kind="FLAC", seconds=1.0)
    broken = flac[: len(flac) // 2] + bytes(len(flac) // 2)
    assert refusal({"train.parquet": shard([broken], ["a"])}).code is ErrorCode.AUDIO_UNDECODABLE


def test_shards_must_be_alike(label_error: Any) -> None:
    files = {
        "train.parquet": shard([tone()], [0], label_type=IDS, features=class_label(["a", "b"])),
        "test.parquet": shard([tone()], [0], label_type=IDS, features=class_label(["b", "a"])),
    }
    assert "all shards must have the same columns and types" in label_error(files).detail


def test_a_file_that_only_begins_and_ends_as_parquet(refusal: Any) -> None:
    assert "cannot be read as a parquet file" in refusal({"train.parquet": b"PAR1" + bytes(100) + b"PAR1"}).detail


def test_pages_that_are_broken_behind_a_good_footer(refusal: Any) -> None:
    data = shard([tone(), tone()], ["a", "b"])
    assert refusal({"train.parquet": data[:40] + bytes(400) + data[440:]}).code in (
        ErrorCode.DATASET_SCHEMA,
        ErrorCode.AUDIO_UNDECODABLE,
    )


BOUNDS = Bounds(seconds=900, memory_bytes=4 * 2**30, rows=1000, unpacked_bytes=2**30)


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert inspect_in_process(write(tmp_path, dataset_files()), Columns(), BOUNDS).contents.labels == LABELS


def test_nobody_wants_the_answer_any_more(tmp_path: Path) -> None:
    with pytest.raises(InspectionStopped):
        inspect_in_process(write(tmp_path, dataset_files()), Columns(), BOUNDS, lambda: False)


def test_bounds_hold_over_all_shards_and_while_reading(tmp_path: Path) -> None:
    folder = write(tmp_path, dataset_files())
    with pytest.raises(SecateurError, match="12 rows in all; the maximum is 11"):
        inspect(folder, Columns(), most_rows=11)
    assert inspect(folder, Columns(), most_rows=12).rows == {"test": 4, "train": 4, "validation": 4}
    with pytest.raises(SecateurError, match="have more than 20000 bytes uncompressed"):
        inspect(folder, Columns(), most_bytes=20000)


def test_repeated_values_count_as_often_as_they_are_there(tmp_path: Path) -> None:
    """A shard keeps equal values once: what it unpacks to is another matter than its size."""
    texts = table(text=(pa.string(), ["so " * 1000] * 2000), label=(pa.string(), ["a"] * 2000))
    assert len(texts) < 50_000
    with pytest.raises(SecateurError, match="have more than 5000000 bytes uncompressed"):
        inspect(write(tmp_path, {"train.parquet": texts}), Columns(), most_bytes=5_000_000)


def test_errors_come_through_the_process(tmp_path: Path) -> None:
    with pytest.raises(SecateurError) as caught:
        inspect_in_process(write(tmp_path, {"train.parquet": shard([b"noise"], ["a"])}), Columns(), BOUNDS)
    assert caught.value.code is ErrorCode.AUDIO_UNDECODABLE
    assert caught.value.errors[0].pointer == "/train[0]"


def test_limits_of_the_process_end_as_an_error_and_not_as_ours(tmp_path: Path) -> None:
    folder = write(tmp_path, dataset_files())
    for limits in ({"seconds": 0}, {"memory_bytes": 2**26}):
        with pytest.raises(SecateurError, match="could not be inspected") as caught:
            inspect_in_process(folder, Columns(), replace(BOUNDS, **limits))
        assert caught.value.code is ErrorCode.DATASET_SCHEMA
        assert str(tmp_path) not in caught.value.detail


def test_files_of_splits_with_capitals_and_numbers(inspected: Any) -> None:
    files = {
        "Train.parquet": shard([tone()], ["a"]),
        "train_01.parquet": shard([tone()], ["b"]),
        "Test_0.parquet": shard([tone()], ["a"]),
    }
    assert inspected(files).rows == {"test": 1, "train": 2}
