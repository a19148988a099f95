"""What validation says, of every field of every request and every kind of wrong value: plain words, at a place that is there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from api_schemas import ids, validation_messages
from api_schemas.api.access import KeyRequest
from api_schemas.api.resources import DatasetCompletion, UploadRequest
from api_schemas.api.webhooks import WebhookRequest, WebhookUpdate
from api_schemas.errors import ErrorItem
from api_schemas.spec import inputs, labels
from api_schemas.spec.job import JobRequest
from api_schemas.spec.pruning import Target

FILE = {"name": "train.parquet", "size": 1, "sha256": "ab" * 32}
SPLITS = {"train": "a", "validation": "b", "test": "c"}
COLUMNS = {"input": "a", "label": "b", "group": "c"}
HUB = {"type": "hf", "id": "a/b", "revision": "0" * 40}
PRUNING = {
    "preset": "best",
    "target": {"attention_sparsity": 0.5, "ffn_sparsity": None, "parameters": None, "flops": None, "latency": None},
    "parts": ["attention"],
    **{"granularity": "ragged", "criterion": "fisher", "scope": "local", "normalization": "none", "basis": "native"},
    **{"compensation": "none", "balance": "joint", "layout": "any", "align": 1, "exclude_layers": [1]},
    "schedule": {"steps": 2, "largest_step": 0.1, "shape": "linear"},
    "calibration": {"split": "train", "samples": 9, "labels": "data", "draws": 1},
    **{"min_heads": 1, "min_channels": 1, "min_neurons": 1},
}
FINETUNE = {
    **{"epochs": 1, "learning_rate": 0.1, "batch_size": 1, "weight_decay": 0.1, "warmup": 0.1, "only_if_better": True},
    "lora": {"rank": 1, "alpha": 1.0, "dropout": 0.1},
    "augment": {"time_mask": 0.1, "frequency_mask": 0.1, "time_shift": 0.1},
    "distill": {"weight": 0.5, "temperature": 1.0, "attention": 0.0},
}
JOB = {
    "model": {"type": "upload", "id": f"mdl_{'a' * 26}"},
    "dataset": {"type": "upload", "id": f"dst_{'a' * 26}", "columns": COLUMNS, "splits": SPLITS},
    "pruning": PRUNING,
    "finetune": FINETUNE,
    "evaluate": {"batch_size": 1, "latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": 1},
    **{"exports": ["onnx"], "stop": {"max_drop": 0.1}, "deterministic": True, "seed": 0, "name": "n", "priority": 0},
    **{"limits": {"max_runtime": "6h"}, "labels": {"team/x": "speech"}},
}
BODIES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (JobRequest, JOB),
    (JobRequest, JOB | {"model": {"type": "step", "job": f"job_{'a' * 26}", "step": 1}}),
    (JobRequest, JOB | {"model": HUB, "dataset": {**HUB, "config": "c", "columns": COLUMNS, "splits": SPLITS}}),
    (JobRequest, JOB | {"model": {"type": "s3", "bucket": "b", "prefix": "a/b"}}),
    (UploadRequest, {"name": "n", "files": [FILE, FILE]}),
    (DatasetCompletion, {"columns": COLUMNS}),
    (KeyRequest, {"name": "n", "scopes": ["admin"], "expires_at": "2099-01-01T00:00:00Z"}),
    (WebhookRequest, {"url": "https://a.example", "events": ["job.failed"]}),
    (WebhookUpdate, {"url": "https://a.example", "events": ["job.failed"], "enabled": True}),
]
WRONG: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        float("inf"),
        float("nan"),
        "",
        "x",
        "X y",
        "\0",
        "5",
        "2026",
        "2026-01-01T00:00:00",
    ),
    *("x" * 3000, [], [[]], ["x"], [1, 1], list(range(2000)), ["onnx", "onnx"], ["job.failed"] * 2, ["attention"] * 2),
    *(
        {},
        {"surprise": 1},
        {"a/b~c": 1},
        {"Ü": "x"},
        {"a": "\0"},
        {str(n): "x" for n in range(17)},
        {"type": "path"},
        {"type": 1},
    ),
]
# Words of Python and of the library that checks, and signs that only patterns have.
FOREIGN = re.compile(
    r"[Vv]alue error|[Aa]ssertion|[Pp]attern|regex|[Tt]uple|[Dd]ict|frozen|instance|[Dd]iscriminator|\btag\b|[Pp]ydantic|None\b"
    r"|valid string|parse|<\w+|\^|\$|\\[wdx]|\{\d"
)
POINTER = re.compile(r"(/([^~/]|~[01])*)*")


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def put(body: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[path[0]] = put(copy[path[0]], path[1:], value)
    return copy


def without(body: Any, path: tuple[str | int, ...]) -> Any:
    *above, last = path
    holder = body
    for part in above:
        holder = holder[part]
    copy = {key: value for key, value in holder.items() if key != last} if isinstance(holder, dict) else holder[:-1]
    return put(body, tuple(above), copy)


def found(kind: type[BaseModel], body: Any) -> list[tuple[str, str, str]]:
    """What is said of a body: (kind of error, pointer, words)."""
    try:
        kind.model_validate(body)
    except ValidationError as error:
        items = validation_messages.without_echoes(error.errors())
        return [
            (item["type"], validation_messages.pointer(item["loc"], body), validation_messages.reason(item))
            for item in items
        ]
    return []


def leads_somewhere(pointer: str, body: Any) -> bool:
    """To a value, or to a name that is missing in an object that is there."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for number, part in enumerate(parts):
        if isinstance(body, dict):
            if part not in body:
                return number == len(parts) - 1
            body = body[part]
        elif isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        else:
            return False
    return True


