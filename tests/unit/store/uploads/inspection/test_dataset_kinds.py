"""The inspector on data other than labelled audio: images, texts, words with tags, transcripts, inputs alone."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from api_schemas.api.resources import DatasetContents
from api_schemas.enums import ColumnKind, Modality
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from store.uploads.inspection.dataset import inspect
from tests.support.uploads import EMBEDDED, picture, table, tone

TEXT, TEXTS, IDS = pa.string(), pa.list_(pa.string()), pa.int64()

Inspect = Callable[..., DatasetContents]
Refuse = Callable[..., SecateurError]


@pytest.fixture
def inspected(tmp_path: Path) -> Inspect:
    def inspected(data: bytes, **columns: str) -> DatasetContents:
        (tmp_path / "train.parquet").write_bytes(data)
        return inspect(tmp_path, Columns(**columns))

    return inspected


@pytest.fixture
def refusal(inspected: Inspect) -> Refuse:
    def refusal(data: bytes, **columns: str) -> SecateurError:
        with pytest.raises(SecateurError) as caught:
            inspected(data, **columns)
        return caught.value

    return refusal


def a_size_of(width: int, height: int) -> bytes:
    """A small PNG whose header promises `width` × `height` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_images_are_known_by_their_bytes(inspected: Inspect, kind: str) -> None:
    contents = inspected(table(photo=(EMBEDDED, [picture(kind=kind)] * 3), label=(TEXT, ["a", "b", "a"])))
    assert contents.modality is Modality.IMAGE
    assert (contents.input_column, contents.label_column, contents.labels) == ("photo", "label", ("a", "b"))
    assert contents.kinds == {"photo": ColumnKind.IMAGE, "label": ColumnKind.TEXT}
    assert (contents.seconds, contents.sampling_rates) == (0, ())


def test_images_as_datasets_writes_them(inspected: Inspect) -> None:
    features = {"image": {"_type": "Image"}, "kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    contents = inspected(table(features, image=(EMBEDDED, [picture()] * 2), kind=(IDS, [1, 1])))
    assert (contents.modality, contents.labels, contents.label_column) == (Modality.IMAGE, ("dog",), "kind")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (a_size_of(100_000, 100_000), "10000000000 pixels"),
        (a_size_of(9_000, 9_000), "9000 × 9000"),
        (picture()[:-40], "decoded"),
        (picture(kind="JPEG")[:200], "decoded"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "decoded"),
        (tone(), "cannot identify"),
    ],
    ids=["bomb", "too large", "cut short", "jpeg cut short", "no chunks", "audio"],
)
def test_images_that_cannot_be_used_are_named(refusal: Refuse, data: bytes, said: str) -> None:
    error = refusal(table(image=(EMBEDDED, [picture(), data]), label=(TEXT, ["a", "b"])))
    assert error.code is ErrorCode.IMAGE_UNDECODABLE
    assert error.errors[0].pointer == "/train[1]"
    assert said in error.detail
    assert "object at" not in error.detail


def test_formats_beyond_the_list_are_refused(refusal: Refuse) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    data = table({"image": {"_type": "Image"}}, image=(EMBEDDED, [buffer.getvalue()]), label=(TEXT, ["a"]))
    assert refusal(data).code is ErrorCode.IMAGE_UNDECODABLE


def test_texts_with_labels(inspected: Inspect) -> None:
    contents = inspected(table(review=(TEXT, ["good film", "bad film"]), label=(TEXT, ["yes", "no"])))
    assert (contents.modality, contents.input_column, contents.labels) == (Modality.TEXT, "review", ("no", "yes"))


def test_of_several_texts_the_one_with_the_usual_name(inspected: Inspect, refusal: Refuse) -> None:
    columns: dict[str, Any] = {"title": (TEXT, ["a"]), "text": (TEXT, ["b"]), "label": (TEXT, ["x"])}
    assert inspected(table(**columns)).input_column == "text"
    columns["body"] = columns.pop("text")
    assert "several columns contain texts (title, body)" in refusal(table(**columns)).detail
    assert inspected(table(**columns), input="body").input_column == "body"


def test_texts_that_are_too_long_are_named(refusal: Refuse) -> None:
    error = refusal(table(text=(TEXT, ["good", "a" * 100_001]), label=(TEXT, ["a", "b"])))
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert error.errors[0].pointer == "/train[1]"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["good", " \n", None, ""], {"train": {"rows": 3, "missing": 2}}),
        (["\u2003", "good", "\u200b"], {"train": {"rows": 1, "missing": None}}),
        (["good", "bad"], {}),
    ],
)
def test_texts_that_are_not_there_are_counted(inspected: Inspect, texts: list[Any], expected: dict[str, Any]) -> None:
    """Whether rows may be without one is for the checkpoint to say, which is not known yet."""
    for more in ({}, {"label": (TEXT, ["a"] * len(texts))}, {"text_pair": (TEXT, ["c"] * len(texts))}):
        contents = inspected(table(text=(TEXT, texts), **more))
        assert contents.rows == {"train": len(texts)}
        assert {split: found.model_dump() for split, found in contents.blank_texts.items()} == expected
        assert contents.characters == sum(map(len, filter(None, texts))) + len(more.get("text_pair", (TEXT, []))[1])
        assert not contents.shared_rows or more.keys() == {"text_pair"}, "blank rows are not one input that repeats"


