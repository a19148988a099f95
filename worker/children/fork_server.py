"""A template process: imports a module once, then forks a sandboxed child for every request (docs/adr/0020-warm-engines.md).

    python -m worker.children.fork_server MODULE CONTROL_FD

MODULE imports what its children need and has `main(arguments) -> exit status`. Importing it must start no thread and touch no
GPU, because a child of a process that has done so can hang. CONTROL_FD is a SOCK_SEQPACKET socket, whose other end
worker/children/template.py holds. A request is one message: JSON with `arguments`, `folder`, `environment` and `cage`, and four
descriptors: the child's standard input, output and error, and a socket that reports the child's process id and, when it has
ended, its exit status. The child is reaped when the other end of that socket is closed; until then its process id is not reused.

This process knows no secret and reads no input of a job. The child applies the sandbox before MODULE's `main` is called.
"""

import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.cage import Cage
from store.cage.closing import REFUSED, CageRefusedError, close

MAX_REQUEST = 2**20
DESCRIPTORS = 4


@dataclass(frozen=True)
class Request:
    """What a child is to be. `files` become its standard input, output and error."""

    arguments: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    cage: Cage
    files: tuple[int, int, int]
    status: socket.socket


def main(module_name: str, control: socket.socket) -> int:
    """Serve until the other end of `control` is closed; in a forked child, run the module. Returns the exit status."""
    module: Any = importlib.import_module(module_name)
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads != 1:
        print(
            f"{module_name} starts {threads - 1} threads when it is imported: no child can be forked", file=sys.stderr
        )
        return 1
    # What is here now stays: without this, the first collection in every child would copy all of it.
    gc.collect()
    gc.freeze()
    request = _serve(control)
    if request is None:
        return 0
    status = 1
    try:
        _become(request)
        status = module.main(list(request.arguments))
    except CageRefusedError as error:
        print(error, file=sys.stderr)
        status = REFUSED
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        _end(status)
    return status


def _serve(control: socket.socket) -> Request | None:
    """Fork a child for every request. Returns None in this process at the end, and in a child what it is to be."""
    children: dict[int, socket.socket] = {}
    told: set[int] = set()
    """Of whose end has been told."""
    released: set[int] = set()
    """Process ids that no one will signal any more and that are not reaped yet."""
    awake, alarm = socket.socketpair()
    alarm.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
    # A group is told to stop as a whole; this process ends when its parent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(awake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    message, files, _, _ = socket.recv_fds(control, MAX_REQUEST, DESCRIPTORS)
                    if not message:
                        return None
                    request = _parsed(message, files)
                    child = os.fork()
                    if child == 0:
                        return request
                    for file in request.files:
                        os.close(file)
                    children[child] = request.status
                    selector.register(request.status, selectors.EVENT_READ, child)
                elif key.fileobj is awake:
                    awake.recv(4096)
                elif isinstance(key.data, int):
                    # Nothing is ever sent here: the other end was closed, and no one will signal this child any more.
                    selector.unregister(key.fileobj)
                    children.pop(key.data).close()
                    told.discard(key.data)
                    released.add(key.data)
            told |= {child for child in children.keys() - told if _say_ended(child, children[child])}
            # One that was let go while it ran is reaped when it ends.
            released -= {child for child in released if os.waitpid(child, os.WNOHANG)[0]}


def _parsed(message: bytes, files: list[int]) -> Request:
    read = json.loads(message)
    stdin, stdout, stderr, status = files
    return Request(
        arguments=tuple(read["arguments"]),
        folder=read["folder"],
        environment=read["environment"],
        cage=Cage(**read["cage"]),
        files=(stdin, stdout, stderr),
        status=socket.socket(fileno=status),
    )


def _say(status: socket.socket, what: Mapping[str, int]) -> None:
    with suppress(OSError):  # Nobody listens any more.
        status.send(json.dumps(what).encode(), socket.MSG_DONTWAIT)


def _say_ended(child: int, status: socket.socket) -> bool:
    """Whether a child has ended, and if so tell how; it stays unreaped."""
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return False
    _say(status, {"status": ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status})
    return True


def _become(request: Request) -> None:
    """In a child: its own session, files, folder and environment, and the cage around it. The cage's report is the first line."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    # Reported from here, because the receiver may kill the group at once.
    _say(request.status, {"pid": os.getpid()})
    for standard, file in enumerate(request.files):
        os.dup2(file, standard)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    print(f"{_shared_bytes() >> 20} MiB are shared with the template process", file=sys.stderr)
    tempfile.tempdir = None  # Looked up again where it is needed: this folder for temporary files is another.
    held = close(request.cage)
    print(json.dumps({"isolation": held}), flush=True)
    print("kept apart by", ", ".join(held), file=sys.stderr, flush=True)


def _shared_bytes() -> int:
    """Of this process's memory what others map too; 0 where the kernel does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Shared_"))


def _end(status: int) -> None:
    """At once: what a normal end of the interpreter would tidy up is the template's, or goes with the process."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))))
