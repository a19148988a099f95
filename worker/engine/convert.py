"""`python -m worker.engine.convert FOLDER OUT [BASE]`: converts a checkpoint of pickles, or an adapter and its model, to
safetensors.

`secateur convert` starts it in a sandbox, because its input is untrusted. Its last line of output is JSON: what OUT contains
(`name`, `warnings`), or why it failed (`failure`).
"""

import json
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.describe import describe_folder
from checkpoints.file_names import PICKLES, checkpoint_names, names_in
from checkpoints.files.shards import SHARD_NAME, WEIGHTS_NAME
from worker.engine.adapters import adapted


def convert(folder: Path, out: Path, base: Path | None) -> dict[str, Any]:
    """Write the checkpoint to `out`, an empty folder. Raises SecateurError where it is none."""
    if base is None:
        save(weights_of(folder), out)
        copy_beside(folder, out)
    else:
        config, tensors = adapted(folder, base, weights_of(base))
        save(tensors, out)
        copy_beside(base, out)
        copy_beside(folder, out)
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    found = describe_folder(out)
    return {"name": found.name, "warnings": [warning.detail for warning in found.warnings]}


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, by its name there. Raises CONFIG_INVALID or FILE_MISSING."""
    names = sorted(path.name for path in folder.iterdir())
    found: dict[str, Tensor] = {}
    for name in [WEIGHTS_NAME] if WEIGHTS_NAME in names else filter(SHARD_NAME.fullmatch, names):
        found |= load_file(folder / name)
    return found or pickled(folder)


def pickled(folder: Path) -> dict[str, Tensor]:
    """The tensors of every pickle of weights in the folder; nothing but tensors is read. Raises CONFIG_INVALID."""
    found: dict[str, Tensor] = {}
    for path in sorted(path for path in folder.iterdir() if PICKLES.fullmatch(path.name)):
        try:
            read = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            detail = f"{path.name} contains more than weights, which could run code, or is damaged: {reason}"
            raise SecateurError(ErrorCode.CONFIG_INVALID, detail) from None
        if isinstance(read, Mapping) and isinstance(read.get("state_dict"), Mapping):
            read = read["state_dict"]
        if not isinstance(read, Mapping) or not all(isinstance(tensor, Tensor) for tensor in read.values()):
            raise SecateurError(ErrorCode.CONFIG_INVALID, f"{path.name} contains no named tensors.")
        found |= {str(name): tensor for name, tensor in read.items()}
    if not found:
        raise SecateurError(
            ErrorCode.FILE_MISSING, f"{folder} has no pickle file of weights, such as pytorch_model.bin."
        )
    return found


def save(tensors: Mapping[str, Tensor], out: Path) -> None:
    """One file. A copy each: a safetensors file holds no two names for one storage."""
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(whole, out / WEIGHTS_NAME, metadata={"format": "pt"})


def copy_beside(folder: Path, out: Path) -> None:
    """Config, and what makes inputs: of the files that a checkpoint may have, all but weights."""
    for name in checkpoint_names(names_in(folder)):
        if not name.startswith("model"):
            (out / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, out / name)


def main() -> None:
    """The command."""
    folder, out, *base = map(Path, sys.argv[1:])
    try:
        said = convert(folder, out, base[0] if base else None)
    except SecateurError as error:
        said = {"failure": error.detail, "code": error.code.value}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
