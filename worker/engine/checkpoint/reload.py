"""Loads checkpoint folders as any user would, and reports how far the outputs are from given ones.

A server on a SOCK_SEQPACKET socket, which forks a process for every folder: torch and transformers are imported once, and each
folder is loaded by a process that has seen no other. Nothing of Secateur can be imported in it, so what loads here loads wherever
torch and transformers are installed. It is run by its path in an isolated interpreter (`python -I reload.py`, with the socket as
standard input and the folders to import from beside its own as arguments), or forked from a process that has imported nothing
else (worker/engine/warm.py).

A request is JSON: `folder`; `probe`, a safetensors file with `inputs.KEYWORD`, the model's arguments, and `answers`;
`auto_class`, one of transformers' auto classes; `names`, the names of the answers in its output; `scratch`, an empty folder;
`threads`; and, if only part of a larger model is compared, `through`, the paths of its encoder and of the modules that follow,
and `dtype`, in which the model is loaded. The reply is {"max_abs_error", "max_abs_answer", "parameters", "code"}, or {"failure":
a sentence}.
"""

import importlib.abc
import importlib.util
import json
import logging
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path += sys.argv[1:]
    # As in worker/engine/__init__.py, which is not imported here.
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)

import torch
import transformers
import transformers.dynamic_module_utils
import transformers.modeling_utils
import transformers.models.auto.modeling_auto
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

MAX_MESSAGE = 2**16
OURS = ("api_schemas", "checkpoints", "store", "service", "worker", "secateur")
HALVES = (torch.float16, torch.bfloat16)


def _module_by_path(path: Path) -> Any:
    """A module of this project that imports none of it, under a name of its own: the package stays unknown."""
    spec = importlib.util.spec_from_file_location(f"reload_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mapped = _module_by_path(Path(__file__).parents[1] / "runtime" / "mapped.py")


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end of `channel` is closed."""
    _forget_ours()
    while message := channel.recv(MAX_MESSAGE):
        child = os.fork()
        if child == 0:
            try:
                channel.send(json.dumps(_answer(json.loads(message))).encode())
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            how = os.waitstatus_to_exitcode(status)
            channel.send(json.dumps({"failure": f"the process that loads it ended with status {how}"}).encode())


class _Absent(importlib.abc.MetaPathFinder):
    """Packages that are not to be found, although they are installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.partition(".")[0] in OURS:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def _forget_ours() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Absent())


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: the reply to a request."""
    # Output of libraries must not reach the channel or the parent process.
    scratch = request["scratch"]
    os.chdir(scratch)
    os.environ.update(HOME=scratch, HF_HOME=scratch, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
    tempfile.tempdir = scratch
    # Its own module cache: code of an earlier step must not be mistaken for this one's. Read from the environment when
    # transformers was imported.
    modules = str(Path(scratch) / "modules")
    transformers.dynamic_module_utils.HF_MODULES_CACHE = modules  # type: ignore[attr-defined]
    transformers.utils.hub.HF_MODULES_CACHE = modules
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(request["threads"])
    try:
        through, dtype = request.get("through", []), request.get("dtype", "float32")
        return measure(request["folder"], request["probe"], request["auto_class"], request["names"], through, dtype)
    except BaseException as error:
        traceback.print_exc()
        return {"failure": traceback.format_exception_only(error)[-1].strip().splitlines()[-1]}


class HalvesIntoFiles(TorchFunctionMode):
    """While it is active, large tensors of half precision become float32 ones in files that are mapped into memory.

    transformers maps what a checkpoint stores in float32, and converts the rest by `Tensor.to`, all of it into memory, where a
    model of halves takes twice the bytes of its file. The numbers are the same. Only of the thread that enters it.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        said = dict(kwargs or {})
        if function == torch.Tensor.to and len(args) == 1 and type(args[0]) is torch.Tensor:
            on_cpu = str(said.pop("device", None) or "cpu") == "cpu" == args[0].device.type
            if on_cpu and said == {"dtype": torch.float32} and args[0].dtype in HALVES:
                return mapped.empty_mapped(args[0].shape, torch.float32).copy_(args[0])
        return function(*args, **(kwargs or {}))


def load(folder: str, auto_class: str, dtype: torch.dtype = torch.float32) -> tuple[Any, bool]:
    """The model in `dtype`, and whether it came with code of its own. Raises whatever transformers does, and ValueError where
    keys differ."""
    code = "auto_map" in json.loads((Path(folder) / "config.json").read_text())
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=code, local_files_only=True)
    # In this thread, one tensor after another.
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    with HalvesIntoFiles():
        model, info = getattr(transformers, auto_class).from_pretrained(
            folder,
            config=config,
            trust_remote_code=code,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
        )
    problems = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if problems:
        raise ValueError(f"the folder does not load without problems: {problems}")
    return model.eval(), code


def measure(
    folder: str, probe: str, auto_class: str, names: list[str], through: list[str], dtype: str
) -> dict[str, Any]:
    """Load `folder` as `load` does, and compare its answers.

    If part of a larger model is compared, all of it is loaded, in the dtype of its files, which are then mapped and not held in
    memory; what is compared runs in float32.
    """
    torch.use_deterministic_algorithms(True)
    tensors = load_file(probe)
    inputs = {key.removeprefix("inputs."): value for key, value in tensors.items() if key.startswith("inputs.")}
    model, code = load(folder, auto_class, getattr(torch, dtype))
    with torch.inference_mode():
        if through:
            encoder, *behind = (model.get_submodule(path).float() for path in through)
            states = encoder(**inputs).last_hidden_state
            for module in behind:
                states = module(states)
            answers = states[None]
        else:
            output = model(**inputs)
            answers = torch.stack([getattr(output, name) for name in names])
    return {
        "max_abs_error": (answers - tensors["answers"]).abs().max().item(),
        "max_abs_answer": tensors["answers"].abs().max().item(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "code": code,
    }


if __name__ == "__main__":
    serve(socket.socket(fileno=os.dup(0)))
