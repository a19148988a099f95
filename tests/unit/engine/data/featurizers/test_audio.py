"""Decoding of every format, mixing, resampling; and what is refused."""

import sys

import numpy as np
import pytest
import torch
import torchaudio

from api_schemas.errors import ErrorCode, SecateurError
from tests.support.checkpoints.clips import RATE, encoded, tone
from worker.engine.data.featurizers import audio
from worker.engine.data.featurizers.audio import REPAIR_SCRIPT, decode_mono, load_torchaudio, resample


def decode(data: bytes, seconds: float = 10.0, rate: int = RATE) -> np.ndarray:
    return decode_mono(data, rate, seconds, "train[3]")


def pitch_of(samples: np.ndarray, rate: int = RATE) -> float:
    """The loudest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize(("kind", "error"), [("wav", 0.0), ("pcm", 1e-4), ("flac", 1e-4)])
def test_lossless_formats_decode_to_what_was_encoded(kind: str, error: float) -> None:
    samples = tone(440.0)
    decoded = decode(encoded(samples, kind=kind))
    assert decoded.dtype == np.float32
    assert decoded.shape == samples.shape
    assert np.abs(decoded - samples).max() <= error


@pytest.mark.parametrize("kind", ["vorbis", "opus", "mp3"])
def test_lossy_formats_keep_length_and_sound(kind: str) -> None:
    samples = tone(440.0, seconds=1.0)
    decoded = decode(encoded(samples, kind=kind))
    # A codec may add frames at the ends: mp3 up to two of 1152 samples.
    assert 0 <= len(decoded) - len(samples) <= 2 * 1152
    assert pitch_of(decoded) == pytest.approx(440.0, abs=2.0)
    assert np.std(decoded) == pytest.approx(np.std(samples), rel=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_by_torchaudio(rate: int) -> None:
    samples = tone(440.0, seconds=0.5, rate=rate)
    decoded = decode(encoded(samples, rate))
    # The function in float64 is the reference. The transform's kernel has phases rounded to float32, which leaves an error
    # of some 1e-6; one step of 16-bit audio is 3e-5.
    expected = torchaudio.functional.resample(torch.from_numpy(samples).double(), rate, RATE).numpy()
    assert len(decoded) == RATE // 2
    np.testing.assert_allclose(decoded, expected, atol=5e-6)
    assert pitch_of(decoded) == pytest.approx(440.0, abs=2.0)


def test_rates_without_a_common_factor_do_not_need_a_huge_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_resampler", lambda *_: pytest.fail("torchaudio's kernel would be gigabytes"))
    decoded = resample(tone(440.0, seconds=0.5, rate=44_099), 44_099, RATE)
    assert len(decoded) == pytest.approx(RATE / 2, abs=1)
    assert decoded.dtype == np.float32
    assert pitch_of(decoded) == pytest.approx(440.0, abs=2.0)


def test_channels_are_averaged() -> None:
    left, right = tone(440.0, seed=1), tone(880.0, seed=2)
    decoded = decode(encoded(np.stack([left, right], axis=1)))
    np.testing.assert_allclose(decoded, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_a_long_clip_is_read_only_as_far_as_it_is_used(rate: int) -> None:
    data = encoded(tone(440.0, seconds=3.0, rate=rate), rate)
    part, whole = decode(data, seconds=1.0), decode(data, seconds=10.0)
    assert RATE <= len(part) < 1.5 * RATE
    assert len(whole) == 3 * RATE
    np.testing.assert_array_equal(part[:RATE], whole[:RATE])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "train[3]"),
        (b"not audio at all, but text", "train[3]"),
        (encoded(tone(440.0), kind="flac")[:40], "train[3]"),
        (encoded(np.zeros(0, dtype=np.float32)), "no samples"),
        (encoded(np.array([0.1, np.nan, 0.2], dtype=np.float32)), "not finite"),
        (encoded(np.array([0.1, np.inf], dtype=np.float32)), "not finite"),
        (encoded(tone(440.0), rate=900), "900 Hz"),
        (encoded(tone(440.0), rate=2**31 - 1), "Hz"),
    ],
    ids=["empty", "text", "cut off", "no samples", "nan", "infinity", "rate too low", "rate too high"],
)
def test_what_is_no_audio_is_refused_with_its_place(data: bytes, reason: str) -> None:
    with pytest.raises(SecateurError) as caught:
        decode(data)
    assert caught.value.code is ErrorCode.AUDIO_UNDECODABLE
    assert caught.value.errors[0].pointer == "/train[3]"
    assert "train[3]" in caught.value.detail
    assert reason in caught.value.detail


def test_a_broken_torchaudio_is_answered_with_the_script_that_repairs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(SecateurError) as caught:
        load_torchaudio()
    assert REPAIR_SCRIPT in caught.value.detail
