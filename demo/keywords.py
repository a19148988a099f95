"""Synthesises the demo's keyword data: speech-like clips of twenty words by many artificial speakers, as a folder of wav.

Source and filter, as in Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67 (1980): a glottal pulse train
with a pitch contour and a noise source, shaped by gliding formants; here the filter is applied to short spectra, many clips
at once. Every speaker has a vocal-tract length, a pitch, a tempo, a breathiness and an accent (the formants of each sound
moved a little); every clip has its own timing, onset, background noise and room. No speaker is in two splits. Equal seeds
give equal clips.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from demo.phonemes import SOUNDS, WORDS, Event

RATE = 16_000
SAMPLES = RATE
FFT, HOP = 512, 128
FRAMES = SAMPLES // HOP + 1
CHUNK = 128
"""Clips synthesised at a time: about 200 MB of spectra."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class KeywordData:
    """What to make. Clips a split; the words are spread evenly over them."""

    words: tuple[str, ...] = WORDS
    clips: tuple[tuple[str, int], ...] = (("train", 4000), ("validation", 500), ("test", 500))
    speakers: tuple[tuple[str, int], ...] = (("train", 60), ("validation", 15), ("test", 15))
    snr_db: tuple[float, float] = (0.0, 20.0)
    seed: int = 0


@dataclass(frozen=True)
class Speakers:
    """Arrays over speakers S."""

    tract: Array
    pitch: Array
    tempo: Array
    breath: Array
    accent: Array
    """[S, sounds, 3]: factors on the formants of every sound."""


def make_folder(data: KeywordData, folder: Path) -> None:
    """Write `<split>/<word>/<speaker>_nohash_<n>.wav`, 16 kHz, one second, 16 bit (names as in Speech Commands)."""
    for index, (split, count) in enumerate(data.clips):
        rng = np.random.default_rng((data.seed, index))
        speakers = _draw_speakers(dict(data.speakers)[split], rng)
        for word in data.words:
            (folder / split / word).mkdir(parents=True, exist_ok=True)
        for start in range(0, count, CHUNK):
            number = np.arange(start, min(start + CHUNK, count))
            words = [data.words[n % len(data.words)] for n in number]
            speaker = rng.integers(len(speakers.pitch), size=len(number))
            clips = synthesise(words, speaker, speakers, data.snr_db, rng)
            for n, word, who, clip in zip(number, words, speaker, clips, strict=True):
                name = f"{split[:2]}{who:03d}_nohash_{n}.wav"
                soundfile.write(folder / split / word / name, clip, RATE, subtype="PCM_16")


