"""What a template process imports once, so that every engine forked from it starts quickly (worker/children/fork_server.py).

Only torch and transformers are imported: they take most of the time, and the server of the reload gate, which is forked before
anything else is imported, must prove that a checkpoint needs no more than these.
"""

import ctypes
import importlib.util
import os
import socket
import sys
from pathlib import Path
from types import ModuleType


def _reload_module() -> ModuleType:
    """worker/engine/checkpoint/reload.py by its path, as it is run where it is a program: nothing of the engine comes with it."""
    path = Path(__file__).parent / "checkpoint" / "reload.py"
    spec = importlib.util.spec_from_file_location("reload", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_reload = _reload_module()
PR_SET_NAME = 15


def main(arguments: list[str]) -> int:
    """In a forked child: the engine, with a server for its reload gate; returns the exit status."""
    channel = _forked_server()
    _call_this_process(b"secateur-engine")
    # After the fork: the server must not have seen them.
    from worker.engine.__main__ import main as run_engine
    from worker.engine.checkpoint import gate

    gate.use_server(channel)
    return run_engine(arguments)


def _call_this_process(name: bytes) -> None:
    """In `ps` and `top`; its command line stays the template's."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)


def _forked_server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            ours.close()
            _call_this_process(b"secateur-reload")
            # Close the engine's pipes: their reader waits until no process holds them.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            _reload.serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ours
