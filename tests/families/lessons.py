"""Data that a very small model learns in seconds, one kind a sort of checkpoint: words that sound, shapes, sentences.

The words are those of tests/support/checkpoints/preprocessors.py, whose vocabularies the checkpoints have.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from api_schemas.enums import Head, Modality
from tests.support.checkpoints.clips import RATE, encoded
from tests.support.checkpoints.preprocessors import SIDE
from tests.support.checkpoints.rows import ANSWERS, CLIP, PICTURE, TEXT, TEXTS, write_split
from tests.support.uploads import encoded_picture

SPOKEN = ("ABE", "BED", "CAB")
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}
NAMES, VERBS, OTHERS = ("ada", "london", "lovelace"), ("love", "sleep"), ("a", "film", "in", "the")
ASKED = ("ada", "london")
NONE: Mapping[str, list[Any]] = {"text": [], "answer_start": []}
CYCLE = ("ada", "sleep", "in", "the", "good", "film")
LABELS = {
    (Modality.AUDIO, Head.CLASSIFICATION): tuple(word.lower() for word in SPOKEN),
    (Modality.IMAGE, Head.CLASSIFICATION): tuple(COLOURS),
    (Modality.TEXT, Head.CLASSIFICATION): ("bad", "good"),
    (Modality.TEXT, Head.TOKEN_CLASSIFICATION): ("name", "verb", "word"),
}
"""By what a checkpoint reads and answers; the others have none."""

SOUND = RATE // 8
"""Samples of one letter."""


def voice(text: str, noise: np.random.Generator) -> NDArray[np.float32]:
    """Every letter a tone of its own, every space silence. float32 [samples]."""
    time = np.arange(SOUND) / RATE
    tones = [np.sin(2 * np.pi * 200 * (ord(sign) - ord("A") + 1) * time) if sign != " " else 0 * time for sign in text]
    wave = 0.4 * np.concatenate(tones)
    return (wave + 0.01 * noise.normal(size=len(wave))).astype(np.float32)


def _sounds(draw: random.Random, rows: int) -> Iterator[dict[str, Any]]:
    """One word or two, so that clips are of two lengths; the label is the first."""
    noise = np.random.default_rng(draw.randrange(2**32))
    for row in range(rows):
        words = [SPOKEN[row % len(SPOKEN)], *draw.sample(SPOKEN, row % 2)]
        text = " ".join(words)
        yield {"audio": encoded(voice(text, noise), kind="pcm"), "text": text, "label": words[0].lower()}


def _shapes(draw: random.Random, rows: int) -> Iterator[dict[str, Any]]:
    for row in range(rows):
        colour = list(COLOURS)[row % len(COLOURS)]
        image = Image.new("RGB", (SIDE, SIDE), tuple(draw.randrange(90) for _ in "rgb"))
        left, top = draw.randrange(SIDE // 2), draw.randrange(SIDE // 2)
        shape = ImageDraw.Draw(image)
        paint = draw.choice((shape.ellipse, shape.rectangle))
        paint((left, top, left + SIDE // 2, top + SIDE // 2), fill=COLOURS[colour])
        yield {"image": encoded_picture(image), "label": colour}


def _sentences(draw: random.Random, rows: int) -> Iterator[dict[str, Any]]:
    """Of several lengths; the one word that judges decides, wherever it stands."""
    for row in range(rows):
        label = ("bad", "good")[row % 2]
        words = [draw.choice(NAMES + VERBS + OTHERS) for _ in range(2 + row % 3)]
        words.insert(draw.randrange(len(words) + 1), label)
        yield {"text": " ".join(words), "label": label}


def _cycles(draw: random.Random, rows: int) -> Iterator[dict[str, Any]]:
    """Of several lengths and beginnings; a word that is missing is told by its neighbours."""
    for _ in range(rows):
        start, length = draw.randrange(len(CYCLE)), draw.randint(6, 16)
        yield {"text": " ".join(CYCLE[(start + place) % len(CYCLE)] for place in range(length))}


def _questions(draw: random.Random, rows: int) -> Iterator[dict[str, Any]]:
    """Whether it is good or bad that is asked: the one name of the text, or its one verb, which may be missing. Some texts take
    several windows."""
    for row in range(rows):
        about, answer = ("good", draw.choice(ASKED)) if row % 2 else ("bad", draw.choice(VERBS))
        there = row % 8 != 0
        words = [draw.choice(OTHERS) for _ in range(draw.randint(2, 12 if row % 4 else 90))]
        words.insert(draw.randrange(len(words) + 1), draw.choice(VERBS if row % 2 else ASKED))
        if there:
            words.insert(draw.randrange(len(words) + 1), answer)
        context = " ".join(words)
        answers = {"text": [answer], "answer_start": [f" {context} ".index(f" {answer} ")]} if there else NONE
        yield {"question": f"the {about}", "context": context, "answers": answers}


def _tagged(draw: random.Random, rows: int) -> Iterator[dict[str, Any]]:
    kind = {
        word: tag for tag, words in zip(("name", "verb", "word"), (NAMES, VERBS, OTHERS), strict=True) for word in words
    }
    for row in range(rows):
        words = [draw.choice(list(kind)) for _ in range(3 + row % 3)]
        yield {"tokens": words, "tags": [kind[word] for word in words]}


_KINDS: Mapping[str, tuple[Mapping[str, Any], Any]] = {
    "sounds": ({"audio": CLIP, "text": TEXT, "label": TEXT}, _sounds),
    "shapes": ({"image": PICTURE, "label": TEXT}, _shapes),
    "sentences": ({"text": TEXT, "label": TEXT}, _sentences),
    "cycles": ({"text": TEXT}, _cycles),
    "questions": ({"question": TEXT, "context": TEXT, "answers": ANSWERS}, _questions),
    "tagged": ({"tokens": TEXTS, "tags": TEXTS}, _tagged),
}


@dataclass(frozen=True)
class Lessons:
    """A data set: shards of train, validation and test."""

    kind: str
    sizes: tuple[tuple[str, int], ...] = (("train", 96), ("validation", 24), ("test", 24))

    @classmethod
    def of(cls, modality: Modality, head: Head) -> "Lessons":
        """What such a checkpoint learns from."""
        if head is Head.TOKEN_CLASSIFICATION:
            return cls("tagged")
        if head in (Head.MASKED_LM, Head.CAUSAL_LM):
            return cls("cycles")
        if head is Head.QUESTION_ANSWERING:
            return cls("questions")
        return cls({Modality.AUDIO: "sounds", Modality.IMAGE: "shapes", Modality.TEXT: "sentences"}[modality])

    def write(self, folder: Path) -> None:
        features, rows = _KINDS[self.kind]
        for split, size in self.sizes:
            write_split(folder / f"{split}.parquet", features, list(rows(random.Random(f"{self.kind} {split}"), size)))
