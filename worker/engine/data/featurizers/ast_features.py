"""Inputs of AST: the checkpoint's own feature extractor, checked against its config by its outputs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from checkpoints.data.media import SAMPLING_RATES
from checkpoints.files.preprocessor_files import preprocessor_type
from worker.engine.data.featurizers.audio import load_torchaudio
from worker.engine.data.settings import check_type, first_line, full_config, invalid, read_preprocessor

SUPPORTED = ("ASTFeatureExtractor",)
# Kaldi's framing, which ASTFeatureExtractor uses: a window of 25 ms every 10 ms.
WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010
# Features of one clip, in float32 values: 64 MiB. A config can ask for anything.
MAX_VALUES = 2**24


class AstFeatures:
    """Mono samples at `sampling_rate` in, input_values float32 [frames, mels] of a fixed size out."""

    keyword = "input_values"

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID where the folder has no usable preprocessor_config.json, or one unlike its config.json.

        Reads local files only and runs no code from the folder.
        """
        load_torchaudio()  # Without it transformers takes another path: several times slower, and not the same numbers.
        from transformers import ASTFeatureExtractor

        settings = read_preprocessor(model_dir)
        check_type(preprocessor_type(settings), SUPPORTED)
        try:
            extract: Any = ASTFeatureExtractor.from_dict(settings)
            self.sampling_rate = int(extract.sampling_rate)
            self.shape = (int(extract.max_length), int(extract.num_mel_bins))
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise invalid(first_line(error)) from error
        self._extract = extract
        self._check(model_dir)
        # A clip can be longer than what the model looks at; the rest need not be decoded.
        self.seconds = (self.shape[0] - 1) * HOP_SECONDS + WINDOW_SECONDS
        self._shortest = math.ceil(WINDOW_SECONDS * self.sampling_rate) + 1
        self.pad_value = self._find_pad_value()

    def _check(self, model_dir: Path) -> None:
        if self.sampling_rate not in SAMPLING_RATES:
            raise invalid(
                f"a sampling_rate of {self.sampling_rate} is not supported; it must be from {SAMPLING_RATES[0]} "
                f"to {SAMPLING_RATES[-1]}"
            )
        config = full_config(model_dir)
        # The defaults are ASTConfig's.
        expected = (config["max_length"], config["num_mel_bins"])
        if self.shape != expected or min(self.shape) < 4 or self.shape[0] * self.shape[1] > MAX_VALUES:
            raise invalid(f"(max_length, num_mel_bins) is {self.shape}, but config.json expects {expected}")

    def __call__(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Features float32 [B, frames, mels] of B clips, each computed by itself: a batch changes no bit of them.

        Clips shorter than one analysis window are lengthened with silence to one window.
        """
        padded = [np.pad(clip, (0, max(0, self._shortest - len(clip)))) for clip in clips]
        with torch.inference_mode():
            features = self._extract(padded, sampling_rate=self.sampling_rate)["input_values"]
        stacked: NDArray[np.float32] = np.stack(features).astype(np.float32, copy=False)
        if stacked.shape[1:] != self.shape:
            raise invalid(f"features have shape {stacked.shape[1:]}, but {self.shape} was expected")
        return stacked

    def _find_pad_value(self) -> float:
        """What stands in the last frame of a clip that is one window long."""
        noise = np.random.default_rng(0).normal(size=self._shortest).astype(np.float32)
        try:
            last = self([noise])[0, -1]
        # Settings that are of the right type and still make no sense raise all kinds of errors in the libraries.
        except (ValueError, TypeError, ArithmeticError, RuntimeError, AssertionError) as error:
            raise invalid(first_line(error)) from error
        if not np.isfinite(last).all() or np.ptp(last) != 0:
            raise invalid("padding is not a single finite value; check mean and std")
        return float(last[0])
