"""Local folders of images and of text rows, as the offline command is given them."""

import csv
import json
from pathlib import Path

import pytest

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import WORDS, encoded, tone
from tests.support.checkpoints.rows import read
from tests.support.uploads import picture
from worker.engine.data import PreparedData
from worker.engine.data.split import Ragged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def images(folder: Path) -> PreparedData:
    model = preprocessors.write("vit", folder.parent / "model")
    return read(folder, model, Modality.IMAGE, Head.CLASSIFICATION, ("dog", "cat"))


def texts(folder: Path, head: Head = Head.CLASSIFICATION, labels: tuple[str, ...] = ("yes", "no")) -> PreparedData:
    return read(folder, preprocessors.write("bert", folder.parent / "model"), Modality.TEXT, head, labels)


def write_picture(path: Path, colour: tuple[int, int, int], kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(colour, kind=kind))


def test_images_in_folders_of_their_label(folder: Path) -> None:
    for split, count in (("train", 4), ("validation", 2), ("test", 2)):
        for number in range(count):
            name = ("cat", "dog")[number % 2]
            kind = ("PNG", "JPEG")[number // 2]
            write_picture(folder / split / name / f"{number}.{kind.lower()}", (255 * (number % 2), 0, 0), kind)
    data = images(folder)
    assert data.summary.samples == {"train": 4, "validation": 2, "test": 2}
    split = data.splits[Split.TRAIN]
    inputs, targets = split.batch(range(4))
    red = (inputs["pixel_values"][:, 0, -1, -1] > 0).long()
    assert targets.tolist() == (1 - red).tolist()


def test_images_with_metadata(folder: Path) -> None:
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label"])
        for number in range(20):
            write_picture(folder / f"{number}.png", (number, 0, 0))
            writer.writerow([f"{number}.png", ("cat", "dog")[number % 2]])
    assert images(folder).summary.samples == {"train": 16, "validation": 2, "test": 2}


def test_an_image_that_cannot_be_decoded_is_named(folder: Path) -> None:
    for number in range(20):
        write_picture(folder / "cat" / f"{number}.png", (number, 0, 0))
    (folder / "cat" / "0.png").write_bytes(b"not an image")
    with pytest.raises(SecateurError) as caught:
        images(folder)
    assert caught.value.code is ErrorCode.IMAGE_UNDECODABLE


def test_texts_in_csv(folder: Path) -> None:
    for split in ("train", "validation", "test"):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["text", "label"], ["the good films", "yes"], ["bad, bad film", "no"]])
    data = texts(folder)
    assert data.summary.samples == {"train": 2, "validation": 2, "test": 2}
    targets = data.splits[Split.TEST].targets
    assert not isinstance(targets, Ragged)
    assert targets.tolist() == [0, 1]


def test_words_with_tags_in_json_lines(folder: Path) -> None:
    rows = [{"tokens": ["Ada", "sleeps"], "tags": ["PER", "O"]}, {"tokens": ["films"], "tags": ["O"]}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 10))
    data = texts(folder, Head.TOKEN_CLASSIFICATION, ("O", "PER"))
    assert data.summary.samples == {"train": 16, "validation": 2, "test": 2}
    assert data.summary.held_out == ("validation", "test")


def test_recordings_with_what_was_said_in_metadata(folder: Path) -> None:
    lines = []
    for number in range(20):
        (folder / f"{number}.wav").write_bytes(encoded(tone(300.0, seconds=0.5, seed=number), kind="pcm"))
        lines.append(json.dumps({"file_name": f"{number}.wav", "transcription": "GO UP", "speaker": f"s{number % 10}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    model = preprocessors.write("ctc", folder.parent / "model")
    data = read(folder, model, Modality.AUDIO, Head.CTC, columns=Columns(group="speaker"))
    assert data.summary.samples == {"train": 16, "validation": 2, "test": 2}
    assert data.summary.grouped_by == "speaker"
    assert data.decode is not None
    targets = data.splits[Split.TEST].targets
    assert isinstance(targets, Ragged)
    assert data.decode(targets.row(0).tolist()) == "GO UP"


def test_a_folder_of_nothing_known_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("nothing here")
    with pytest.raises(SecateurError, match="contains no parquet shards, audio") as caught:
        texts(folder)
    assert caught.value.code is ErrorCode.DATASET_EMPTY


def test_another_kind_of_data_than_the_checkpoint_reads_is_refused(folder: Path) -> None:
    for number in range(3):
        write_picture(folder / WORDS[number] / f"{number}.png", (number, 0, 0))
    with pytest.raises(SecateurError, match="no column contains texts") as caught:
        texts(folder)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert "image (Image), label (ClassLabel)" in caught.value.detail
