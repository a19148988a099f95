"""The request of a job without the values that its preset filled in, so that another preset can fill them."""

from typing import Any

from api_schemas.enums import Head
from api_schemas.spec.job import JobRequest
from api_schemas.spec.presets import FINETUNE, PRESETS
from checkpoints.planning.settled import FAST, criterion_of

_SETTLED: dict[str, tuple[Any, ...]] = {
    "criterion": tuple(criterion_of(head).value for head in Head),
    "align": (*FAST, 1),
}
"""What a service writes into a request that leaves these to the model."""


def without_preset(request: JobRequest) -> dict[str, Any]:
    """As JSON, without the preset's name, and without what is as that preset has it: nothing tells whether it was asked for."""
    body = request.model_dump(mode="json")
    preset = request.pruning.preset
    bare = {**body, "pruning": {"preset": preset, "target": body["pruning"]["target"]}}
    del bare["finetune"]
    usual = JobRequest.model_validate(bare).model_dump(mode="json")
    body["pruning"] = _asked(body["pruning"], {name: usual["pruning"].get(name) for name in PRESETS[preset]})
    del body["pruning"]["preset"]
    if body["finetune"] is not None:
        body["finetune"] = _asked(body["finetune"], {name: usual["finetune"].get(name) for name in FINETUNE[preset]})
    return body


def _asked(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        if name in usual:
            before = usual[name]
            if value == before or (before is None and value in _SETTLED.get(name, ())):
                continue
            if isinstance(value, dict) and isinstance(before, dict):
                found[name] = _asked(value, before)
                continue
        found[name] = value
    return found
