"""Loads a checkpoint folder the way a stranger would, and prints its logits' distance to given ones as JSON.

Run by path in an isolated interpreter (`python -I reload.py FOLDER PROBE`), so that nothing of Secateur can be imported:
what loads here loads wherever torch and transformers are. PROBE is a safetensors file with `inputs.KEYWORD`, what the model is
called with, and `logits`.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForAudioClassification


def main(folder: str, probe: str) -> None:
    """Print {"max_abs_error", "max_abs_logit", "parameters", "code"}."""
    torch.use_deterministic_algorithms(True)
    tensors = load_file(probe)
    inputs = {name.removeprefix("inputs."): tensor for name, tensor in tensors.items() if name.startswith("inputs.")}
    code = "auto_map" in json.loads((Path(folder) / "config.json").read_text())
    config = AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
    model, info = AutoModelForAudioClassification.from_pretrained(
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
        logits = model(**inputs).logits
    result = {
        "max_abs_error": (logits - tensors["logits"]).abs().max().item(),
        "max_abs_logit": tensors["logits"].abs().max().item(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "code": code,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
