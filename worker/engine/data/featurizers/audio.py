"""Bytes of a clip in, mono samples at the model's rate out."""

import io
import math
from functools import lru_cache

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.media import clip_trouble, frames_trouble
from worker.engine.data.featurizers.audio_library import load_torchaudio

# Elements of torchaudio's resampling kernel; it holds a row for every phase, and two rates without a common factor have
# as many phases as samples a second: gigabytes for 44,099 Hz to 16,000 Hz.
MAX_KERNEL = 2**22
# Read beyond what is used, so that the resampling filter sees what follows the last sample that counts.
MARGIN_SECONDS = 0.1


def decode_mono(data: bytes, rate: int, seconds: float, where: str, *, whole: bool = False) -> NDArray[np.float32]:
    """The first `seconds` of a clip (and a little more) as float32 [samples] in mono at `rate` Hz.

    wav, flac, ogg (Vorbis, Opus) and mp3, whatever libsndfile reads. Channels are averaged. Raises AUDIO_UNDECODABLE,
    naming `where` (split and row), for what is no audio, is empty, or holds samples that are no numbers; with `whole`
    DATASET_SCHEMA for a clip that is longer.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            native, channels = sound.samplerate, sound.channels
            if trouble := clip_trouble(native, channels) or frames_trouble(sound.frames, len(data)):
                raise undecodable(where, trouble)
            # Bounded: what a few kilobytes of a stranger's file unpack to is not known before.
            frames = math.ceil((seconds + MARGIN_SECONDS) * native)
            samples = sound.read(frames, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        raise undecodable(where, str(error)[:200].rstrip(".")) from None
    if whole and len(samples) > seconds * native:
        reason = (
            f"the clip at {where} is longer than {seconds:g} s, and cutting speech would leave its transcript too long"
        )
        item = ErrorItem(pointer=where, code=ErrorCode.DATASET_SCHEMA, detail=reason)
        raise SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}. Cut both.", (item,))
    if not len(samples):
        raise undecodable(where, "it holds no samples")
    mono = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise undecodable(where, "it holds samples that are not finite numbers")
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
    item = ErrorItem(pointer=where, code=ErrorCode.AUDIO_UNDECODABLE, detail=reason)
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
