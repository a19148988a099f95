"""The JSON Schema of a job request, for editors and validators: `secateur schema`, docs/reference/spec.schema.json."""

from typing import Any

from api_schemas.spec.job import JobRequest


def spec_schema() -> dict[str, Any]:
    """By JSON Schema 2020-12."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Secateur: a pruning job",
        "description": "The body of POST /v1/jobs. Every field but model, dataset and a target has a default.",
    }
    return head | {name: value for name, value in JobRequest.model_json_schema().items() if name not in head}
