"""Speech with transcripts, from packages of Debian: a few real sentences, and many that are synthesised.

- real: the test recordings of `pocketsphinx-testdata` (BSD): five sentences of a LibriVox reading, five calls of cards, two
  commands. Never tuned or calibrated on.
- synthesised: sentences of `fortunes`, spoken by the voices of `flite` and `espeak-ng`. Which sentence is in which split, and who
  speaks it, is drawn by seed; no sentence is in two splits, and of every maker a voice speaks in the test split alone.

Nothing of either is kept in this repository.
"""

import csv
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from api_schemas.enums import Split

RATE = 16_000
METADATA = "metadata.csv"
SENTENCE = re.compile(r"[A-Z][a-z]+(?:[,;]? [A-Za-z][a-z]*(?:'[a-z]+)?)+[.!?]")
"""Words alone: how a figure or an abbreviation is read aloud is a question of its own."""
WORDS = range(8, 21)
COMMANDS = {"goforward.raw": "go forward ten meters", "something.raw": "go somewhere and do something"}
"""What is said in the recordings that come without a transcript in a file."""


@dataclass(frozen=True)
class Voice:
    """One voice of one program."""

    program: str
    name: str
    speed: int = 0
    """Words a minute, of espeak-ng."""

    def say(self, text: str, target: Path) -> None:
        """Write a wav file. Raises CalledProcessError where the program fails, FileNotFoundError where there is none."""
        options = ["-t", text, "-o", str(target), "-voice", self.name]
        if self.program == "espeak-ng":
            options = ["-v", self.name, "-s", str(self.speed), "-w", str(target), text]
        subprocess.run([self.program, *options], check=True, capture_output=True)


HEARD = (
    Voice("flite", "rms"), Voice("flite", "slt"), Voice("espeak-ng", "en-us", 160), Voice("espeak-ng", "en-gb", 150),
    Voice("espeak-ng", "en-us+f3", 150),
)  # fmt: skip
"""Who speaks in all splits."""
UNHEARD = (Voice("flite", "awb"), Voice("espeak-ng", "en-gb-scotland", 150))
"""Who speaks in the test split beside them."""


def sentences(folder: Path) -> list[str]:
    """Every short plain sentence of a folder of fortunes, in the order of files and lines, each once.

    Raises ValueError where there are none.
    """
    found: dict[str, None] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.suffix):
        for entry in path.read_text(errors="replace").split("\n%\n"):
            text = " ".join(entry.split())
            if SENTENCE.fullmatch(text) and len(text.split()) in WORDS:
                found[text] = None
    if not found:
        raise ValueError(f"{folder} holds no sentences; install Debian's package fortunes")
    return list(found)


def _as_rate(path: Path) -> None:
    """Bring a wav file to RATE, by linear interpolation behind a moving mean: programs and voices have rates of their own."""
    samples, rate = soundfile.read(path, dtype="float64")
    if rate != RATE:
        width = max(1, round(rate / RATE))
        smooth = np.convolve(samples, np.full(width, 1.0 / width), mode="same")
        places = np.arange(int(len(samples) * RATE / rate)) * rate / RATE
        samples = np.interp(places, np.arange(len(samples)), smooth)
    soundfile.write(path, samples, RATE, subtype="PCM_16")


def _write(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    with (folder / METADATA).open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *rows])


def synthesise(folder: Path, fortunes: Path, counts: dict[Split, int], seed: int = 0) -> None:
    """A dataset folder, `<split>/*.wav` with metadata.csv. A folder that is complete already is left as it is.

    Raises ValueError where there are too few sentences.
    """
    done = folder / "complete"
    key = f"{counts} {seed}"
    if done.is_file() and done.read_text() == key:
        return
    texts, rng = sentences(fortunes), np.random.default_rng(seed)
    if len(texts) < sum(counts.values()):
        raise ValueError(f"{sum(counts.values())} sentences are needed, and {fortunes} holds {len(texts)}")
    order = iter(rng.permutation(len(texts)).tolist())
    for split, count in counts.items():
        (folder / split.value).mkdir(parents=True, exist_ok=True)
        voices = (*HEARD, *UNHEARD) if split is Split.TEST else HEARD
        _write(folder / split.value, _spoken(folder / split.value, [texts[next(order)] for _ in range(count)], voices))
    done.write_text(key)


def _spoken(folder: Path, texts: Sequence[str], voices: Sequence[Voice], first: int = 0) -> list[tuple[str, str]]:
    """(name, text) of a wav file for each, numbered from `first`, the voices in turn."""
    rows = []
    for number, text in enumerate(texts, start=first):
        name = f"{number:03}.wav"
        voices[number % len(voices)].say(text, folder / name)
        _as_rate(folder / name)
        rows.append((name, text))
    return rows


def _rows(folder: Path) -> list[tuple[str, str]]:
    with (folder / METADATA).open(newline="") as file:
        return [(row["file_name"], row["text"]) for row in csv.DictReader(file)]


def further(folder: Path, fortunes: Path, known: Path, clips: int, seed: int = 0) -> None:
    """The dataset folder `known` with so many clips more in its train split, of sentences that none of its splits has.

    A folder that is complete already is left as it is. Raises ValueError where there are too few sentences.
    """
    done, key = folder / "complete", f"{clips} more of {(known / 'complete').read_text()}"
    if done.is_file() and done.read_text() == key:
        return
    taken = {text for split in Split for _, text in _rows(known / split.value)}
    texts = sentences(fortunes)
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    new = [texts[place] for place in order if texts[place] not in taken][:clips]
    if len(new) < clips:
        raise ValueError(f"{clips} sentences more are needed, and {fortunes} holds {len(new)}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(known, folder)
    train = folder / Split.TRAIN.value
    before = _rows(train)
    _write(train, [*before, *_spoken(train, new, HEARD, first=len(before))])
    done.write_text(key)


def _transcripts(path: Path) -> Iterator[tuple[str, str]]:
    """(name, words) of a transcription of CMU Sphinx: `<s> words </s> (name)`."""
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"<s>\s+(.*?)\s+</s>\s+\((.+)\)", line.strip())
        if match:
            yield match[2], match[1]


def real(folder: Path, sphinx: Path, spare: Path) -> None:
    """The real sentences as the split `test` of a dataset folder. `sphinx`: the package's folder `test/data`.

    A dataset has other splits, too: two clips each of those of the dataset folder `spare`, which nobody reads.
    """
    target = folder / "test"
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    for part, listing in (("librivox", "transcription"), ("cards", "cards.transcription")):
        for name, words in _transcripts(sphinx / part / listing):
            samples, rate = soundfile.read(sphinx / part / f"{name}.wav", dtype="int16")
            soundfile.write(target / f"{name}.wav", samples, rate)
            rows.append((f"{name}.wav", words))
    for name, words in COMMANDS.items():
        samples = np.fromfile(sphinx / name, dtype="<i2")
        soundfile.write(target / f"{name}.wav", samples, RATE)
        rows.append((f"{name}.wav", words))
    _write(target, rows)
    for split in ("train", "validation"):
        (folder / split).mkdir(exist_ok=True)
        first = _rows(spare / split)[:2]
        for name, _ in first:
            shutil.copy(spare / split / name, folder / split / name)
        _write(folder / split, first)