def test_words_with_tags(inspected: Inspect) -> None:
    names = {"feature": {"names": ["O", "PER", "LOC"], "_type": "ClassLabel"}, "_type": "List"}
    features = {"tokens": {"_type": "List", "feature": {"dtype": "string", "_type": "Value"}}, "ner_tags": names}
    tags = (pa.list_(IDS), [[1, 0], [0]])
    contents = inspected(table(features, tokens=(TEXTS, [["Ada", "sleeps"], ["Rain"]]), ner_tags=tags))
    assert (contents.modality, contents.input_column, contents.label_column) == (Modality.TEXT, "tokens", "ner_tags")
    assert contents.labels == ("O", "PER")
    assert not contents.multi_label
    assert contents.characters == len("Ada sleeps") + len("Rain")


def test_words_with_tags_of_text(inspected: Inspect) -> None:
    contents = inspected(table(words=(TEXTS, [["Ada", "sleeps"]]), tags=(TEXTS, [["PER", "O"]])))
    assert (contents.input_column, contents.label_column, contents.labels) == ("words", "tags", ("O", "PER"))


@pytest.mark.parametrize(
    ("words", "tags", "said"),
    [
        ([["a", ""]], [["O", "O"]], "one of them is empty"),
        ([[]], [[]], "missing"),
        ([None], [["O"]], "missing"),
        ([["a", None]], [["O", "O"]], "one of them is empty"),
        ([["a" * 100_001]], [["O"]], "100000 characters"),
    ],
)
def test_words_that_cannot_be_used_are_named(refusal: Refuse, words: list[Any], tags: list[Any], said: str) -> None:
    error = refusal(table(tokens=(TEXTS, words), tags=(TEXTS, tags)))
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert said in error.detail
    assert "train[0]" in error.detail


@pytest.mark.parametrize(
    ("words", "tags", "said"),
    [([["a", "b"]], [["O"]], "2 words but 1 labels"), ([["a"]], [[None]], "not a text")],
)
def test_tags_that_cannot_be_used_are_for_whoever_reads_them(
    inspected: Inspect, refusal: Refuse, words: list[Any], tags: list[Any], said: str
) -> None:
    data = table(tokens=(TEXTS, words), tags=(TEXTS, tags), text=(TEXT, ["a b"]))
    error = inspected(data).label_error
    assert error is not None
    assert said in error.detail
    assert error.detail == refusal(data, label="tags").detail


@pytest.mark.parametrize("name", ["text", "transcript", "transcription", "sentence"])
def test_audio_with_what_was_said(inspected: Inspect, name: str) -> None:
    columns = {"audio": (EMBEDDED, [tone(), tone()]), name: (TEXT, ["one two", "w" * 1000])}
    contents = inspected(table(**columns))
    assert (contents.modality, contents.label_column, contents.labels) == (Modality.AUDIO, name, ())
    assert contents.seconds == pytest.approx(0.2)


def test_a_named_text_column_may_hold_labels_or_what_was_said(inspected: Inspect, refusal: Refuse) -> None:
    clips = (EMBEDDED, [tone(), tone()])
    assert inspected(table(audio=clips, word=(TEXT, ["b", "a"])), label="word").labels == ("a", "b")
    assert inspected(table(audio=clips, said=(TEXT, ["b" * 300, "a"])), label="said").labels == ()
    assert "train[1]" in refusal(table(audio=clips, said=(TEXT, ["b", None])), label="said").detail


def test_labels_come_before_transcripts(inspected: Inspect) -> None:
    data = table(audio=(EMBEDDED, [tone()]), sentence=(TEXT, ["one two"]), label=(TEXT, ["a"]))
    assert inspected(data).label_column == "label"


def test_inputs_alone_are_data_for_embeddings(inspected: Inspect) -> None:
    assert inspected(table(audio=(EMBEDDED, [tone()]))).label_column is None
    contents = inspected(table(text=(TEXT, ["one", "two"]), source=(TEXT, ["a", "b"])))
    assert (contents.input_column, contents.label_column, contents.labels) == ("text", None, ())


def test_data_that_nothing_here_reads(refusal: Refuse) -> None:
    error = refusal(table(x=(pa.float64(), [0.5]), y=(IDS, [1])))
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert "Its columns are: x (another type), y (whole numbers)" in error.detail
