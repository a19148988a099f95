"""Runs of a benchmark side by side, before and after a change: a page for people, and beside it their JSON."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def keep(path: Path, label: str, found: Mapping[str, Any], page: Callable[[Any], str]) -> None:
    """Write the page at `path` anew, with this run under its label and the runs of other labels as they were."""
    kept = path.with_suffix(".json")
    runs = json.loads(kept.read_text()) if kept.exists() else {}
    runs[label] = found
    kept.write_text(json.dumps(runs, indent=1) + "\n")
    path.write_text(page(runs))