@pytest.mark.parametrize(("kind", "body"), BODIES)
def test_every_message_is_in_plain_words_and_every_pointer_leads_somewhere(
    kind: type[BaseModel], body: dict[str, Any]
) -> None:
    assert found(kind, body) == []
    said: set[str] = set()
    for path in places(body):
        wrong = [put(body, path, value) for value in WRONG]
        wrong += [without(body, path)] if path else []
        holder = body
        for part in path:
            holder = holder[part]
        wrong += (
            [put(body, path, {**holder, name: 1}) for name in ("a/b", "m~n", "[key]")]
            if isinstance(holder, dict)
            else []
        )
        for each in wrong:
            for error, pointer, words in found(kind, each):
                said.add(error)
                assert not FOREIGN.search(words), (error, words)
                assert POINTER.fullmatch(pointer), pointer
                assert leads_somewhere(pointer, each), (error, pointer)
    assert "extra_forbidden" in said


def test_every_pattern_has_words() -> None:
    """Of what stands in bodies, and in addresses and headers."""
    schemas = [kind.model_json_schema() for kind, _ in BODIES]
    alone = (
        ids.ModelId,
        ids.ResumableId,
        ids.KeyId,
        ids.WebhookId,
        ids.DeliveryId,
        ids.TenantName,
        labels.LabelSelector,
        inputs.Commit,
    )
    schemas += [TypeAdapter(kind).json_schema() for kind in alone]
    patterns = set(re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(schemas)))
    assert len(patterns) >= 12
    # A duration's pattern is for clients; it is checked by code of ours.
    for pattern in (each for each in map(json.loads, patterns) if "[0-9]{1,5}d" not in each):
        words = validation_messages.reason({"type": "string_pattern_mismatch", "ctx": {"pattern": pattern}})
        assert "needed here" not in words, pattern


def test_names_become_pointers_whatever_is_in_them() -> None:
    at = ErrorItem.at("figures/a~b.svg", 3, code="x", detail="")
    assert at.pointer == "/figures~1a~0b.svg/3"
    # As earlier versions stored them with jobs that failed.
    assert ErrorItem(pointer="train[3]", code="x", detail="").pointer == "/train[3]"
    assert ErrorItem(pointer="a/b~c", code="x", detail="").pointer == "/a~1b~0c"
    assert ErrorItem(pointer="/a/b", code="x", detail="").pointer == "/a/b"
    assert ErrorItem(code="x", detail="").pointer == ""


@pytest.mark.parametrize(
    ("share", "meant"),
    [(50, "; did you mean 0.5?"), (12.5, "; did you mean 0.125?"), (1, ""), (1.5, ""), (100, ""), (-3, "")],
)
def test_a_share_in_percent_is_said_as_one(share: float, meant: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Target.model_validate({"flops": share})
    (item,) = caught.value.errors()
    assert validation_messages.reason(item) == f"{item['msg']}{meant}"
