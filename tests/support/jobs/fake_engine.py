"""An engine that computes nothing but keeps the engine's interface: for tests of everything around it.

    python fake_engine.py BEHAVIOUR [--marker FILE] --model DIR --data DIR --spec FILE --out DIR …

Written against the interface alone (standard library only), so it also shows what an engine has to say.

    finish          steps 0, 1, 2, then `finished`
    crash           ends with status 3 after step 0
    crash-once      ends by KILL after step 1, where FILE does not exist yet; makes it
    crash-midway    like crash-once, in every attempt that did not start from a step
    fail CODE       says `failed` with CODE
    stuck           after step 0 hangs and ignores TERM, as does a child it starts (its pid is written to FILE)
    clinging        ignores TERM, as does a child it starts (pids in FILE); waits for FILE.go after step 0, hangs after step 1
    share           leaves an entry in its cache, named after the spec's seed
    silent          hangs before its first step
    slow            takes half a second more for each step
    wait            after step 0 waits for FILE
    wait-training   the same; saves a state in the recovery of step 1
    tour            as wait; every step has a report, and the model's own files: it loads
    wait-before-last  after the last step but one waits for FILE
    crash-before-1  after step 0 waits for FILE, then ends with status 3
    poison          ends with status 3 before its first step, where the spec's seed is 13
    oom N           says `failed` with out_of_memory in the recovery of step 1, with more than N samples in a pass
    training        in the recovery of step 1 saves a state, waits for FILE.go and ends by KILL, where FILE does not exist
                    yet; makes it
    training-stuck  the same, but hangs after step 1 like stuck
    training-lie L  announces a state that is none: elsewhere, missing, link, wrong-step
    training-saved  saves a state in the recovery of step 1, then finishes
    orphan          ends by KILL after step 0, leaving a child that holds its output open (its pid in FILE)
    orphan-escaped  the same, where the child cannot leave the process group either
    leftover        finishes, leaving such a child
    chatty          writes 4000 lines to standard error after every step
    nan             announces a step whose loss is not a number
    noise           prints what is no event, then finishes
    empty           announces a step whose folder is not there
    again           announces a step twice
    stopped         the last step is beyond the bound: step 1 is the result
    lost            names a step as its result that it never announced
    trespass DIR    tries what an engine must not: sockets, other processes, files in DIR; step 0 says what came of each
    fat             takes a gigabyte of memory
    crowd           starts a hundred processes
    large           writes a file of a gigabyte
    quiet           ends well without having said `finished`
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 2


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def metrics(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "requested_sparsity": 0.1 * step,
        "achieved_sparsity": 0.1 * step,
        "widths": {"head_dim": 4, "layers": [{"qk": [4, 4], "vo": [4, 4]}]},
        "size": {"attention_parameters": 100, "total_parameters": 200, "flops": 300, "file_bytes": 400},
        "validation": {"samples": 10, "cross_entropy": 0.5, "accuracy": 0.9},
    }


def result(behaviour: str) -> dict[str, Any]:
    test = {"samples": 5, "cross_entropy": 0.6, "accuracy": 0.8}
    if behaviour == "stopped":
        return {"step": 1, "stopped": "max_drop", "detail": "step 2 fell too far", "test": test}
    return {"step": 7 if behaviour == "lost" else STEPS, "stopped": None, "detail": "done", "test": test}


def trespass(folder: Path) -> dict[str, str]:
    """What came of each attempt: the name of the exception, or `done`."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: int) -> None:
        if getattr(libc, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    attempts: dict[str, Callable[[], object]] = {
        "internet socket": lambda: socket.socket(socket.AF_INET),
        "internet socket, version 6": lambda: socket.socket(socket.AF_INET6),
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "System V memory": lambda: call("shmget", 0, 4096, 0o1600),
        "System V semaphores": lambda: call("semget", 0, 1, 0o1600),
        "System V queue": lambda: call("msgget", 0, 0o1600),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "trace the parent": lambda: call("ptrace", 16, os.getppid(), 0, 0),
        "io_uring": lambda: call("syscall", 425, 1, 0),
        "user namespace": lambda: call("unshare", 0x10000000),
        "leave the session": os.setsid,
        "environment of the parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "signal to the parent": lambda: os.kill(os.getppid(), 0),
        "read outside": (folder / "secret").read_bytes,
        "write outside": lambda: (folder / "mine").write_bytes(b"x"),
        "write to the model": lambda: Path("model/config.json").write_bytes(b"{}"),
    }
    outcome = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            outcome[name] = "done"
        except OSError as error:
            outcome[name] = type(error).__name__
    return outcome


def write_step(out: Path, step: int, tour: Path | None, **more: Any) -> None:
    folder = out / f"step-{step}"
    folder.mkdir()
    seen: dict[str, Any] = {
        "argv": sys.argv,
        "environment": dict(os.environ),
        "descriptors": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        **more,
        "data": sorted(map(str, out.parent.glob("data/*"))),
        "cache": sorted(path.name for path in out.parent.glob("cache/*")),
    }
    (folder / "pruning.json").write_text(json.dumps({"step": step, "seen": seen}))
    if step > 0:
        before = out / f"step-{step - 1}"
        (folder / "model.safetensors").write_bytes((before / "pruning.json").read_bytes()[:100] * 1000)
        (folder / "figures").mkdir()
        (folder / "figures" / "widths.svg").write_text("<svg/>")
    if tour is not None:
        (folder / "report.html").write_text("<html></html>")
        for file in tour.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    say(type="step", folder=folder.name, metrics=metrics(step) | {"stock_layout": tour is not None})


def follow_parent() -> None:
    # Not sys.stdin: a thread inside its lock makes the interpreter abort at its end.
    while os.read(0, 1):
        pass
    os._exit(1)


def leave_child(marker: Path, escape: bool = False) -> None:
    if escape:
        try:
            subprocess.Popen(["sleep", "600"], start_new_session=True)
            raise AssertionError("a child left the process group")
        except PermissionError:
            print("no way out of the process group", file=sys.stderr, flush=True)
    child = subprocess.Popen(["sleep", "600"])
    marker.write_text(f"{os.getpid()} {child.pid}")


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.02)


