"""Folders that are made once and found again: keyed by what they are made from, and complete or absent."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any


def cached(
    root: Path,
    name: str,
    parameters: Any,
    sources: Sequence[ModuleType],
    make: Callable[[Path], None],
    depends: str = "",
) -> Path:
    """The folder `root/<name>-<key>`, made by `make(folder)` where it does not exist yet.

    The key is a hash of `parameters` (a dataclass), of the source text of the modules `sources`, and of `depends` (the key of
    what it is made from, say). Several processes may ask at once: one makes it, the others wait.
    """
    digest = hashlib.sha256(json.dumps(asdict(parameters), sort_keys=True).encode())
    for source in sources:
        digest.update(Path(str(source.__file__)).read_bytes())
    digest.update(depends.encode())
    folder = root / f"{name}-{digest.hexdigest()[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            # Made under another name, so that a folder that was not finished is never taken for one that was.
            partial = root / f".{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.replace(folder)
    return folder
