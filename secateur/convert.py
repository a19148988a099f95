"""`secateur convert`: converts weights that the service does not accept to safetensors, locally, in a sandboxed process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from secateur.errors import InvalidRequest, MissingDependency
from secateur.local_server import installed

MAX_FILE_BYTES = 2**40


@dataclass(frozen=True)
class Converted:
    """A folder with a checkpoint that can be sent."""

    out: Path
    architecture: str
    warnings: tuple[str, ...]


def convert(folder: Path, out: Path | None = None, base: Path | None = None) -> Converted:
    """Write the checkpoint in `folder` to `out` as safetensors, with copies of what makes its inputs.

    Pickles are read for tensors alone, in a process without network that sees the folders and nothing else of its user's (Linux;
    elsewhere by torch's own restriction alone).

    Args:
        folder: with pytorch_model.bin, or with a LoRA adapter of peft.
        out: empty or new. Default: beside `folder`, its name with `-safetensors`.
        base: of an adapter, the folder of its model.

    Raises MissingDependency without the engine, InvalidRequest where the folder holds nothing of the kind.
    """
    if (lacking := installed.not_installed(installed.ENGINE, "server,worker")) is not None:
        raise MissingDependency(f"This needs the engine. {lacking}", code="missing_dependency")
    folder = folder.resolve()
    out = (out or folder.with_name(f"{folder.name}-safetensors")).resolve()
    if base is None and (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise InvalidRequest(f"{folder} is an adapter. Give the folder of its base model: --base FOLDER.", code="usage")
    if out.exists() and any(out.iterdir()):
        raise InvalidRequest(f"{out} is not empty. Give an empty or new output folder.", code="invalid_request")
    out.mkdir(parents=True, exist_ok=True)
    given = [folder, out, *([] if base is None else [base.resolve()])]
    command = [sys.executable, "-m", "worker.engine.convert", *map(str, given)]
    cage = {
        "write": [str(out)],
        "read": [str(path) for path in given if path != out],
        "file_bytes": MAX_FILE_BYTES,
        "strict": True,
    }
    if sys.platform == "linux":
        command = [sys.executable, "-m", "store.cage", json.dumps(cage), *command]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(out),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
    }
    done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    try:
        said = json.loads(lines[-1])
        failure = said.get("failure")
    except (IndexError, ValueError):
        said, failure = (
            {},
            f"The conversion process exited with status {done.returncode}: {done.stderr.strip()[-500:]}",
        )
    if failure is None and "name" not in said:
        failure = f"The conversion process exited with status {done.returncode}: {done.stderr.strip()[-500:]}"
    if failure is not None:
        raise InvalidRequest(str(failure), code=said.get("code", "config_invalid"))
    return Converted(out, said["name"], tuple(said["warnings"]))
