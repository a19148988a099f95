"""Folders loaded as somebody does who has transformers and nothing else: in one fresh, isolated process for all of them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from worker.engine.data.split import Inputs


@dataclass(frozen=True)
class Packaged:
    """A folder that a stranger is to load, and what he should get."""

    folder: Path
    auto_class: str
    inputs: Inputs
    expected: Tensor


STRANGER = """
import json, sys
import torch, transformers
from safetensors.torch import load_file
torch.set_num_threads(1)
for line in sys.stdin.read().splitlines():
    folder, auto_class = json.loads(line)
    probe = load_file(folder + "/probe.safetensors")
    expected = probe.pop("expected")
    code = "auto_map" in json.load(open(folder + "/config.json"))
    try:
        model, info = getattr(transformers, auto_class).from_pretrained(
            folder, trust_remote_code=code, local_files_only=True, dtype=torch.float32, output_loading_info=True)
        problems = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
        with torch.inference_mode():
            output = model.eval()(**probe)
        if "start_logits" in output:
            found = torch.stack([output["start_logits"], output["end_logits"]], 1)
        else:
            names = ("logits", "audio_embeds", "text_embeds", "last_hidden_state", "projected_states")
            found = next(output[name] for name in names if name in output)
        error = (found - expected).abs().max().item() / max(1.0, expected.abs().max().item())
        result = {"error": error, "problems": problems, "code": code}
        if model.can_generate():
            tokens = model.generate(probe[model.main_input_name], max_new_tokens=12, do_sample=False)
            result["written"] = tokens.tolist()
    except Exception as error:
        result = {"error": None, "problems": repr(error), "code": code}
    print(json.dumps([folder, result]))
"""


def load_in_fresh_process(packages: Sequence[Packaged], scratch: Path) -> Mapping[str, dict[str, Any]]:
    """One fresh, isolated process loads every folder with transformers alone.

    By folder: its `error` as reference.distance has it, whether it took `code`, and what was `written` by what writes.
    """
    for package in packages:
        probe = {**package.inputs, "expected": package.expected}
        save_file({name: tensor.contiguous() for name, tensor in probe.items()}, package.folder / "probe.safetensors")
    run = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER],
        input="\n".join(json.dumps([str(package.folder), package.auto_class]) for package in packages),
        env={"HOME": str(scratch), "HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    results = dict(json.loads(line) for line in run.stdout.splitlines() if line.startswith("["))
    for package in packages:
        found = results[str(package.folder)]
        assert not found["problems"], (package.folder.name, found)
        assert found["error"] <= 1e-5, (package.folder.name, found)
    return results