def cling(marker: Path) -> None:
    """Ignore TERM, start a child that does so too, and say who they are."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    marker.with_suffix(".part").write_text(f"{os.getpid()} {grandchild.pid}")
    marker.with_suffix(".part").rename(marker)


def hang() -> None:
    print("nothing more will be said", file=sys.stderr, flush=True)
    while True:
        time.sleep(60)


def save_training(out: Path, step: int) -> None:
    (out / "training").mkdir()
    (out / "training" / f"step-{step}-epoch-1.safetensors").write_bytes(b"state" * 100)
    say(type="training", step=step, epoch=1, epochs=2, file=f"training/step-{step}-epoch-1.safetensors")


def lie_about_training(out: Path, kind: str) -> None:
    (out / "training").mkdir()
    (out / "state").write_bytes(b"state")
    (out / "training" / "link").symlink_to("/etc/passwd")
    file = {"elsewhere": "training/../state", "missing": "training/none", "link": "training/link"}.get(kind, "state")
    if kind == "wrong-step":
        (out / "training" / "right").write_bytes(b"state")
        file = "training/right"
    say(type="training", step=2 if kind == "wrong-step" else 1, epoch=1, epochs=2, file=file)


def spec_seed(arguments: argparse.Namespace) -> int:
    return int(json.loads(arguments.spec.read_text())["seed"])


def before_step(step: int, arguments: argparse.Namespace) -> None:
    """What the behaviour does in the recovery of `step`."""
    first_time = arguments.marker is not None and not arguments.marker.exists()
    match arguments.behaviour, step:
        case "silent", _:
            hang()
        case "clinging", 0:
            cling(arguments.marker)
        case "fat", 1:
            held = [bytes(2**20) * 2**4 for _ in range(2**6)]
            time.sleep(30 * len(held))
        case "crowd", 1:
            for _ in range(100):
                if os.fork() == 0:
                    hang()
            hang()
        case "large", 1:
            (arguments.out / "large").write_bytes(bytes(2**30))
        case "oom", 1:
            say(type="phase", phase="finetuning", step=step, steps=STEPS)
            if arguments.microbatch is None or arguments.microbatch > int(arguments.code):
                say(type="failed", code="out_of_memory", detail="The GPU is full.")
                sys.exit(1)
        case "share", 1:
            entry = arguments.cache / f"scores-{spec_seed(arguments):032x}"
            entry.mkdir(exist_ok=True)
            (entry / "manifest.json").write_text("{}")
        case ("training", 1) if first_time:
            save_training(arguments.out, step)
            wait_for(arguments.marker.with_suffix(".go"))
            arguments.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "training-lie", 1:
            lie_about_training(arguments.out, arguments.code)
        case (("training-saved" | "training-stuck" | "wait-training"), 1):
            save_training(arguments.out, step)


def after_step(step: int, arguments: argparse.Namespace) -> None:
    """What the behaviour does once `step` is written."""
    first_time = arguments.marker is not None and not arguments.marker.exists()
    match arguments.behaviour, step:
        case "crash", 0:
            print("something went wrong here", file=sys.stderr, flush=True)
            sys.exit(3)
        case ("crash-once", 1) if first_time:
            arguments.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case ("crash-midway", 1) if arguments.resume is None:
            sys.exit(3)
        case "stuck", 0:
            cling(arguments.marker)
            hang()
        case ("training-stuck", 1) if first_time:
            cling(arguments.marker)
            hang()
        case "clinging", 0:
            wait_for(arguments.marker.with_suffix(".go"))
        case "clinging", 1:
            hang()
        case (("wait" | "wait-training" | "tour"), 0):
            wait_for(arguments.marker)
        case "slow", _:
            time.sleep(1.0)
        case ("wait-before-last", _) if step == STEPS - 1:
            wait_for(arguments.marker)
        case "crash-before-1", 0:
            wait_for(arguments.marker)
            sys.exit(3)
        case (("orphan" | "orphan-escaped"), 0):
            leave_child(arguments.marker, escape=arguments.behaviour == "orphan-escaped")
            os.kill(os.getpid(), signal.SIGKILL)
        case "leftover", 2:
            leave_child(arguments.marker)
        case "chatty", _:
            for number in range(4000):
                print(f"step {step} line {number} ü", file=sys.stderr)
        case "nan", 0:
            print('{"type": "loss", "step": 1, "epoch": 1, "epochs": 1, "train_loss": NaN}', flush=True)
        case "noise", 0:
            print("a library says hello", flush=True)
        case "empty", 0:
            say(type="step", folder="step-1", metrics=metrics(1))
            sys.exit(0)
        case "again", 1:
            say(type="step", folder="step-1", metrics=metrics(1))
        case "quiet", 0:
            sys.exit(0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("code", nargs="?", default="labels_mismatch")
    parser.add_argument("--marker", type=Path)
    for name in ("--model", "--data", "--spec", "--out", "--cache"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--resume", type=int)
    parser.add_argument("--training", type=Path)
    parser.add_argument("--training-seconds", type=float, required=True)
    parser.add_argument("--microbatch", type=int)
    parser.add_argument("--watch-stdin", action="store_true")
    arguments = parser.parse_args()
    if arguments.watch_stdin:
        threading.Thread(target=follow_parent, daemon=True).start()
    spec = json.loads(arguments.spec.read_text())
    assert list(arguments.model.iterdir()), "the model folder is empty"
    assert list(arguments.data.iterdir()), "the data folder is empty"
    begin = 0 if arguments.resume is None else arguments.resume + 1
    print(f"begins at step {begin}", file=sys.stderr, flush=True)
    if arguments.training is not None:
        print(f"training of {len(arguments.training.read_bytes())} bytes", file=sys.stderr, flush=True)
    if begin:
        assert (arguments.out / f"step-{begin - 1}" / "pruning.json").exists(), "the last step was not fetched"
    say(type="started", device="cpu", threads=1, steps=STEPS, resumed_from=arguments.resume, versions={"fake": "1"})
    if arguments.behaviour == "fail":
        say(type="failed", code=arguments.code, detail="it cannot be done", traceback="secret trace")
        return 1
    if arguments.behaviour == "poison" and spec["seed"] == 13:
        print("this checkpoint kills every engine", file=sys.stderr, flush=True)
        return 3
    say(type="data", data={"samples": {"train": 8}, "labels": ["a", "b"]})
    for step in range(begin, STEPS + 1):
        say(type="phase", phase="evaluating", step=step, steps=STEPS)
        say(type="progress", phase="evaluating", step=step, steps=STEPS, done=1, total=2, fraction=step / STEPS)
        before_step(step, arguments)
        more = {"outcome": trespass(Path(arguments.code))} if arguments.behaviour == "trespass" and step == 0 else {}
        write_step(arguments.out, step, arguments.model if arguments.behaviour == "tour" else None, **more)
        print(f"step {step} is written", file=sys.stderr, flush=True)
        after_step(step, arguments)
    say(type="finished", steps=STEPS, result=result(arguments.behaviour))
    return 0


if __name__ == "__main__":
    sys.exit(main())
