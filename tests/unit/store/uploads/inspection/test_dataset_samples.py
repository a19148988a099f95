"""Rows that are shown of a dataset: which, how small, and that nothing of a stranger's file gets through as it is."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image, ImageCms, ImageOps
from pydantic import ValidationError
from scipy.signal import resample

from api_schemas.api.resources import DatasetContents
from api_schemas.enums import Modality
from api_schemas.spec.inputs import Columns
from store.uploads.inspection.dataset import inspect
from store.uploads.inspection.dataset_process import Bounds, inspect_in_process
from store.uploads.inspection.dataset_samples import Samples, short_clip, thumbnail
from store.uploads.inspection.found_samples import MAX_MEDIA_BYTES, MOST_SAMPLES, FoundSample
from tests.support.uploads import EMBEDDED, class_label, dataset_files, encoded_picture, shard, table, tone

STRING, STRINGS = pa.string(), pa.list_(pa.string())


def found(folder: Path, **files: bytes) -> tuple[DatasetContents, list[FoundSample]]:
    for name, data in files.items():
        (folder / f"{name}.parquet").write_bytes(data)
    samples = Samples()
    return inspect(folder, Columns(), samples=samples), samples.found


def test_rows_at_even_distances_of_every_split(tmp_path: Path) -> None:
    texts = [f"{number}" for number in range(60)]
    _, samples = found(tmp_path, train=table(text=(STRING, texts)), test=table(text=(STRING, ["a"])))
    assert [(each.split, each.row) for each in samples] == [("test", 0), *(("train", row) for row in (7, 22, 37, 52))]
    assert [each.text for each in samples[1:]] == ["7", "22", "37", "52"]


@pytest.mark.parametrize("splits", [1, 4, 30])
def test_however_many_splits_there_are_the_samples_are_few(splits: int) -> None:
    samples = Samples()
    samples.choose({f"s{number}": 1000 for number in range(splits)})
    wanted = [(n, row) for n in range(splits) for row in range(1000) if samples.wants(f"s{n}", row)]
    assert MOST_SAMPLES - 1 <= len(wanted) <= MOST_SAMPLES


def test_a_clip_is_cut_averaged_and_resampled() -> None:
    rate, seconds = 44_100, 7
    time = np.arange(rate * seconds) / rate
    left = 0.4 * np.sin(2 * np.pi * 440 * time) + 0.3 * np.sin(2 * np.pi * 15_000 * time)
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, stereo, rate, "FLOAT", format="WAV")
    media, whole = short_clip(buffer.getvalue())
    assert whole == seconds
    assert len(media) <= MAX_MEDIA_BYTES
    with soundfile.SoundFile(io.BytesIO(media)) as sound:
        assert (sound.samplerate, sound.channels, sound.subtype) == (16_000, 1, "PCM_16")
        wave = sound.read()
    reference = resample(stereo.mean(axis=1)[: 5 * rate], 5 * 16_000)
    assert np.abs(wave - reference).max() < 1e-4  # One step of 16 bits is 3e-5. The tone above 8 kHz is gone.
    # What is short, slow and single keeps its samples.
    media, whole = short_clip(tone(seconds=0.5, rate=8_000))
    original, _ = soundfile.read(io.BytesIO(tone(seconds=0.5, rate=8_000)))
    assert np.abs(soundfile.read(io.BytesIO(media))[0] - original).max() < 1e-4


def test_the_highest_rate_and_most_channels_stay_within_bounds() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full((200_000, 64), 1e30, dtype="float32"), 65_000, "FLOAT", format="WAV")
    media, _ = short_clip(buffer.getvalue())
    assert len(media) <= MAX_MEDIA_BYTES
    # Cut to the largest value that there is, and nothing overflows to its opposite.
    assert soundfile.read(io.BytesIO(media), dtype="int16")[0].min() > 30_000


def test_an_image_is_made_small_turned_and_loses_what_it_carries() -> None:
    image = Image.new("RGB", (640, 320), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 320, 320))
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees.
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(buffer, "JPEG", exif=exif, icc_profile=profile + bytes(500_000), comment=b"<script>")
    media, size = thumbnail(buffer.getvalue())
    assert size == (320, 640)
    with Image.open(io.BytesIO(media)) as small:
        assert (small.format, small.mode, small.size) == ("PNG", "RGB", (48, 96))
        assert small.info == {}
        red, _, blue = small.getpixel((24, 5))
        assert red > 200 > 50 > blue


def test_a_picture_of_one_line_and_one_with_a_palette() -> None:
    for image, size in ((Image.new("RGB", (20_000, 1)), (96, 1)), (Image.new("P", (10, 10)), (10, 10))):
        media, _ = thumbnail(encoded_picture(image))
        assert Image.open(io.BytesIO(media)).size == size


def test_what_cannot_be_shown_refuses_nothing() -> None:
    samples = Samples()
    samples.take("train", 3, b"RIFF and no more", Modality.AUDIO, ["yes"])
    samples.take("train", 4, b"\x89PNG and no more", Modality.IMAGE, [])
    assert [(each.media, each.label) for each in samples.found] == [(None, "yes"), (None, None)]


def test_texts_are_cut_and_can_be_stored(tmp_path: Path) -> None:
    long, strange = "x" * 5000, "a\x00b"
    data = table(text=(STRING, [long, strange]), text_pair=(STRING, ["", long]), label=(STRING, ["n", "y"]))
    _, (first, second) = found(tmp_path, train=data)
    assert (len(first.text or ""), (first.text or "")[-1], first.text_pair, first.label) == (300, "…", "", "n")
    assert (second.text, len(second.text_pair or ""), second.label) == ("a\ufffdb", 300, "y")


@pytest.mark.parametrize("orientation", range(9))
def test_the_size_is_that_of_the_image_as_it_is_shown(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image = Image.new("RGB", (640, 320))
    image.save(buffer, "JPEG", exif=exif)
    with Image.open(io.BytesIO(buffer.getvalue())) as opened:
        assert thumbnail(buffer.getvalue())[1] == ImageOps.exif_transpose(opened).size


def test_questions_are_shown_with_their_answers(tmp_path: Path) -> None:
    context = "Anna, who was born in Bonn, moved to Rome."
    answers: list[dict[str, Any] | None] = [
        {"text": ["Bonn", "Bonn", "in Bonn"], "answer_start": [22, 22, 19]},
        {"text": [], "answer_start": []},
        {"text": ["Rome\x00" + "e" * 400], "answer_start": [0]},
        None,
    ]
    written = pa.struct([("text", STRINGS), ("answer_start", pa.list_(pa.int32()))])
    columns = {"question": (STRING, ["q"] * 4), "context": (STRING, [context] * 4), "answers": (written, answers)}
    contents, samples = found(tmp_path, train=table(**columns))
    assert contents.pair_column == "context"
    labels = [each.label for each in samples]
    assert labels[:2] == ["Bonn; in Bonn", ""]
    assert ((labels[2] or "")[:5], len(labels[2] or ""), labels[3]) == ("Rome\ufffd", 300, None)
    (tmp_path / "train.parquet").unlink()
    _, plain = found(tmp_path, train=table(text=(STRING, ["a"])))
    assert plain[0].label is None


def test_counts_by_split_and_label(tmp_path: Path) -> None:
    names = ("down", "left", "right", "up")
    data = {"label_type": pa.int64(), "features": class_label(names)}
    contents, samples = found(
        tmp_path,
        train=shard([tone()] * 5, [3, 1, 1, 3, 3], **data),
        test=shard([tone()], [1], **data),
    )
    assert contents.label_counts == {"train": {"left": 2, "up": 3}, "test": {"left": 1}}
    assert list(contents.label_counts["train"]) == ["left", "up"]
    assert {each.label for each in samples} == {"left", "up"}


def test_counts_of_words_and_of_several_labels(tmp_path: Path) -> None:
    words = table(tokens=(STRINGS, [["a", "b", "c"], ["d"]]), tags=(STRINGS, [["O", "P", "O"], ["O"]]))
    contents, samples = found(tmp_path, train=words)
    assert contents.label_counts == {"train": {"O": 3, "P": 1}}
    assert (samples[0].text, samples[0].label) == ("a b c", "O, P, O")
    several = table(text=(STRING, ["a", "b", "c"]), label=(STRINGS, [["x", "y"], [], ["y", "y"]]))
    contents, samples = found(tmp_path, train=several)
    assert contents.label_counts == {"train": {"x": 1, "y": 2}}
    assert [each.label for each in samples] == ["x, y", None, "y, y"]


def test_transcripts_are_not_counted_but_shown(tmp_path: Path) -> None:
    contents, samples = found(tmp_path, train=shard([tone()] * 2, ["good day", "ah " * 500], label_column="text"))
    assert contents.label_counts is None
    assert [len(each.label or "") for each in samples] == [8, 300]


def test_the_most_frequent_of_many_labels(tmp_path: Path) -> None:
    labels = [f"{number:04}" for number in range(300)] + [f"{number:04}" for number in range(100, 300)]
    contents, _ = found(tmp_path, train=table(text=(STRING, ["t"] * 500), label=(STRING, labels)))
    assert len(contents.labels) == 300
    assert contents.label_counts == {"train": {f"{number:04}": 2 for number in range(100, 300)}}


def test_a_wrong_label_leaves_no_counts(tmp_path: Path) -> None:
    contents, samples = found(tmp_path, train=table(text=(STRING, ["a", "b"]), label=(STRING, ["x", None])))
    assert contents.label_error is not None
    assert contents.label_counts is None
    assert len(samples) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"media": "PHNjcmlwdD4="},
        {"media": "UklGR" + "A" * 4 * MAX_MEDIA_BYTES},
        {"text": "x" * 301},
        {"label": "a\x00b"},
        {"row": -1},
        {"seconds": "NaN"},
        {"split": "s" * 200},
    ],
)
def test_what_comes_from_the_inspector_is_held_to_the_bounds(changes: dict[str, Any]) -> None:
    """Libraries in there may have been taken over."""
    good = {"split": "train", "row": 0, "media": "UklGRg=="}
    assert FoundSample.model_validate(good).media == b"RIFF"
    with pytest.raises(ValidationError):
        FoundSample.model_validate(good | changes)


def test_through_the_process(tmp_path: Path) -> None:
    files = {
        "train": dataset_files()["train.parquet"],
        "test": table(audio=(EMBEDDED, [tone()]), label=(STRING, ["up"])),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.parquet").write_bytes(data)
    bounds = Bounds(seconds=900, memory_bytes=4 * 2**30, rows=1000, unpacked_bytes=2**30)
    samples = inspect_in_process(tmp_path, Columns(), bounds).samples
    assert [(each.split, each.row) for each in samples] == [("test", 0), *(("train", row) for row in range(4))]
    assert all(soundfile.read(io.BytesIO(each.media or b""))[1] == 16_000 for each in samples)