def synthesise(
    words: list[str],
    speaker: NDArray[np.int64],
    speakers: Speakers,
    snr_db: tuple[float, float],
    rng: np.random.Generator,
) -> Array:
    """Clips [B, SAMPLES] in [-1, 1] of `words` spoken by `speaker` (indices [B] into `speakers`)."""
    tracks = _tracks(words, speaker, speakers, rng)
    time = np.arange(SAMPLES) / RATE
    pitch = speakers.pitch[speaker] * rng.uniform(0.92, 1.08, len(words))
    slope, wobble, phase = rng.uniform(-0.3, 0.1, len(words)), rng.uniform(0, 0.04, len(words)), rng.random(len(words))
    contour = 1 + slope[:, None] * (time - 0.5) + wobble[:, None] * np.sin(2 * np.pi * (5 * time + phase[:, None]))
    glottal = _glottal_flow(np.cumsum(pitch[:, None] * contour, axis=1) / RATE + phase[:, None])
    white = rng.standard_normal((len(words), SAMPLES), dtype=np.float32)
    breath = speakers.breath[speaker][:, None, None]
    frequency = np.linspace(0, RATE / 2, FFT // 2 + 1, dtype=np.float32)

    resonance = np.ones((len(words), FRAMES, len(frequency)), np.float32)
    tract = speakers.tract[speaker][:, None]
    upper = [np.broadcast_to(f * tract, tracks[0].shape) for f in (3500, 4500, 5600)]
    for formant in (*tracks[:3], *upper):
        ratio = frequency / formant[..., None]
        bandwidth = (60 + 0.06 * formant)[..., None] / formant[..., None]
        resonance /= np.sqrt((1 - ratio**2) ** 2 + (ratio * bandwidth) ** 2)
    voice, noise, centre, width = (track[..., None] for track in tracks[3:])
    band = np.exp(-0.5 * ((frequency - centre) / width) ** 2)
    spectrum = _spectra(glottal) * (resonance * voice) + _spectra(white) * (
        0.6 * band * noise + 0.03 * breath * resonance * voice
    )
    return _in_a_room(_waves(spectrum), snr_db, rng)


def _draw_speakers(count: int, rng: np.random.Generator) -> Speakers:
    high = rng.random(count) < 0.5
    draws = {
        "tract": np.where(high, rng.uniform(1.05, 1.25, count), rng.uniform(0.88, 1.08, count)),
        "pitch": np.where(high, rng.uniform(160, 260, count), rng.uniform(85, 150, count)),
        "tempo": rng.uniform(0.8, 1.25, count),
        "breath": rng.uniform(0.1, 1.0, count) ** 2,
        "accent": np.exp(0.05 * rng.standard_normal((count, len(SOUNDS), 3))),
    }
    return Speakers(**{name: value.astype(np.float32) for name, value in draws.items()})


def _tracks(
    words: list[str], speaker: NDArray[np.int64], speakers: Speakers, rng: np.random.Generator
) -> tuple[Array, ...]:
    """f1, f2, f3, voice, noise, centre, width: each [B, FRAMES], targets joined and smoothed over 40 ms."""
    order = {sound: n for n, sound in enumerate(SOUNDS)}
    events = [[(order[s], event) for s in word for event in SOUNDS[s]] for word in words]
    longest = max(map(len, events))
    silence = Event(0.0, 500, 1500, 2500, 0.0, 0.0, 2000, 2000)
    padded = [[(0, silence), *row, *[(0, silence)] * (longest - len(row) + 1)] for row in events]
    sound = np.array([[s for s, _ in row] for row in padded])
    target = np.array([[event for _, event in row] for row in padded], np.float32)
    target[..., 1:4] *= speakers.accent[speaker[:, None], sound] * speakers.tract[speaker][:, None, None]

    stretch = rng.uniform(0.9, 1.1, len(words)) * speakers.tempo[speaker]
    seconds = target[..., 0] / 1000 * stretch[:, None] * np.exp(0.15 * rng.standard_normal(sound.shape))
    room = np.maximum(1.0 - seconds.sum(axis=1), 0.0)
    seconds[:, 0] = room * rng.uniform(0.1, 0.9, len(words))
    ends = np.cumsum(seconds, axis=1)
    now = np.arange(FRAMES) * HOP / RATE
    current = np.minimum((now[None, :, None] >= ends[:, None, :]).sum(axis=2), sound.shape[1] - 1)
    tracks = np.take_along_axis(target[..., 1:], current[..., None], axis=1)
    kernel = np.hanning(7)[1:-1] / np.hanning(7)[1:-1].sum()
    reach = len(kernel) // 2
    wide = np.pad(tracks, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    smooth = sum(weight * wide[:, k : k + FRAMES] for k, weight in enumerate(kernel))
    return tuple(np.moveaxis(np.asarray(smooth, np.float32), 2, 0))


def _glottal_flow(phase: NDArray[np.float64]) -> Array:
    """Derivative of Rosenberg's pulse: opens over 40% of a period, closes over 16%, then stays shut."""
    cycle = phase % 1.0
    opening = np.sin(np.pi * cycle / 0.4) / 0.4
    closing = -np.sin(0.5 * np.pi * (cycle - 0.4) / 0.16) / 0.16
    flow = np.where(cycle < 0.4, opening, np.where(cycle < 0.56, closing, 0.0))
    return np.asarray(flow / 6, np.float32)


def _spectra(waves: Array) -> NDArray[np.complex64]:
    """[B, SAMPLES] to [B, FRAMES, FFT/2 + 1]."""
    spectrum = torch.stft(torch.from_numpy(waves), FFT, HOP, window=torch.hann_window(FFT), return_complex=True)
    return np.asarray(spectrum.transpose(1, 2).numpy())


def _waves(spectra: NDArray[np.complex64]) -> Array:
    """The inverse of `_spectra`."""
    spectrum = torch.from_numpy(spectra).transpose(1, 2)
    return np.asarray(torch.istft(spectrum, FFT, HOP, window=torch.hann_window(FFT), length=SAMPLES).numpy())


def _in_a_room(waves: Array, snr_db: tuple[float, float], rng: np.random.Generator) -> Array:
    """Add an exponentially decaying room response and coloured background noise, and set a random level."""
    count, length = len(waves), int(0.2 * RATE)
    decay = np.exp(-np.arange(length) / RATE / rng.uniform(0.02, 0.06, (count, 1)))
    response = 0.06 * rng.uniform(0, 1, (count, 1)) * decay * rng.standard_normal((count, length), dtype=np.float32)
    response[:, 0] = 1.0
    wet = _filtered(waves, np.fft.rfft(response, SAMPLES + length, axis=1))

    tilt = rng.uniform(0, 1, (count, 1))
    slope = np.maximum(np.fft.rfftfreq(2 * SAMPLES, 1 / RATE), 60.0)[None, :] / 1000
    noise = _filtered(rng.standard_normal((count, SAMPLES), dtype=np.float32), slope ** (-tilt))
    level = np.sqrt((wet**2).mean(1) / (noise**2).mean(1)) * 10 ** (-rng.uniform(*snr_db, count) / 20)
    mixed = wet + level[:, None] * noise
    peak = np.abs(mixed).max(axis=1, keepdims=True)
    return np.asarray(mixed / peak * rng.uniform(0.2, 0.9, (count, 1)), np.float32)


def _filtered(waves: Array, response: NDArray[np.complexfloating] | NDArray[np.floating]) -> Array:
    """Linear convolution by a frequency response given on a longer grid, cut to SAMPLES."""
    padded = 2 * (response.shape[1] - 1)
    return np.asarray(
        np.fft.irfft(np.fft.rfft(waves, padded, axis=1) * response, padded, axis=1)[:, :SAMPLES], np.float32
    )
