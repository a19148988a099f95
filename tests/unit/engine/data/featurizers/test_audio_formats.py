"""Recordings as programs and people write them: the inspector and the engine take, hear and count the same."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from api_schemas.enums import Head, Modality
from api_schemas.spec.inputs import Columns
from checkpoints.data.clip_flaws import Flaw, ends_early
from checkpoints.data.media import looks_like_audio
from store.uploads.inspection.dataset import inspect
from store.uploads.inspection.dataset_audio import read_clip
from tests.support.checkpoints.clips import RATE, WORDS, tone, word, write_checkpoint
from tests.support.checkpoints.rows import read
from tests.support.uploads import EMBEDDED, table
from worker.engine.data.featurizers.audio import decode_mono

SECONDS = 0.5
PITCH = 440.0


def written(
    format_: str, subtype: str | None = None, *, rate: int = RATE, gains: Sequence[float] = (1.0,), endian: str = "FILE"
) -> bytes:
    """Half a second of a tone, in a channel for every gain."""
    sound = tone(PITCH, seconds=SECONDS, rate=rate)
    file = io.BytesIO()
    channels = np.stack([gain * sound for gain in gains], axis=1)
    soundfile.write(file, channels, rate, format=format_, subtype=subtype, endian=endian)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "rate"),
    [
        pytest.param(written("MP3"), RATE, id="mp3, whatever its name"),
        pytest.param(written("WAV", "PCM_U8"), RATE, id="8 bits"),
        pytest.param(written("WAV", "PCM_24"), RATE, id="24 bits"),
        pytest.param(written("WAV", "PCM_32"), RATE, id="32 bits"),
        pytest.param(written("WAV", "DOUBLE"), RATE, id="doubles"),
        pytest.param(written("WAV", "ULAW"), RATE, id="mu-law"),
        pytest.param(written("WAV", "ALAW"), RATE, id="A-law"),
        pytest.param(written("WAV", "IMA_ADPCM"), RATE, id="IMA ADPCM"),
        pytest.param(written("WAV", "MS_ADPCM"), RATE, id="Microsoft ADPCM"),
        pytest.param(written("WAV", "GSM610", rate=8000), 8000, id="GSM 06.10"),
        pytest.param(written("WAV", "PCM_16", endian="BIG"), RATE, id="big-endian"),
        pytest.param(written("WAVEX", "PCM_16"), RATE, id="WAVE_FORMAT_EXTENSIBLE"),
        pytest.param(written("RF64", "PCM_16"), RATE, id="RF64"),
        pytest.param(written("W64", "PCM_16"), RATE, id="W64"),
        pytest.param(written("CAF", "PCM_16"), RATE, id="CAF"),
        pytest.param(written("AIFF", "PCM_16"), RATE, id="AIFF"),
        pytest.param(written("AU", "PCM_16"), RATE, id="AU"),
        pytest.param(written("FLAC", "PCM_24"), RATE, id="FLAC of 24 bits"),
        pytest.param(written("OGG", "VORBIS"), RATE, id="Vorbis"),
        pytest.param(written("OGG", "OPUS"), RATE, id="Opus"),
        pytest.param(written("WAV", "PCM_16", gains=(1.0, 0.5)), RATE, id="stereo"),
        pytest.param(written("WAV", "PCM_16", gains=(0.0, 1.0)), RATE, id="one channel of two"),
        pytest.param(written("WAV", "PCM_24", rate=96_000), 96_000, id="96 kHz"),
    ],
)
def test_both_readers_hear_the_tone(data: bytes, rate: int) -> None:
    clip = read_clip(data, decode=True, where="train[0]")
    assert (clip.sampling_rate, clip.flaws) == (rate, ())
    # Codecs work in blocks: what is left of the last one is silence.
    assert clip.seconds == pytest.approx(SECONDS, abs=0.15)
    flaws: list[Flaw] = []
    heard = decode_mono(data, RATE, 10.0, "train[0]", flaws=flaws)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert float(np.argmax(spectrum)) * RATE / len(heard) == pytest.approx(PITCH, abs=5.0)
    assert flaws == []
    assert not ends_early(data)
    assert looks_like_audio(data[:12])


def cut(data: bytes, share: float = 0.6) -> bytes:
    return data[: int(len(data) * share)]


def told(data: bytes, size: int) -> bytes:
    """A wav that says of its samples that they take `size` bytes, as programs do that write to a pipe."""
    place = data.index(b"data") + 4
    return data[:place] + size.to_bytes(4, "little") + data[place + 4 :]


WAV = written("WAV", "PCM_16")


@pytest.mark.parametrize(
    ("data", "early"),
    [
        (WAV, False),
        (cut(WAV), True),
        (WAV[:-1], True),
        (cut(written("WAV", "PCM_16", endian="BIG")), True),
        (cut(written("RF64", "PCM_16")), True),
        (cut(written("WAVEX", "PCM_24")), True),
        (told(WAV, 0xFFFF_FFFF), False),
        (told(WAV, 0), False),
        (WAV + b"LIST\4\0\0\0more", False),
        (written("FLAC"), False),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 5000, False),
        (b"RIFF\0\0\0\0WAVE", False),
        (b"RIFF", False),
        (b"", False),
    ],
)
def test_which_wavs_end_before_they_say(data: bytes, early: bool) -> None:
    assert ends_early(data) is early


@pytest.mark.parametrize(
    ("data", "flaws"),
    [
        (cut(WAV), (Flaw.CUT_SHORT,)),
        (written("WAV", "PCM_16", gains=(1.0, -1.0)), (Flaw.CANCELLED,)),
        (written("FLAC", gains=(0.5, -0.5)), (Flaw.CANCELLED,)),
        (written("WAV", "FLOAT", gains=(1.0, -1.0, 1.0, -1.0)), (Flaw.CANCELLED,)),
        (cut(written("WAV", gains=(1.0, -1.0))), (Flaw.CUT_SHORT, Flaw.CANCELLED)),
        (written("WAV", "PCM_16", gains=(1.0, -0.9)), ()),
        (written("WAV", "PCM_16", gains=(0.0, 0.0)), ()),
    ],
    ids=["cut short", "inverted", "in FLAC", "of four", "both", "not quite", "silence"],
)
@pytest.mark.parametrize("decode", [True, False])
def test_what_is_odd_about_a_clip_that_is_taken(data: bytes, flaws: tuple[Flaw, ...], decode: bool) -> None:
    assert read_clip(data, decode=decode, where="train[0]").flaws == flaws


def test_flaws_are_counted_alike_and_warned_of(tmp_path: Path) -> None:
    upside_down = written("WAV", gains=(1.0, -1.0))
    names = [WORDS[number % 3] for number in range(9)]
    whole = [word(name, number) for number, name in enumerate(names)]
    clips = {
        "train": [cut(whole[0]), *whole[1:7], upside_down, upside_down],
        "test": whole,
        "validation": [*whole[:8], cut(WAV)],
    }
    (tmp_path / "data").mkdir()
    for split, data in clips.items():
        (tmp_path / "data" / f"{split}.parquet").write_bytes(table(audio=(EMBEDDED, data), label=(pa.string(), names)))
    contents = inspect(tmp_path / "data", Columns())
    expected = {"train": {"clips_cut_short": 1, "clips_cancelled": 2}, "validation": {"clips_cut_short": 1}}
    assert contents.clip_flaws == expected
    model = write_checkpoint(tmp_path / "model")
    found = read(tmp_path / "data", model, Modality.AUDIO, Head.CLASSIFICATION, WORDS).summary.warnings
    assert [(each.code, each.pointer, int(each.detail.split()[0])) for each in found if each.code != "shared_rows"] == [
        ("clips_cut_short", "/dataset/splits/train", 1),
        ("clips_cancelled", "/dataset/splits/train", 2),
        ("clips_cut_short", "/dataset/splits/validation", 1),
    ]
