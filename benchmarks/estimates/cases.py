"""The jobs that are estimated and run: models of several shapes, small datasets for them, and specs."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from api_schemas.enums import Split
from api_schemas.spec.job import EngineSpec
from benchmarks.families.examples import LABELS, Example, image, text, waves
from benchmarks.families.small_models import LISTENING, SIZES
from checkpoints.families.audio.waveform_encoder import SAMPLES
from checkpoints.families.text.text_encoder import TOKENS

WORDS = 3000
RATE = 16_000
ONE_SHOT = {"pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}}, "finetune": None}
WHOLE = {
    "pruning": {"target": {"flops": 0.5}, "parts": ["attention", "feed_forward"], "schedule": {"steps": 1}},
    "finetune": None,
}


def paper(share: float, steps: int, epochs: int) -> dict[str, Any]:
    """The preset with recovery."""
    pruning = {"preset": "paper", "target": {"attention_sparsity": share}, "schedule": {"steps": steps}}
    return {"pruning": pruning, "finetune": {"epochs": epochs}}


RECOVERED = {"pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}}, "finetune": {"epochs": 1}}
QUICK = {**ONE_SHOT, "evaluate": {"latency_batch_sizes": [1], "latency_runs": 6, "latency_seconds": 0}}
Counts = Mapping[Split, int]


def counts(train: int, held: int) -> Counts:
    """Rows of the splits."""
    return {Split.TRAIN: train, Split.VALIDATION: held, Split.TEST: held}


@dataclass(frozen=True)
class Case:
    """One job. `make` writes model and data below a folder and returns where they are."""

    name: str
    fitted: bool
    """Whether constants of the model of time were set by looking at it; the others only test it."""
    make: Callable[[Path], tuple[Path, Path]]
    spec: Mapping[str, Any]
    length: tuple[float, float] = (1.0, 1.0)
    """Of the inputs, as JobFacts has it: what a service reads off the rows that it shows of a dataset."""

    @property
    def engine_spec(self) -> EngineSpec:
        return EngineSpec.model_validate(self.spec)


def first_rows(data: Path, folder: Path, sizes: Counts) -> Path:
    """Some rows of every split of a folder of shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in sizes.items():
        rows = pq.read_table(sorted(data.glob(f"{split.value}*.parquet"))[0])
        # A train split may be in the order of its labels.
        step = max(1, len(rows) // count)
        kept = rows.take(list(range(0, len(rows), step))[:count])
        pq.write_table(kept, folder / f"{split.value}.parquet")
    return folder


def given(model: Path, data: Path, sizes: Counts | None = None) -> Callable[[Path], tuple[Path, Path]]:
    """A checkpoint that is there, and its data or a part of it."""
    return lambda folder: (model, data if sizes is None else first_rows(data, folder / "data", sizes))


def _written(folder: Path, features: Mapping[str, Any], rows: Callable[[Split, int], list[Any]], sizes: Counts) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in sizes.items():
        made = datasets.Dataset.from_list(rows(split, count), features=datasets.Features(dict(features)))
        made.to_parquet(folder / f"{split.value}.parquet")
    return folder


def _saved(example: Example, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return example.save(example.stock(), folder)


LABEL = datasets.ClassLabel(names=list(LABELS))


def texts(sizes: Counts, words: Sequence[int], layers: int, hidden: int) -> Callable[[Path], tuple[Path, Path]]:
    """A BERT with random weights, and texts of so many words, from and to."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(WORDS))]
    config = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": hidden // 32,
        "intermediate_size": 4 * hidden, "vocab_size": len(vocabulary), "max_position_embeddings": 130,
    }  # fmt: skip

    def make(folder: Path) -> tuple[Path, Path]:
        model = _saved(text("BertForSequenceClassification", config), folder / "model")
        (model / "vocab.txt").write_text("\n".join(vocabulary))

        def rows(split: Split, count: int) -> list[Any]:
            draw = random.Random(split.value)
            made = []
            for number in range(count):
                said = " ".join(f"w{draw.randrange(WORDS)}" for _ in range(draw.randint(*words)))
                made.append({"text": said, "label": number % len(LABELS)})
            return made

        data = _written(folder / "data", {"text": datasets.Value("string"), "label": LABEL}, rows, sizes)
        return model, data

    return make


def images(sizes: Counts) -> Callable[[Path], tuple[Path, Path]]:
    """A ViT with random weights at 224 pixels, and coloured noise."""
    example = image("ViTForImageClassification", "ViTImageProcessor", 1, image_size=224, patch_size=16, **SIZES)

    def make(folder: Path) -> tuple[Path, Path]:
        def rows(split: Split, count: int) -> list[Any]:
            draw = np.random.default_rng(len(split.value))
            return [
                {
                    "image": Image.fromarray(draw.integers(0, 255, (64, 64, 3), np.uint8)).resize((256, 256)),
                    "label": number % len(LABELS),
                }
                for number in range(count)
            ]

        return _saved(example, folder / "model"), _written(
            folder / "data", {"image": datasets.Image(), "label": LABEL}, rows, sizes
        )

    return make


def sounds(data: Path, sizes: Counts) -> Callable[[Path], tuple[Path, Path]]:
    """A small Wav2Vec2 with random weights that classifies the recordings of `data`, of about a second, by three labels."""

    def make(folder: Path) -> tuple[Path, Path]:
        def rows(split: Split, count: int) -> list[Any]:
            clips = _clips(data, split, count)
            return [{"audio": clip, "label": number % len(LABELS)} for number, (clip, _) in enumerate(clips)]

        example = waves("Wav2Vec2ForSequenceClassification", **LISTENING)
        audio = datasets.Audio(decode=False)
        return _saved(example, folder / "model"), _written(
            folder / "data", {"audio": audio, "label": LABEL}, rows, sizes
        )

    return make


def speech(model: Path, data: Path, sizes: Counts) -> Callable[[Path], tuple[Path, Path]]:
    """A Whisper, and the recordings of `data` with the names of their labels for transcripts."""

    def make(folder: Path) -> tuple[Path, Path]:
        def rows(split: Split, count: int) -> list[Any]:
            return [{"audio": clip, "text": label} for clip, label in _clips(data, split, count)]

        features = {"audio": datasets.Audio(decode=False), "text": datasets.Value("string")}
        return model, _written(folder / "data", features, rows, sizes)

    return make


def _clips(data: Path, split: Split, count: int) -> list[tuple[Any, str]]:
    shard = datasets.Dataset.from_parquet(str(sorted(data.glob(f"{split.value}*.parquet"))[0]))
    shard = shard.cast_column("audio", datasets.Audio(decode=False))
    names = shard.features["label"].names
    step = max(1, len(shard) // count)
    chosen = shard.select(list(range(0, len(shard), step))[:count])
    return [(row["audio"], names[row["label"]]) for row in chosen]


def token_share(words: Sequence[int]) -> tuple[float, float]:
    """Of texts of so many words, from and to: every word is one token, and two stand around them."""
    mean = (sum(words) / 2 + 2) / TOKENS
    return mean, mean


def clip_share(seconds: float) -> tuple[float, float]:
    """Of recordings of so many seconds."""
    share = seconds * RATE / SAMPLES
    return share, share


def cases(demo: tuple[Path, Path], asc: tuple[Path, Path] | None, whisper: Path | None) -> tuple[Case, ...]:
    """All, or those whose checkpoints are given. `demo`: model and data of the demo."""
    model, data = demo
    short, long, tiny = (token_share(words) for words in ((12, 60), (70, 120), (5, 20)))
    of_demo = counts(1000, 200)
    found = [
        Case("demo, paper, 2 steps, 1 epoch", True, given(model, data, of_demo), paper(0.5, 2, 1)),
        Case("text, one cut", True, texts(counts(800, 200), (12, 60), 4, 256), ONE_SHOT, short),
    ]
    small = counts(256, 96)
    if asc is not None:
        found.append(Case("ast-asc, whole model", False, given(*asc, small), WHOLE))
    tiny_texts = texts(counts(600, 150), (5, 20), 2, 64)
    found += [
        Case("text, tiny, paper, 2 steps, 2 epochs", False, tiny_texts, paper(0.2, 2, 2), tiny),
        Case("images, 1 epoch", False, images(counts(64, 32)), RECOVERED),
        Case("sounds, 1 epoch", False, sounds(data, counts(160, 48)), RECOVERED, clip_share(1.0)),
    ]
    if asc is not None:
        found.append(Case("ast-asc, 1 epoch", False, given(*asc, small), RECOVERED))
    found.append(Case("text, long, whole model", False, texts(counts(128, 48), (70, 120), 6, 384), WHOLE, long))
    if whisper is not None:
        found.append(Case("whisper, one cut", False, speech(whisper, data, counts(8, 4)), QUICK))
    return tuple(found)
