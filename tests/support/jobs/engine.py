"""Whole jobs of the real engine in the tests' own process: a program of its own takes six seconds to import the same libraries.

That the program does as much with its options, its streams and its parent is tested in tests/unit/engine/jobs/test_engine.py.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from api_schemas.results.events import EngineEvent, Failed, StepDone
from api_schemas.results.metrics import StepMetrics
from api_schemas.spec.job import EngineSpec
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from worker.engine import job
from worker.engine.__main__ import _failure
from worker.engine.parallel.group import ALONE, Group
from worker.engine.report import html
from worker.engine.run import Inputs, run

IDENTICAL = (
    *("model.safetensors", "model.onnx", "model.int8.onnx", "config.json", "pruning.json", "preprocessor_config.json"),
    *("modeling_pruned.py", "configuration_pruned.py", "torchao_int8/model.safetensors", "torchao_int8/config.json"),
)
"""The files of the identity promise: weights, exports, configs, code."""


def identity(folder: Path) -> dict[str, bytes]:
    """Those of them that a step's folder has."""
    return {name: (folder / name).read_bytes() for name in IDENTICAL if (folder / name).exists()}


@lru_cache(maxsize=1)
def _features() -> TemporaryDirectory[str]:
    """What is made of data once serves every job of this process; the folder goes with it."""
    return TemporaryDirectory(prefix="secateur-features-")


def run_job(
    out: Path,
    spec: EngineSpec | Mapping[str, Any],
    *,
    model: Path | None = None,
    data: Path | None = None,
    figures: bool = False,
    fresh_process: bool = True,
    hear: Callable[[EngineEvent], object] = lambda _: None,
    group: Group = ALONE,
    **options: Any,
) -> list[EngineEvent]:
    """What the engine said, all of it; the steps lie in `out`. The tests' own model and data where no other is named.

    Args:
        figures: the report has its figures, whose drawing takes longer than the rest of a small job.
        fresh_process: every step is loaded by a fresh process, as always outside of tests.
        group: the processes that share the work; each has to call this.
        hear: is told every event as it comes, and may raise to end the job there.
        options: of `Inputs`, such as `resume`.

    Raises what the engine raises.
    """
    out.mkdir(parents=True, exist_ok=True)
    where = {"device": "cpu", "threads": 1, "cache": Path(_features().name)} | options
    said: list[EngineEvent] = []

    def emit(event: EngineEvent) -> None:
        said.append(event)
        hear(event)

    asked = spec if isinstance(spec, EngineSpec) else EngineSpec.model_validate(spec)
    with pytest.MonkeyPatch.context() as patch:
        if not figures:
            patch.setattr(html, "write_figures", lambda *_: ())
        if not fresh_process:
            patch.setattr(job, "check_reload", lambda *_: 0.0)
        run(Inputs(model or tiny_model(), data or tiny_data(), out=out, **where), asked, emit, group)
    return said


def failed_job(out: Path, spec: Mapping[str, Any], **options: Any) -> Failed:
    """What the program says at its end, of a job that must not succeed."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever ends a job becomes an event
        run_job(out, spec, **options)
    return _failure(caught.value)


def steps_of(said: list[EngineEvent]) -> list[StepMetrics]:
    """Step 0 first."""
    return [event.metrics for event in said if isinstance(event, StepDone)]
