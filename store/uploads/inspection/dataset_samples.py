"""Chooses sample rows of a dataset, and converts each for display: a short WAV, a small PNG, a truncated text."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from api_schemas.enums import Modality
from checkpoints.data.answers import TEXT, in_lists
from checkpoints.data.media import IMAGE_FORMATS
from store.uploads.inspection.dataset_audio import BLOCK_FRAMES
from store.uploads.inspection.dataset_rows import UNSTORABLE
from store.uploads.inspection.found_samples import MAX_TEXT, MOST_SAMPLES, FoundSample

SECONDS = 5
RATE = 16_000
"""Hz, at most: five seconds of it in 16 bits are 160 kB."""
SIDE = 96
"""Pixels."""
LYING = (5, 6, 7, 8)
"""Orientations of EXIF whose rows are the columns of the image as it is shown."""


@dataclass
class Samples:
    """The rows of one dataset that are shown: `choose`, then `take` each that it `wants`."""

    found: list[FoundSample] = field(default_factory=list)
    _wanted: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def choose(self, rows: Mapping[str, int]) -> None:
        """Rows at even distances, so that data that is sorted by label shows several; as many of each split. `rows`: by split."""
        most = max(1, MOST_SAMPLES // max(1, len(rows)))
        self._wanted = {
            split: frozenset((2 * place + 1) * count // (2 * most) for place in range(most))
            for split, count in list(rows.items())[:MOST_SAMPLES]
            if count > 0
        }

    def wants(self, split: str, row: int) -> bool:
        return row in self._wanted.get(split, ())

    def take(
        self, split: str, row: int, value: bytes | Sequence[str], modality: Modality, labels: Sequence[str]
    ) -> None:
        """A row that has been judged already. `value`: its clip or image, or its one or two texts."""
        if isinstance(value, bytes):
            made = _file(value, modality)
        else:
            made = dict(zip(("text", "text_pair"), map(shown, value), strict=False))
        label = shown(", ".join(labels)) if labels else None
        self.found.append(FoundSample(split=split, row=row, label=label, **made))

    def answer(self, split: str, row: int, value: object) -> None:
        """Answers to the question of a row, each once, as its label; an empty one where the row says that there is none."""
        if not self.wants(split, row):
            return
        try:
            found = in_lists(value)
        except ValueError:
            return
        if found is None:
            return
        texts = [text for text in found[TEXT] if isinstance(text, str)]
        written = shown("; ".join(dict.fromkeys(texts)))
        self.found[:] = [
            each.model_copy(update={"label": written})
            if (each.split, each.row, each.label) == (split, row, None)
            else each
            for each in self.found
        ]


def shown(text: str) -> str:
    """The beginning of a text, within MAX_TEXT characters; an ellipsis says that it goes on."""
    cut = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return UNSTORABLE.sub("\ufffd", cut)


def short_clip(data: bytes) -> tuple[bytes, float]:
    """(WAV of 16 bits with the first SECONDS of a clip, seconds of the whole clip). Channels are averaged, as the engine does."""
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        rate, frames = sound.samplerate, sound.frames
        # In blocks, averaged at once: there may be 64 channels.
        blocks = sound.blocks(BLOCK_FRAMES, frames=min(frames, SECONDS * rate), dtype="float32", always_2d=True)
        wave = np.concatenate([block.mean(axis=1, dtype=np.float64) for block in blocks])
    seconds = frames / rate
    wave, rate = _at_most(np.nan_to_num(wave), rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.round(32767 * np.clip(wave, -1, 1)).astype(np.int16), rate, "PCM_16", format="WAV")
    return buffer.getvalue(), seconds


def _at_most(wave_T: NDArray[np.float64], rate: int) -> tuple[NDArray[np.float64], int]:
    """The wave and its rate; resampled to RATE where that is higher, by leaving out the frequencies above."""
    if rate <= RATE:
        return wave_T, rate
    count = max(1, round(len(wave_T) * RATE / rate))
    spectrum = np.fft.rfft(wave_T)[: count // 2 + 1]
    return np.fft.irfft(spectrum, count) * (count / len(wave_T)), RATE


def thumbnail(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """(PNG of at most SIDE by SIDE pixels, width and height of the whole image). Turned and in RGB, as the engine sees it."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
        width, height = image.size
        if image.getexif().get(ExifTags.Base.Orientation) in LYING:
            width, height = height, width
        # A JPEG is unpacked at an eighth of its size where that is enough.
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((SIDE, SIDE))
    # Profiles and comments would be written out again, whatever their size.
    small.info.clear()
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue(), (width, height)


def _file(data: bytes, modality: Modality) -> dict[str, Any]:
    """What is shown of a clip or an image; nothing where it is broken beyond what the check decodes."""
    # What soundfile and Pillow raise on untrusted files is not a closed list.
    try:
        if modality is Modality.IMAGE:
            media, (width, height) = thumbnail(data)
            return {"media": media, "width": width, "height": height}
        media, seconds = short_clip(data)
        return {"media": media, "seconds": seconds}
    except Exception:
        return {}
