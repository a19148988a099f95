"""Inputs from audio rows: clips are decoded and resampled here, then the checkpoint's own extractor computes features."""

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.clip_flaws import Flaw, channels_cancel, ends_early
from checkpoints.data.media import NOT_FINITE, clip_trouble, frames_trouble
from worker.engine.data.featurizers.base import Value, file_bytes

REPAIR_SCRIPT = "scripts/repair_torchaudio.py"
# Elements of torchaudio's resampling kernel; it holds a row for every phase, and two rates without a common factor have
# as many phases as samples a second: gigabytes for 44,099 Hz to 16,000 Hz.
MAX_KERNEL = 2**22
# Read beyond what is used, so that the resampling filter sees what follows the last sample that counts.
MARGIN_SECONDS = 0.1

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


class AudioFeaturizer:
    """The featurizer of audio. `whole`: clips that are longer than the model's input are refused, and not cut."""

    def __init__(self, extractor: Extractor, *, whole: bool) -> None:
        self._extractor, self._whole = extractor, whole
        self.pad_value = extractor.pad_value
        self.flaws: list[Flaw] = []

    def decode(self, value: Value, where: str) -> Clip:
        """Raises AUDIO_UNDECODABLE, naming `where`; DATASET_SCHEMA for a clip that may not be cut and is too long."""
        data = file_bytes(value, where, undecodable)
        if ends_early(data):
            self.flaws.append(Flaw.CUT_SHORT)
        rate, seconds = self._extractor.sampling_rate, self._extractor.seconds
        return decode_mono(data, rate, seconds, where, whole=self._whole, flaws=self.flaws)

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """Raises AUDIO_UNDECODABLE where samples are too large for features."""
        features = self._extractor(decoded)
        for feature, where in zip(features, places, strict=True):
            if not np.isfinite(feature).all():
                raise undecodable(where, "its samples are too large to compute finite features")
        return {self._extractor.keyword: features}


def decode_mono(
    data: bytes, rate: int, seconds: float, where: str, *, whole: bool = False, flaws: list[Flaw] | None = None
) -> NDArray[np.float32]:
    """The first `seconds` of a clip (and a little more) as float32 [samples] in mono at `rate` Hz.

    wav, flac, ogg (Vorbis, Opus) and mp3, whatever libsndfile reads. Channels are averaged. Raises AUDIO_UNDECODABLE,
    naming `where` (split and row), for what is no audio, is empty, or holds samples that are no numbers; with `whole`
    DATASET_SCHEMA for a clip that is longer. To `flaws` is added where the channels cancel out.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            native, channels = sound.samplerate, sound.channels
            if trouble := clip_trouble(native, channels) or frames_trouble(sound.frames, len(data)):
                raise undecodable(where, trouble)
            # Bounded, because the unpacked size of a few kilobytes of an untrusted file is not known in advance.
            frames = math.ceil((seconds + MARGIN_SECONDS) * native)
            samples = sound.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        raise undecodable(where, str(error)[:200].rstrip(".")) from None
    if whole and len(samples) > seconds * native:
        reason = (
            f"the clip at {where} is longer than {seconds:g} s; it cannot be truncated, because its transcript "
            "would then be too long"
        )
        item = ErrorItem.at(where, code=ErrorCode.DATASET_SCHEMA, detail=reason)
        raise SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}. Shorten both.", (item,))
    if not len(samples):
        raise undecodable(where, "it contains no samples")
    mono = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise undecodable(where, NOT_FINITE)
    if channels > 1 and flaws is not None:
        power = [float(np.square(each, dtype=np.float64).mean()) for each in (mono, samples)]
        flaws += [Flaw.CANCELLED] if channels_cancel(*power) else []
    return resample(mono, native, rate)


def resample(samples: NDArray[np.float32], native: int, rate: int) -> NDArray[np.float32]:
    """Band-limited, by torchaudio; by soxr between rates so far from a simple ratio that torchaudio cannot."""
    if native == rate:
        return samples
    if _kernel_elements(native, rate) > MAX_KERNEL:
        resampled: NDArray[np.float32] = soxr.resample(samples, native, rate)
        return resampled
    with torch.inference_mode():
        result: NDArray[np.float32] = _resampler(native, rate)(torch.from_numpy(samples)).numpy()
    return result


def undecodable(where: str, reason: str) -> SecateurError:
    """AUDIO_UNDECODABLE for the clip at `where`, as the upload's inspector words it."""
    detail = f"The audio at {where} cannot be decoded: {reason}. Send wav, flac, ogg or mp3."
    item = ErrorItem.at(where, code=ErrorCode.AUDIO_UNDECODABLE, detail=reason)
    return SecateurError(ErrorCode.AUDIO_UNDECODABLE, detail, (item,))


def _kernel_elements(native: int, rate: int) -> int:
    """Phases times taps; torchaudio's filter spans six zero crossings on either side at the lower rate."""
    common = math.gcd(native, rate)
    taps = native // common + 2 * math.ceil(6 * native / min(native, rate) / 0.99)
    return rate // common * taps


@lru_cache(maxsize=16)
def _resampler(native: int, rate: int) -> nn.Module:
    """Keeps its kernel, which takes longer to make than to apply."""
    resampler: nn.Module = load_torchaudio().transforms.Resample(native, rate)
    return resampler


def load_torchaudio() -> Any:
    """The torchaudio module, with `compliance.kaldi`, `functional` and `transforms` imported.

    The published torchaudio wheel is built for CUDA. Beside a CPU build of torch its compiled half does not load, and
    then transformers' audio feature extractors crash as well; the parts used here are written in Python and need no
    compiled half. Raises ENGINE_ERROR with the name of the script that repairs the installation.
    """
    try:
        torchaudio = import_module("torchaudio")
        for part in ("compliance.kaldi", "functional", "transforms"):
            import_module(f"torchaudio.{part}")
    except (ImportError, OSError) as error:
        detail = (
            f"torchaudio cannot be imported on this machine ({error}). Its wheel is built for CUDA; next to a CPU "
            f"build of torch, run `python {REPAIR_SCRIPT}` (or `secateur doctor --fix`) once to remove its compiled "
            "half."
        )
        raise SecateurError(ErrorCode.ENGINE_ERROR, detail) from error
    return torchaudio
