"""Writes docs/reference/spec.schema.json, the JSON Schema of a job request: `python scripts/write_spec_schema.py`."""

import json
from pathlib import Path

from api_schemas.spec import JobRequest

SCHEMA = Path(__file__).parents[1] / "docs" / "reference" / "spec.schema.json"


def document() -> str:
    """The schema, as JSON that can be compared line by line."""
    schema = JobRequest.model_json_schema()
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Secateur: a pruning job",
        "description": "The body of POST /v1/jobs. Every field but model, dataset and a target has a default.",
    }
    return (
        json.dumps(
            head | {name: value for name, value in schema.items() if name not in head}, indent=1, ensure_ascii=False
        )
        + "\n"
    )


if __name__ == "__main__":
    SCHEMA.write_text(document(), encoding="utf-8", newline="\n")
    print(f"wrote {SCHEMA}")
