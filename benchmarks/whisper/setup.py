"""The checkpoint and its speech, read once: what every arm gets alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from api_schemas.enums import Split
from api_schemas.spec.inputs import Columns, Splits
from benchmarks.whisper import speech
from checkpoints.describe import Checkpoint, describe_folder
from worker.engine.checkpoint.load import LoadedModel, load_original
from worker.engine.data import FeatureSplit, PreparedData, prepare
from worker.engine.tasks import task_for
from worker.engine.tasks.sequences import SequenceToSequence

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setup:
    """Calibration and training on `train`, choices on `validation`, both synthesised; `tests` are only read for the results."""

    model: Path
    described: Checkpoint
    dense: LoadedModel
    data: PreparedData
    tests: dict[str, FeatureSplit]
    """`real` and `synthesised`."""
    task: SequenceToSequence
    further: PreparedData | None = None
    """`data` with more clips to calibrate on."""


def load_setup(
    model: Path, fortunes: Path, sphinx: Path, out: Path, counts: dict[Split, int], seed: int = 0, more: int = 0
) -> Setup:
    """Make the speech under `out`, where it is not there yet, and read it. `more`: clips of `further` beyond those of `counts`.

    Raises ValueError for a model that writes nothing.
    """
    described = describe_folder(model)
    speech.synthesise(out / "synthesised", fortunes, counts, seed)
    speech.real(out / "real", sphinx, out / "synthesised")
    read = {name: prepared(out / name, model, described, out / "cache") for name in ("synthesised", "real")}
    dense, data = load_original(model), read["synthesised"]
    options: dict[str, Any] = {"decode": data.decode, "normalize": data.normalize}
    task = task_for(described.architecture.head, dense.model.config, **options)
    if not isinstance(task, SequenceToSequence):
        raise ValueError(f"{described.name} writes no texts")
    task.padding = dense.model_spec.padding_of(dense.model)
    tests = {name: each.splits[Split.TEST] for name, each in read.items()}
    further = None
    if more:
        speech.further(out / "further", fortunes, out / "synthesised", more, seed)
        further = prepared(out / "further", model, described, out / "cache")
    return Setup(model, described, dense, data, tests, task, further)


def prepared(folder: Path, model: Path, described: Checkpoint, cache: Path) -> PreparedData:
    """Inputs and transcripts of a dataset folder."""
    return prepare(
        folder,
        model,
        modality=described.family.modality,
        head=described.architecture.head,
        labels=described.labels,
        multi_label=False,
        columns=Columns(),
        splits=Splits(),
        seed=0,
        cache_dir=cache,
        progress=lambda _done, _total: None,
    )
