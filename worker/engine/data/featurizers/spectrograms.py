"""Inputs of Whisper and of CLAP's audio tower, log-mel spectrograms of one size, and of Wav2Vec2-BERT, of each clip's own length:
each by transformers' own extractor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.config.input_sizes import MAX_CLIP_SECONDS, MAX_MELS, misfit
from checkpoints.data.media import SAMPLING_RATES
from checkpoints.families.audio.waveform_encoder import MAX_SECONDS
from checkpoints.files.preprocessor_files import preprocessor_type
from worker.engine.data.featurizers.waveforms import STEP_SECONDS
from worker.engine.data.settings import (
    Settings,
    check_type,
    first_line,
    full_config,
    invalid,
    number,
    read_preprocessor,
)


class WhisperFeatures:
    """input_features float32 [mels, frames]; shorter clips are filled up with silence, as the model was trained."""

    keyword = "input_features"
    pad_value = 0.0

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID where the settings are unusable, random, or not those of config.json."""
        from transformers import WhisperFeatureExtractor

        settings, config = read_preprocessor(model_dir), full_config(model_dir)
        check_type(preprocessor_type(settings), ("WhisperFeatureExtractor",))
        mels = number(settings, "feature_size", 80, MAX_MELS)
        self.seconds = float(number(settings, "chunk_length", 30, MAX_CLIP_SECONDS))
        _check_fit("WhisperFeatureExtractor", config, settings)
        if settings.get("dither", 0.0) != 0.0:
            raise invalid("dither adds noise, but inputs must always be the same; set it to 0")
        self._extract: Any = _built(WhisperFeatureExtractor, settings)
        self.sampling_rate = int(self._extract.sampling_rate)
        # The encoder's first convolutions halve the frames.
        self._shape = (mels, int(self._extract.nb_max_frames))
        expected = (config["num_mel_bins"], 2 * config["max_source_positions"])
        if self._shape != expected:
            raise invalid(f"features are (mels, frames) {self._shape}, but config.json expects {expected}")

    def __call__(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """[B, mels, frames]."""
        # One by one: a product of matrices may round otherwise in a larger batch.
        features = [self._extract(clip, sampling_rate=self.sampling_rate)["input_features"][0] for clip in clips]
        return _stacked(features, self._shape)


class ClapFeatures:
    """input_features float32 [1, frames, mels] of the first window of every clip; for checkpoints without fusion."""

    keyword = "input_features"
    pad_value = 0.0

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID where the settings are unusable or not those of config.json."""
        from transformers import ClapFeatureExtractor

        settings, config = read_preprocessor(model_dir), full_config(model_dir)
        config = config.get("audio_config") or config
        check_type(preprocessor_type(settings), ("ClapFeatureExtractor",))
        if config.get("enable_fusion", False):
            raise invalid("enable_fusion is true, but fusion takes random parts of a clip and is not supported")
        mels = number(settings, "feature_size", 64, MAX_MELS)
        self.seconds = float(number(settings, "max_length_s", 10, MAX_CLIP_SECONDS))
        _check_fit("ClapFeatureExtractor", config, settings)
        self._extract: Any = _built(ClapFeatureExtractor, settings)
        self.sampling_rate = int(self._extract.sampling_rate)
        self._samples = int(self._extract.nb_max_samples)
        self._shape = (1, self._samples // int(self._extract.hop_length) + 1, mels)

    def __call__(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """[B, 1, frames, mels]. Cut here: the extractor would cut a longer clip at a random place."""
        features = [
            self._extract(clip[: self._samples], sampling_rate=self.sampling_rate, truncation="rand_trunc")[
                "input_features"
            ][0]
            for clip in clips
        ]
        return _stacked(features, self._shape)


class SeamlessFeatures:
    """input_features float32 [tokens, stride · mels] of Wav2Vec2-BERT: each clip's own length, every bin normalized over it."""

    keyword = "input_features"
    seconds = MAX_SECONDS
    pad_value = 0.0

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID where the settings are unusable or not those of config.json."""
        from transformers import SeamlessM4TFeatureExtractor

        settings, config = read_preprocessor(model_dir), full_config(model_dir)
        check_type(preprocessor_type(settings), ("SeamlessM4TFeatureExtractor",))
        _check_fit("SeamlessM4TFeatureExtractor", config, settings)
        self._extract: Any = _built(SeamlessM4TFeatureExtractor, settings)
        self.sampling_rate = int(self._extract.sampling_rate)
        # Of a single frame there is no variance.
        self._shortest = round(STEP_SECONDS * self.sampling_rate)

    def __call__(self, clips: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Each clip up to MAX_SECONDS; one that is shorter than STEP_SECONDS is filled up with silence."""
        longest = round(MAX_SECONDS * self.sampling_rate)
        return [self._one(clip[:longest]) for clip in clips]

    def _one(self, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        filled = np.pad(clip, (0, max(0, self._shortest - len(clip))))
        # One by one, so that nothing is filled up but the frames of the last token, which the extractor masks.
        made = self._extract(filled, sampling_rate=self.sampling_rate)
        features, real = np.asarray(made["input_features"][0], np.float32), np.asarray(made["attention_mask"][0], bool)
        kept: NDArray[np.float32] = features[real]
        return kept


def _check_fit(kind: str, config: Settings, settings: Settings) -> None:
    """What the service asks of the settings at upload. Raises CONFIG_INVALID."""
    rate = number(settings, "sampling_rate", SAMPLING_RATES[0], SAMPLING_RATES[-1])
    if rate not in SAMPLING_RATES:
        raise invalid(
            f"a sampling_rate of {rate} is not supported; it must be from {SAMPLING_RATES[0]} to {SAMPLING_RATES[-1]}"
        )
    if (found := misfit(kind, config, settings)) is not None:
        raise invalid(f"{found[0]}: {found[1]}")


def _built(extractor: Any, settings: Settings) -> Any:
    """The extractor, tried on noise: settings of the right type may still make no sense."""
    try:
        built = extractor.from_dict(settings)
        noise = np.random.default_rng(0).normal(size=built.sampling_rate).astype(np.float32)
        built(noise, sampling_rate=built.sampling_rate)
    except (
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        IndexError,
        NotImplementedError,
    ) as error:
        raise invalid(first_line(error)) from error
    return built


def _stacked(features: Sequence[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    stacked: NDArray[np.float32] = np.stack(features).astype(np.float32, copy=False)
    if stacked.shape[1:] != shape:
        raise invalid(f"features have shape {stacked.shape[1:]}, but {shape} was expected")
    return stacked
