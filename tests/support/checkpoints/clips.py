"""Synthesised clips, and the smallest checkpoint folder whose feature extractor can be loaded."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE, FRAMES, MELS = 16_000, 32, 16
WORDS = ("high", "low", "middle")
PITCH = {"low": 300.0, "middle": 1200.0, "high": 4000.0}

Samples = NDArray[np.float32]


def tone(pitch: float, *, seconds: float = 0.4, rate: int = RATE, seed: int = 0) -> Samples:
    """A sine of random phase and loudness, with noise under it; float32 [samples]."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wave = random.uniform(0.2, 0.5) * np.sin(2 * np.pi * pitch * time + random.uniform(0, 6))
    return (wave + 0.01 * random.normal(size=len(time))).astype(np.float32)


def encoded(samples: NDArray[Any], rate: int = RATE, kind: str = "wav") -> bytes:
    """The bytes of a file: wav (float), pcm (16-bit wav), flac, vorbis, opus or mp3. samples: [N] or [N, channels]."""
    container, subtype = {
        "wav": ("WAV", "FLOAT"),
        "pcm": ("WAV", "PCM_16"),
        "flac": ("FLAC", "PCM_16"),
        "vorbis": ("OGG", "VORBIS"),
        "opus": ("OGG", "OPUS"),
        "mp3": ("MP3", "MPEG_LAYER_III"),
    }[kind]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def word(name: str, seed: int = 0) -> bytes:
    """One clip of one of WORDS, as 16-bit wav."""
    return encoded(tone(PITCH[name], seed=seed), kind="pcm")


def write_checkpoint(folder: Path, **extractor: object) -> Path:
    """config.json and preprocessor_config.json of an AST with FRAMES frames of MELS bins; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "audio-spectrogram-transformer", "max_length": FRAMES, "num_mel_bins": MELS}
    settings: dict[str, object] = {
        "feature_extractor_type": "ASTFeatureExtractor",
        "max_length": FRAMES,
        "num_mel_bins": MELS,
        "sampling_rate": RATE,
        "mean": -6.0,
        "std": 3.0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | extractor))
    return folder
