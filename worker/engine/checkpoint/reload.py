"""Loads a checkpoint folder the way a stranger would, and prints its answers' distance to given ones as JSON.

Run by path in an isolated interpreter (`python -I reload.py FOLDER PROBE CLASS NAME`), so that nothing of Secateur can be
imported: what loads here loads wherever torch and transformers are. PROBE is a safetensors file with `inputs.KEYWORD`, what the
model is called with, and `answers`; CLASS one of transformers' auto classes, NAME what the answers are called in its output.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file


def main(folder: str, probe: str, auto_class: str, name: str) -> None:
    """Print {"max_abs_error", "max_abs_answer", "parameters", "code"}."""
    torch.use_deterministic_algorithms(True)
    tensors = load_file(probe)
    inputs = {key.removeprefix("inputs."): value for key, value in tensors.items() if key.startswith("inputs.")}
    code = "auto_map" in json.loads((Path(folder) / "config.json").read_text())
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
    model, info = getattr(transformers, auto_class).from_pretrained(
        folder,
        config=config,
        trust_remote_code=code,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    problems = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if problems:
        raise SystemExit(f"the folder does not load cleanly: {problems}")
    model.eval()
    with torch.inference_mode():
        answers = getattr(model(**inputs), name)
    result = {
        "max_abs_error": (answers - tensors["answers"]).abs().max().item(),
        "max_abs_answer": tensors["answers"].abs().max().item(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "code": code,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
