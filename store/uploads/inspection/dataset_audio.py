"""One clip: always its header, its samples for a few clips and for float formats.

libsndfile reads wav, flac, ogg (Vorbis, Opus) and mp3.
"""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.clip_flaws import Flaw, channels_cancel, ends_early
from checkpoints.data.media import NOT_FINITE, clip_trouble, frames_trouble

MAX_SECONDS = 3600
BLOCK_FRAMES = 2**16
FLOATS = ("FLOAT", "DOUBLE")
"""By libsndfile's names."""


@dataclass(frozen=True)
class Clip:
    """What a clip's header says, and what is odd about the clip."""

    seconds: float
    sampling_rate: int
    flaws: tuple[Flaw, ...] = ()


def read_clip(data: bytes, decode: bool, where: str) -> Clip:
    """Read a clip's header, and with `decode` all its samples; those that are floats always. Of several channels the first, too.

    Raises AUDIO_UNDECODABLE, naming `where` (split, row).
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            rate, frames, channels = sound.samplerate, sound.frames, sound.channels
            if trouble := clip_trouble(rate, channels) or frames_trouble(frames, len(data)):
                raise _undecodable(where, trouble)
            if not 0 < frames <= MAX_SECONDS * rate:
                raise _undecodable(
                    where,
                    f"its header gives {frames} samples; only clips of 1 sample to 1 hour are accepted",
                )
            # Of floats every sample: nothing else can hold a NaN or an infinity, and reading them unpacks nothing.
            whole = decode or sound.subtype in FLOATS
            cancelled = (whole or channels > 1) and _check_samples(sound, where, whole=whole)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OverflowError) as error:
        raise _undecodable(where, _reason(error)) from None
    found = {Flaw.CUT_SHORT: ends_early(data), Flaw.CANCELLED: cancelled}
    return Clip(frames / rate, rate, tuple(flaw for flaw, there in found.items() if there))


def _check_samples(sound: soundfile.SoundFile, where: str, *, whole: bool) -> bool:
    """Whether the channels cancel out; judged by the first samples that are not silent, unless the clip is read `whole`."""
    # In blocks: what a few kilobytes unpack to is not known before.
    got, mixed, separate = 0, 0.0, 0.0
    # The number of frames must be given: for some codecs (GSM) it cannot be determined, because they do not support seeking.
    for block in sound.blocks(BLOCK_FRAMES, frames=sound.frames, dtype="float32", always_2d=True):
        got += len(block)
        # Of all channels together, as the engine adds them up.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(block.sum(axis=1)).all()
        if not finite:
            raise _undecodable(where, NOT_FINITE)
        if sound.channels > 1:
            mixed += float(np.square(block.mean(axis=1, dtype=np.float64)).sum())
            separate += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
        if not whole and separate > 0:
            break
    if got == 0:
        raise _undecodable(where, "it contains no samples")
    return channels_cancel(mixed, separate)


def _reason(error: Exception) -> str:
    # soundfile names what it was given, which here is a Python object at an address; libsndfile's own words follow.
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return text[:200].rstrip(".")


def _undecodable(where: str, reason: str) -> SecateurError:
    detail = f"The audio at {where} cannot be decoded: {reason}. Send wav, flac, ogg or mp3."
    item = ErrorItem.at(where, code=ErrorCode.AUDIO_UNDECODABLE, detail=reason)
    return SecateurError(ErrorCode.AUDIO_UNDECODABLE, detail, (item,))
