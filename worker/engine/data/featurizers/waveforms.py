"""Inputs of Wav2Vec2 and similar models: the normalised waveform, extended with silence to one of a few lengths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.data.media import SAMPLING_RATES
from checkpoints.families import family_of
from checkpoints.families.audio.waveform_encoder import MAX_SECONDS
from checkpoints.files.preprocessor_files import preprocessor_type
from worker.engine.data.settings import check_type, first_line, full_config, invalid, model_type, read_preprocessor

SUPPORTED = ("Wav2Vec2FeatureExtractor",)
# Lengths are rounded up to this, so that clips of about equal length share batches where these have one length. The models hear
# silence at the end of almost every recording; a quarter of a second more is 12 of their frames.
STEP_SECONDS = 0.25


class Waveforms:
    """Mono samples in, input_values float32 [samples] out, each clip's own number of samples."""

    keyword = "input_values"
    seconds = MAX_SECONDS
    pad_value = 0.0

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID where the settings are not those of a Wav2Vec2FeatureExtractor."""
        from transformers import Wav2Vec2FeatureExtractor

        settings = read_preprocessor(model_dir)
        check_type(preprocessor_type(settings), SUPPORTED)
        if settings.get("feature_size", 1) != 1:
            raise invalid("feature_size must be 1")
        try:
            extract: Any = Wav2Vec2FeatureExtractor.from_dict(settings)
            self.sampling_rate = int(extract.sampling_rate)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise invalid(first_line(error)) from error
        if self.sampling_rate not in SAMPLING_RATES:
            raise invalid(
                f"a sampling_rate of {self.sampling_rate} is not supported; it must be from {SAMPLING_RATES[0]} "
                f"to {SAMPLING_RATES[-1]}"
            )
        self._extract = extract
        self._step = round(STEP_SECONDS * self.sampling_rate)

    def __call__(self, clips: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Each clip up to MAX_SECONDS, normalised where the settings say so, and then zeros to a multiple of STEP_SECONDS."""
        longest = round(MAX_SECONDS * self.sampling_rate)
        return [self._one(clip[:longest]) for clip in clips]

    def _one(self, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        # The caller, which knows the row, refuses samples too large for a finite variance.
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._extract(clip, sampling_rate=self.sampling_rate)["input_values"][0]
        missing = -len(values) % self._step
        return np.pad(np.asarray(values, dtype=np.float32), (0, missing))


def frames(model_dir: Path, samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many frames the model's convolutions make of clips of `samples` samples [N]. Raises CONFIG_INVALID."""
    config, family = full_config(model_dir), family_of(model_type(model_dir))
    # Not what config.json has: a class without convolutions leaves out what that says of them.
    if family is None or "conv_kernel" not in family.defaults:
        return samples  # the extractor makes frames
    kernels, strides = config["conv_kernel"], config["conv_stride"]
    lists = isinstance(kernels, list | tuple) and isinstance(strides, list | tuple)
    sizes = [*kernels, *strides] if lists else []
    if not sizes or len(kernels) != len(strides) or not all(type(size) is int and size > 0 for size in sizes):
        raise invalid("conv_kernel and conv_stride must be lists of whole numbers of the same length")
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples
