"""The gates of a job: the original must give the same outputs as in stock transformers, and so must every step in a fresh
process."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.describe import DTYPE_NAMES, named_tensors
from checkpoints.families import Part
from worker.engine.checkpoint.load import LoadedModel, load_stock
from worker.engine.data.split import Inputs
from worker.engine.models.model_spec import move_model

TOLERANCE = 1e-5
"""Largest absolute error, as a share of max(1, largest absolute answer), float32."""
TIMEOUT_SECONDS = 600
ANSWERS = (
    ("logits",),
    ("audio_embeds",),
    ("text_embeds",),
    ("last_hidden_state",),
    ("projected_states",),
    ("start_logits", "end_logits"),
)
"""Of a model's output, what it is compared by: the first that there is."""
_MAX_MESSAGE = 2**16

_channel: socket.socket | None = None
"""To this process's server of worker/engine/checkpoint/reload.py."""


def use_server(channel: socket.socket) -> None:
    """Ask the server at the other end from now on."""
    global _channel
    _channel = channel


def start_server() -> None:
    """Begin to import what the first check needs, where that has not begun; returns at once."""
    if _channel is not None:
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("reload.py")), *_torchao()],
            env={
                "PATH": os.environ.get("PATH", ""),
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
        )
    use_server(ours)


def _torchao() -> list[str]:
    """The folder where torchao lies, if anywhere: one named by PYTHONPATH an isolated interpreter does not see by itself."""
    found = find_spec("torchao")
    return [] if found is None or found.origin is None else [str(Path(found.origin).parents[1])]


def check_original(folder: Path, loaded: LoadedModel, inputs: Inputs) -> None:
    """The engine's model of a folder that was uploaded answers as the class of transformers does that is loaded from it.

    Args:
        loaded: of that folder, with nothing cut.
        inputs: a few real samples, each tensor (B, …).

    Raises ORIGINAL_MISMATCH: a file holds something that is read in two ways, and nothing that is cut from it could be trusted.
    """
    stock = load_stock(folder, loaded.model_spec).eval()
    stock.set_attn_implementation(loaded.model.config._attn_implementation)
    names, answers = _answers(loaded.model, inputs)
    _, expected = _answers(stock, inputs)
    if not (torch.isfinite(answers).all() or torch.isfinite(expected).all()):
        return  # Neither answers with numbers: that is no matter of reading, and is told as what it is once they are scored.
    error = (answers - expected).abs().max().item()
    bound = TOLERANCE * max(1.0, expected.abs().max().item())
    if not error <= bound:  # also where it is NaN
        detail = (
            f"The engine's model of this checkpoint gives other outputs than transformers: {' and '.join(names)} "
            f"differ by {error:.3g}, and the tolerance is {bound:.3g}. Load it with transformers, save it with "
            "save_pretrained, and upload the result."
        )
        raise SecateurError(ErrorCode.ORIGINAL_MISMATCH, detail)


def _answers(model: PreTrainedModel, inputs: Inputs) -> tuple[tuple[str, ...], Tensor]:
    """What a model says of inputs, on the CPU, one part after another, and what these are called in its output."""
    move_model(model, torch.device("cpu")).eval()
    with torch.inference_mode():
        output = model(**inputs)
    names = next(names for names in ANSWERS if getattr(output, names[0], None) is not None)
    return names, torch.stack([getattr(output, name) for name in names])


def check_reload(
    folder: Path, model: PreTrainedModel, auto_class: str, inputs: Inputs, part: Part | None = None
) -> float:
    """Largest absolute difference between `model`'s answers and a fresh process's that loaded `folder` with transformers.

    Answers are what the model puts out before anything is made of it: logits, embeddings or hidden states.

    Args:
        model: loaded from `folder` as the engine loads it (rounded to the stored dtype), float32.
        auto_class: the transformers auto class with which users load such a model.
        inputs: a few real samples, each tensor (B, …).
        part: what `model` is of the folder's, where that is larger. All of that is loaded, and the part compared.

    Raises RELOAD_MISMATCH where the folder does not load, or loads to other answers.
    """
    error, largest, names, _ = reload_error(folder, model, auto_class, inputs, part)
    bound = TOLERANCE * max(1.0, largest)
    if not error <= bound:  # also where it is NaN
        raise SecateurError(
            ErrorCode.RELOAD_MISMATCH,
            f"A fresh process that loaded the packaged checkpoint got different {' and '.join(names)}: error "
            f"{error:.3g}, tolerance {bound:.3g}.",
        )
    return error


def reload_error(
    folder: Path, model: PreTrainedModel, auto_class: str, inputs: Inputs, part: Part | None = None
) -> tuple[float, float, tuple[str, ...], Tensor]:
    """As check_reload, and nothing is judged: the difference, the largest absolute answer, what answers are called, `model`'s.

    Raises RELOAD_MISMATCH where the folder does not load.
    """
    names, answers = _answers(model, inputs)
    with tempfile.TemporaryDirectory(prefix="secateur-gate-") as scratch:
        probe = Path(scratch) / "probe.safetensors"
        tensors = {f"inputs.{name}": tensor.contiguous() for name, tensor in inputs.items()}
        save_file({**tensors, "answers": answers.clone()}, probe)
        result = _ask(
            {
                "folder": str(folder.absolute()),
                "probe": str(probe),
                "auto_class": auto_class,
                "names": names,
                "scratch": scratch,
                "threads": torch.get_num_threads(),
                **(
                    {}
                    if part is None
                    else {"through": [part.encoder, part.projection], "dtype": stored_as(folder, part)}
                ),
            }
        )
    if "failure" in result:
        raise SecateurError(
            ErrorCode.RELOAD_MISMATCH, f"A fresh process could not load the packaged checkpoint: {result['failure']}"
        )
    return result["max_abs_error"], result["max_abs_answer"], names, answers


def stored_as(folder: Path, part: Part) -> str:
    """What a larger model is loaded as, so that neither the part is rounded nor the rest converted, where all is of one dtype."""
    found = {tensor.info.dtype for name, tensor in named_tensors(folder).items() if part.holds(name)}
    return DTYPE_NAMES.get(found.pop(), "float32") if len(found) == 1 else "float32"


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    """The server's reply; its own end, or its silence, is a failure as well, and the next check starts another."""
    global _channel
    start_server()
    assert _channel is not None
    try:
        _channel.settimeout(TIMEOUT_SECONDS)
        _channel.send(json.dumps(request).encode())
        reply = _channel.recv(_MAX_MESSAGE)
    except TimeoutError:
        reply, failure = b"", f"it took longer than {TIMEOUT_SECONDS} seconds"
    except OSError as error:
        reply, failure = b"", str(error)
    else:
        failure = "it ended without a result"
    if not reply:
        _channel.close()
        _channel = None
        return {"failure": failure}
    answer: dict[str, Any] = json.loads(reply)
    return answer
