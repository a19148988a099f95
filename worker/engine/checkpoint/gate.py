"""The gate every step passes before it is announced: a fresh process loads the folder and gets the engine's logits."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from api_schemas.errors import ErrorCode, SecateurError
from worker.engine.data.split import Inputs
from worker.engine.models import on_device

TOLERANCE = 1e-5
"""Largest absolute error, as a share of max(1, largest absolute logit), float32."""
TIMEOUT_SECONDS = 600


def check_reload(folder: Path, model: PreTrainedModel, inputs: Inputs) -> float:
    """Largest absolute difference between `model`'s logits and a fresh process's that loaded `folder` with transformers.

    Args:
        model: loaded from `folder` as the engine loads it (rounded to the stored dtype), float32.
        inputs: a few real samples, each tensor (B, …).

    Raises RELOAD_MISMATCH where the folder does not load, or loads to other logits.
    """
    on_device(model, torch.device("cpu")).eval()
    with torch.inference_mode():
        logits = model(**inputs).logits
    with tempfile.TemporaryDirectory(prefix="secateur-gate-") as scratch:
        probe = Path(scratch) / "probe.safetensors"
        tensors = {f"inputs.{name}": tensor.contiguous() for name, tensor in inputs.items()}
        save_file({**tensors, "logits": logits.clone()}, probe)
        # Its own module cache: code of an earlier step must not be mistaken for this one's.
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": scratch,
            "HF_HOME": scratch,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "CUDA_VISIBLE_DEVICES": "",
        }
        script = Path(__file__).with_name("reload.py")
        run = subprocess.run(
            [sys.executable, "-I", str(script), str(folder), str(probe)],
            env=environment,
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["no message"]
        raise SecateurError(
            ErrorCode.RELOAD_MISMATCH, f"A fresh process could not load the packaged checkpoint: {last[0]}"
        )
    result = json.loads(run.stdout.strip().splitlines()[-1])
    error: float = result["max_abs_error"]
    bound = TOLERANCE * max(1.0, result["max_abs_logit"])
    if not error <= bound:  # also where it is NaN
        raise SecateurError(
            ErrorCode.RELOAD_MISMATCH,
            f"A fresh process loaded the packaged checkpoint to other logits: error {error:.3g}, bound {bound:.3g}.",
        )
    return error
