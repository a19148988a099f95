"""The gate every step passes before it is announced: a fresh process loads the folder and gets the engine's answers."""

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
from worker.engine.models.model_spec import on_device

TOLERANCE = 1e-5
"""Largest absolute error, as a share of max(1, largest absolute answer), float32."""
TIMEOUT_SECONDS = 600
ANSWERS = ("logits", "audio_embeds", "last_hidden_state")
"""Of a model's output, what it is compared by: the first that there is."""


def check_reload(folder: Path, model: PreTrainedModel, auto_class: str, inputs: Inputs) -> float:
    """Largest absolute difference between `model`'s answers and a fresh process's that loaded `folder` with transformers.

    Answers are what the model puts out before anything is made of it: logits, embeddings or hidden states.

    Args:
        model: loaded from `folder` as the engine loads it (rounded to the stored dtype), float32.
        auto_class: the one of transformers' that a stranger loads such a model with.
        inputs: a few real samples, each tensor (B, …).

    Raises RELOAD_MISMATCH where the folder does not load, or loads to other answers.
    """
    on_device(model, torch.device("cpu")).eval()
    with torch.inference_mode():
        output = model(**inputs)
    name = next(name for name in ANSWERS if getattr(output, name, None) is not None)
    with tempfile.TemporaryDirectory(prefix="secateur-gate-") as scratch:
        probe = Path(scratch) / "probe.safetensors"
        tensors = {f"inputs.{name}": tensor.contiguous() for name, tensor in inputs.items()}
        save_file({**tensors, "answers": getattr(output, name).clone()}, probe)
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
            [sys.executable, "-I", str(script), str(folder.absolute()), str(probe), auto_class, name],
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
    bound = TOLERANCE * max(1.0, result["max_abs_answer"])
    if not error <= bound:  # also where it is NaN
        raise SecateurError(
            ErrorCode.RELOAD_MISMATCH,
            f"A fresh process loaded the packaged checkpoint to other {name}: error {error:.3g}, bound {bound:.3g}.",
        )
    return error
