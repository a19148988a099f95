"""Whole jobs: the original is loaded once, and results are the same bytes wherever tensors lie."""

from pathlib import Path
from typing import Any

import pytest
import torch

from api_schemas.spec.job import EngineSpec
from tests.support.checkpoints.tiny import some_data
from tests.support.jobs.engine import identity, run_job
from worker.engine import run
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.runtime import mapped

SPEC = EngineSpec.model_validate(
    {
        "pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}, "calibration": {"samples": 16}},
        "finetune": {"epochs": 1, "method": "full"},
        "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "latency_seconds": 0, "sensitivity_samples": None},
    }
)


def test_same_bytes_wherever_tensors_lie_and_the_original_is_never_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[LoadedModel, dict[str, Any]]] = []
    load_original = run.load_original

    def seen(folder: Path) -> LoadedModel:
        found = load_original(folder)
        loaded.append((found, {name: tensor.clone() for name, tensor in found.model.state_dict().items()}))
        return found

    monkeypatch.setattr(run, "load_original", seen)
    run_job(tmp_path / "memory", SPEC, data=some_data(), cache=tmp_path / "cache-1", fresh_process=False)
    monkeypatch.setattr(mapped, "LEAST", 1)
    monkeypatch.setattr(mapped, "_is_memory", lambda _: False)
    monkeypatch.setattr(mapped.graph_in_files.__wrapped__, "__defaults__", (0,))  # type: ignore[attr-defined]
    run_job(tmp_path / "files", SPEC, data=some_data(), cache=tmp_path / "cache-2", fresh_process=False)
    assert identity(tmp_path / "memory" / "step-1") == identity(tmp_path / "files" / "step-1")
    assert len(loaded) == 2, "once a job"
    (in_memory, _), (in_files, _) = loaded
    assert not any(map(mapped.is_mapped, in_memory.model.parameters()))
    assert all(map(mapped.is_mapped, in_files.model.parameters()))
    for original, before in loaded:
        assert all(torch.equal(tensor, before[name]) for name, tensor in original.model.state_dict().items())
