"""A sweep as the command line describes it: a file, overridden by options; validated, then sent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from api_schemas.spec.sweep import SweepRequest
from secateur.errors import InvalidRequest
from secateur.specs.job_request import DraftRequest, Options, inputs_named, require_inputs
from secateur.specs.overrides import overridden, placed, read_value
from secateur.specs.spec_file import read_spec
from secateur.specs.validation import validated

ONE_SHOT: Mapping[str, Any] = {"finetune": None, "pruning.schedule.steps": 1}
"""One cut and no recovery."""


def draft_sweep(
    spec: Path | None,
    options: Options,
    settings: Sequence[str],
    *,
    methods: str | None,
    grid: Sequence[str],
    one_shot: bool,
    max_parallel: int | None,
) -> DraftRequest:
    """The request. `settings` and what `options` have beside model, data and name are of all jobs. Raises InvalidRequest."""
    body = read_spec(spec) if spec else {}
    given = {
        "base.pruning.target": options.target,
        "base.priority": options.priority,
        "base.labels": options.labels or None,
        "name": options.name,
        "methods": methods,
        "max_parallel": max_parallel,
    }
    body = placed(body, {f"base.{path}": value for path, value in options.fields.items()})
    body = placed(body, {path: value for path, value in given.items() if value is not None})
    if one_shot:
        body = placed(body, {f"base.{path}": value for path, value in ONE_SHOT.items()})
    if grid:
        body["grid"] = {**(body.get("grid") or {}), **dict(map(_values, grid))}
    uploads, short = inputs_named(body, options)
    body = overridden(body, [f"base.{setting}" for setting in settings])
    require_inputs(body)
    validated(SweepRequest, body, spec)
    return DraftRequest(body, uploads, short)


def _values(text: str) -> tuple[str, list[Any]]:
    """`pruning.target.flops=0.25,0.5` as path and values; a list of YAML is one as it stands."""
    path, sign, rest = text.partition("=")
    if not sign or not path.strip():
        detail = (
            f"--grid {text}: write it as path=value,value, such as --grid pruning.granularity=entire_head,per_head."
        )
        raise InvalidRequest(detail, code="usage")
    whole = read_value(rest)
    return path.strip(), whole if isinstance(whole, list) else [read_value(each.strip()) for each in rest.split(",")]
