"""Rows of audio as a model's inputs: decoded here, turned into features by the checkpoint's own extractor."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.engine.data.featurizers.audio import decode_mono, undecodable
from worker.engine.data.featurizers.embedded import Value, file_bytes

Clip = NDArray[np.float32]


class Extractor(Protocol):
    """Mono samples at `sampling_rate` in, features out; each clip by itself, so that a batch changes no bit of them."""

    sampling_rate: int
    seconds: float
    """What the model can look at of one clip."""
    keyword: str
    """Name of the model's argument that the features are."""
    pad_value: float
    """What stands after a clip that is shorter than the features."""

    def __call__(self, clips: Sequence[Clip]) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """float32 [B, …], or B arrays [samples] where clips keep their lengths."""


class Clips:
    """The featurizer of audio. `whole`: clips that are longer than the model's input are refused, and not cut."""

    def __init__(self, extractor: Extractor, *, whole: bool) -> None:
        self._extractor, self._whole = extractor, whole
        self.pad_value = extractor.pad_value

    def decode(self, value: Value, where: str) -> Clip:
        """Raises AUDIO_UNDECODABLE, naming `where`; DATASET_SCHEMA for a clip that may not be cut and is too long."""
        data = file_bytes(value, where, undecodable)
        return decode_mono(data, self._extractor.sampling_rate, self._extractor.seconds, where, whole=self._whole)

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """Raises AUDIO_UNDECODABLE where samples are too large for features."""
        features = self._extractor(decoded)
        for feature, where in zip(features, places, strict=True):
            if not np.isfinite(feature).all():
                raise undecodable(where, "its samples are too large for finite features")
        return {self._extractor.keyword: features}
