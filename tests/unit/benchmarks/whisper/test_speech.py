"""Speech with transcripts: which sentences are taken, where they go, and what is read of a package's recordings."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from api_schemas.enums import Split
from benchmarks.whisper import speech

TEXTS = [
    f"The {word} cat sat on the mat and then it slept." for word in ("old", "big", "shy", "wet", "sad", "mad", "dry")
]
COUNTS = {Split.TRAIN: 2, Split.VALIDATION: 1, Split.TEST: 3}


@pytest.fixture
def fortunes(tmp_path: Path) -> Path:
    folder = tmp_path / "fortunes"
    folder.mkdir()
    refused = [
        "Too short.",
        "In 1984 it was a bright cold day in April, they say.",
        "What?\n\t\t-- A. Nonymous, who said more",
    ]
    (folder / "cats").write_text("\n%\n".join([*TEXTS[:4], *refused, TEXTS[0].replace(" sat", "\nsat")]))
    (folder / "more").write_text("\n%\n".join(TEXTS[4:]))
    (folder / "more.dat").write_bytes(b"\0")
    return folder


def rows(folder: Path) -> list[tuple[str, str]]:
    with (folder / "metadata.csv").open(newline="") as file:
        return [(row["file_name"], row["text"]) for row in csv.DictReader(file)]


def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def say(voice: speech.Voice, text: str, target: Path) -> None:
        found.append((voice.name, text))
        soundfile.write(target, np.sin(2 * np.pi * 200 * np.arange(22_050) / 22_050), 22_050)

    monkeypatch.setattr(speech.Voice, "say", say)
    return found


def test_plain_sentences_are_taken_once_and_in_order(fortunes: Path) -> None:
    assert speech.sentences(fortunes) == TEXTS


def test_no_sentence_is_in_two_splits_and_some_voices_speak_in_the_test_alone(
    tmp_path: Path, fortunes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = said(monkeypatch)
    monkeypatch.setattr(speech, "HEARD", speech.HEARD[:2])
    monkeypatch.setattr(speech, "UNHEARD", speech.UNHEARD[:1])
    out = tmp_path / "speech"
    speech.synthesise(out, fortunes, COUNTS)
    texts = {split: [text for _, text in rows(out / split.value)] for split in COUNTS}
    assert {split: len(found) for split, found in texts.items()} == COUNTS
    assert len({text for found in texts.values() for text in found}) == sum(COUNTS.values())
    of_voice = {name for name, text in heard if text in texts[Split.TEST]}
    assert of_voice - {name for name, text in heard if text not in texts[Split.TEST]} == {speech.UNHEARD[0].name}
    samples, rate = soundfile.read(out / "test" / "000.wav")
    assert (rate, len(samples)) == (speech.RATE, speech.RATE)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() == 200
    before = len(heard)
    speech.synthesise(out, fortunes, COUNTS)
    assert len(heard) == before
    with pytest.raises(ValueError, match="9 sentences are needed"):
        speech.synthesise(tmp_path / "other", fortunes, {**COUNTS, Split.TRAIN: 5})


def test_further_clips_are_of_sentences_that_no_split_has(
    tmp_path: Path, fortunes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(monkeypatch)
    known, more = tmp_path / "known", tmp_path / "more"
    speech.synthesise(known, fortunes, {Split.TRAIN: 2, Split.VALIDATION: 1, Split.TEST: 2})
    speech.further(more, fortunes, known, 2)
    found = rows(more / "train")
    assert found[:2] == rows(known / "train")
    assert [name for name, _ in found] == ["000.wav", "001.wav", "002.wav", "003.wav"]
    assert all((more / "train" / name).is_file() for name, _ in found)
    for split in ("validation", "test"):
        assert rows(more / split) == rows(known / split)
    assert len({text for split in ("train", "validation", "test") for _, text in rows(more / split)}) == 7
    with pytest.raises(ValueError, match="3 sentences more"):
        speech.further(tmp_path / "most", fortunes, known, 3)


def test_real_recordings_keep_their_words(tmp_path: Path, fortunes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch)
    speech.synthesise(tmp_path / "spare", fortunes, {Split.TRAIN: 2, Split.VALIDATION: 2, Split.TEST: 2})
    sphinx = tmp_path / "sphinx"
    for part, listing, name in (("librivox", "transcription", "a-1"), ("cards", "cards.transcription", "001")):
        (sphinx / part).mkdir(parents=True)
        (sphinx / part / listing).write_text(f"<s> words of {part}  </s> ({name})\n")
        soundfile.write(sphinx / part / f"{name}.wav", np.zeros(160), speech.RATE)
    for name in speech.COMMANDS:
        (sphinx / name).write_bytes(np.arange(320, dtype="<i2").tobytes())
    speech.real(tmp_path / "real", sphinx, tmp_path / "spare")
    found = rows(tmp_path / "real" / "test")
    assert found[:2] == [("a-1.wav", "words of librivox"), ("001.wav", "words of cards")]
    assert [text for _, text in found[2:]] == list(speech.COMMANDS.values())
    samples, _ = soundfile.read(tmp_path / "real" / "test" / found[2][0], dtype="int16")
    assert samples.tolist() == list(range(320))
    assert rows(tmp_path / "real" / "train") == rows(tmp_path / "spare" / "train")
