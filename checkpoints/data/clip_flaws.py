"""Flaws of a recording that can still be read: it is accepted, counted, and causes a warning.

The inspector and the engine check every clip for them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from api_schemas.enums import Split
from api_schemas.results.metrics import JobWarning

ClipFlaws = Mapping[str, Mapping[str, int]]
"""By split, how many clips have each flaw; none where it is not named."""

CANCELLED_SHARE = 1e-4
"""Of the channels' power, what is left of it once they are averaged: 40 dB less. Of two unlike recordings half is left."""
_MAX_CHUNKS = 1000
_STREAMED = 0xFFFF_FFFF


class Flaw(StrEnum):
    """Codes of warnings, too."""

    CUT_SHORT = "clips_cut_short"
    CANCELLED = "clips_cancelled"


_WORDS = {
    Flaw.CUT_SHORT: (
        "end earlier than their headers say, probably because they were copied incompletely. They are read as far as "
        "they go"
    ),
    Flaw.CANCELLED: (
        "are nearly silent once their channels are averaged, because one channel is the other inverted: the model "
        "hears nothing in them. Invert one channel, or send only one of them"
    ),
}


def ends_early(data: bytes) -> bool:
    """Whether a wav says that it has more samples than follow. One that does not know, as of a stream, says nothing."""
    if data[:4] not in (b"RIFF", b"RIFX", b"RF64") or data[8:12] != b"WAVE":
        return False
    order: Literal["big", "little"] = "big" if data[:4] == b"RIFX" else "little"
    position, long_size = 12, 0
    for _ in range(_MAX_CHUNKS):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], order)
        position += 8
        if name == b"ds64":
            long_size = int.from_bytes(data[position + 8 : position + 16], "little")
        if name == b"data":
            size = (long_size if data[:4] == b"RF64" else 0) if size == _STREAMED else size
            return position + size > len(data)
        if position >= len(data):
            return False
        position += size + size % 2
    return False


def channels_cancel(mixed: float, channels: float) -> bool:
    """Whether a clip is lost when its channels are averaged: by the power of their average, and the average of their powers."""
    return channels > 0 and mixed < CANCELLED_SHARE * channels


def clip_warnings(named: Mapping[Split, str], flaws: ClipFlaws) -> tuple[JobWarning, ...]:
    """For every split that plays a role, and every flaw of its clips."""
    return tuple(
        JobWarning(
            code=flaw.value,
            pointer=f"/dataset/splits/{role.value}",
            detail=f"{flaws[split][flaw.value]} of the clips of the split {split!r} {_WORDS[flaw]}.",
        )
        for role, split in named.items()
        for flaw in Flaw
        if flaws.get(split, {}).get(flaw.value)
    )
