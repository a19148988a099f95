"""The two records beside a step's weights.

`pruning.json` says what was done, and is part of the reproducibility promise: the same inputs give the same bytes. `metrics.json`
holds everything that was measured, timings included, and is not.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.metrics import DataSummary, JobResult, StepMetrics
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import EngineSpec
from worker.engine.checkpoint.load import PRUNING_FILE
from worker.engine.checkpoint.save import write_json
from worker.engine.exports import packages
from worker.engine.pruning.selection import KeptHead, Selection

METRICS_FILE = "metrics.json"
_METRICS: TypeAdapter[tuple[StepMetrics, ...]] = TypeAdapter(tuple[StepMetrics, ...])
_REPEATABLE = {
    "step",
    "requested_sparsity",
    "achieved_sparsity",
    "ffn_sparsity",
    "size",
    "validation",
    "validation_before_recovery",
    "rejected_recovery",
    "test",
    "losses",
    "augmented",
    "lora_ranks",
    "calibration_samples",
    "refit_samples",
    "stock_layout",
    "sensitivity",
    "search",
}
"""The fields of StepMetrics that do not depend on how fast the machine was."""
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "torchaudio", "secateur")


@dataclass(frozen=True)
class StepRecord:
    """What pruning.json says of a step."""

    step: int
    family: str
    architecture: str
    """Name of the class of transformers."""
    spec: EngineSpec
    widths: AttentionWidths
    kept: Selection
    """In the numbers of the original model."""
    stock_layout: bool
    query_scale: float
    """Factor folded into W_q and b_q so that the stock class's own softmax scale comes out right; 1 elsewhere."""


def versions(spec: EngineSpec) -> dict[str, str]:
    """Of Python and of the packages that decide the result."""
    names = (*_PACKAGES, *packages(spec.exports))
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_pruning(
    folder: Path, record: StepRecord, steps: Sequence[StepMetrics], result: JobResult | None = None
) -> None:
    """pruning.json: spec, widths and kept channels of every head, lineage, versions, hashes, results without timings.

    `result` is the job's, on the step that ends it.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".onnx", ".py", ".json"))
    results = [step.model_dump(mode="json", include=_REPEATABLE) for step in steps]
    value: dict[str, Any] = {
        "format": 1,
        "step": record.step,
        "family": record.family,
        "architecture": record.architecture,
        "spec": record.spec.model_dump(mode="json"),
        "lineage": record.spec.lineage,
        "widths": record.widths.model_dump(mode="json"),
        "kept": [
            [{"head": head.head, "qk": list(head.qk), "vo": list(head.vo)} for head in layer]
            for layer in record.kept.heads
        ],
        "kept_neurons": [list(block) for block in record.kept.neurons],
        "stock_layout": record.stock_layout,
        "query_scale": record.query_scale,
        "versions": versions(record.spec),
        "sha256": {
            path.relative_to(folder).as_posix(): sha256_of(path)
            for path in files
            if path.name not in (PRUNING_FILE, METRICS_FILE)
        },
        "results": results,
        "result": None if result is None else result.model_dump(mode="json"),
    }
    write_json(folder / PRUNING_FILE, value)


def write_metrics(
    folder: Path, data: DataSummary, steps: Sequence[StepMetrics], result: JobResult | None = None
) -> None:
    """metrics.json: every step so far, timings included; on the step that ends the job what it comes to."""
    value = {
        "data": data.model_dump(mode="json"),
        "steps": [step.model_dump(mode="json") for step in steps],
        "result": None if result is None else result.model_dump(mode="json"),
    }
    write_json(folder / METRICS_FILE, value)


@dataclass(frozen=True)
class Committed:
    """A step that is done, as its folder says it. `metrics` are of all steps up to it; `result` where it ended the job."""

    metrics: tuple[StepMetrics, ...]
    kept: Selection
    result: JobResult | None


def read_step(folder: Path) -> Committed:
    """What a resumed job goes on from. INPUT_LOST where the folder is not a step's."""
    try:
        measured = json.loads((folder / METRICS_FILE).read_text())
        metrics = _METRICS.validate_python(measured["steps"])
        result = None if measured.get("result") is None else JobResult.model_validate(measured["result"])
        record = json.loads((folder / PRUNING_FILE).read_text())
        kept, neurons = record["kept"], tuple(map(tuple, record["kept_neurons"]))
    except (OSError, ValueError, KeyError) as error:
        raise SecateurError(
            ErrorCode.INPUT_LOST, f"The step to continue from ({folder.name}) cannot be read: {error}"
        ) from error
    keep = tuple(tuple(KeptHead(h["head"], tuple(h["qk"]), tuple(h["vo"])) for h in layer) for layer in kept)
    return Committed(metrics, Selection(keep, neurons), result)
