"""Writes docs/reference/spec.schema.json, the JSON Schema of a job request: `python scripts/write_spec_schema.py`."""

import json
from pathlib import Path

from api_schemas.spec.job import spec_schema

SCHEMA = Path(__file__).parents[1] / "docs" / "reference" / "spec.schema.json"


def document() -> str:
    """The schema, as JSON that can be compared line by line."""
    return json.dumps(spec_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(document(), encoding="utf-8", newline="\n")
    print(f"wrote {SCHEMA}")
