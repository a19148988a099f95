"""Requests, metrics and rows as small as the contract allows."""

from typing import Any

from api_schemas import ids
from api_schemas.results.metrics import Scores, Size, StepMetrics
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.job import JobRequest
from store.jobs.transitions import StepFile


def job_request(model: str | None = None, dataset_id: str | None = None, **more: Any) -> JobRequest:
    """A valid request; unknown uploads where none are named."""
    body = {
        "model": {"type": "upload", "id": model or ids.new_id(ids.MODEL)},
        "dataset": {"type": "upload", "id": dataset_id or ids.new_id(ids.DATASET)},
        "pruning": {"target": {"attention_sparsity": 0.5}},
    }
    return JobRequest.model_validate(body | more)


def step_metrics(step: int) -> StepMetrics:
    """Metrics of a step of a model with one layer."""
    return StepMetrics(
        step=step,
        requested_sparsity=0.1 * step,
        achieved_sparsity=0.1 * step,
        widths=AttentionWidths.dense(layers=1, heads=2, head_dim=4),
        size=Size(attention_parameters=100, total_parameters=200, flops=300, file_bytes=400),
        validation=Scores(samples=10, cross_entropy=0.5, accuracy=0.9),
    )


def step_file(job_id: str, step: int, name: str = "model.safetensors") -> StepFile:
    """A file as `upload_step` returns it."""
    return StepFile(name=name, size=3, sha256="ab" * 32, key=f"jobs/{job_id}/epoch-1/step-{step}/{name}")
