"""No number of a request is without bounds: what nobody could mean is refused at the door, not by a worker."""

from collections.abc import Iterator
from typing import Any

import pytest

from api_schemas.api.access import KeyRequest
from api_schemas.api.resources import DatasetCompletion, ModelUploadRequest, UploadRequest
from api_schemas.api.webhooks import WebhookRequest, WebhookUpdate
from api_schemas.base import StrictModel
from api_schemas.spec.job import JobRequest

# Bounded by a setting of the operator's, which GET /v1/limits tells.
BY_SETTING = {"DeclaredFile.size", "DeclaredModelFile.size"}


def unbounded(node: Any, place: str) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from unbounded(each, place)
    if not isinstance(node, dict):
        return
    if node.get("type") in ("integer", "number") and not node.keys() & {"enum", "const"}:
        least, most = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
        if not (node.keys() & least and node.keys() & most):
            yield place
    for key, value in node.items():
        inside = key in ("properties", "$defs")
        for name, each in value.items() if inside else [("", value)]:
            yield from unbounded(each, name if key == "$defs" else f"{place}.{name}" if inside else place)


@pytest.mark.parametrize(
    "model",
    [JobRequest, UploadRequest, ModelUploadRequest, DatasetCompletion, KeyRequest, WebhookRequest, WebhookUpdate],
)
def test_every_number_has_a_least_and_a_most(model: type[StrictModel]) -> None:
    assert set(unbounded(model.model_json_schema(), model.__name__)) <= BY_SETTING
