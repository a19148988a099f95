"""Writes tests/integration/service/openapi.json, the document as it was agreed on: `python scripts/write_openapi.py`.

Run it where the API was changed on purpose, and look at the difference: what clients rely on is in it.
"""

import json
import tempfile
from pathlib import Path

from service.app import create_app
from store.settings import Settings

SNAPSHOT = Path(__file__).parents[1] / "tests" / "integration" / "service" / "openapi.json"


def document() -> str:
    """The document of this code, as JSON that can be compared line by line; without the version, which every release changes."""
    with tempfile.TemporaryDirectory() as folder:
        found = create_app(Settings(data_dir=Path(folder))).openapi()
    found["info"]["version"] = "0"
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(document(), encoding="utf-8", newline="\n")
    print(f"wrote {SNAPSHOT}")
