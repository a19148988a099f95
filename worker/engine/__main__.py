"""The engine as a program: local folders and a spec in, JSON events on stdout, step folders out.

Exit status: 0 after `finished`, 1 after `failed`. The log goes to stderr.
"""

import argparse
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from api_schemas import validation_messages
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.events import EngineEvent, Failed
from api_schemas.spec.job import EngineSpec
from worker.engine.parallel import failures, processes
from worker.engine.parallel.failures import PeerLostError
from worker.engine.parallel.processes import Member
from worker.engine.runtime.memory import shortage


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.engine", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--spec", type=Path, required=True, help="EngineSpec as JSON")
    parser.add_argument("--out", type=Path, required=True, help="where step-0, step-1, … are written")
    parser.add_argument("--cache", type=Path, help="where features are kept (default: OUT/cache)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--resume", type=int, help="go on after this step, whose folder lies in OUT")
    parser.add_argument("--training", type=Path, help="go on from this file, where it is of the step after RESUME")
    parser.add_argument(
        "--training-seconds", type=float, default=60.0, help="least seconds between two savings of a recovery"
    )
    parser.add_argument(
        "--microbatch", type=_positive, help="most samples of one pass when scoring, fine-tuning and evaluating"
    )
    parser.add_argument(
        "--processes", type=_positive, default=1, help="share the work; on cuda each has a GPU of its own (default: 1)"
    )
    parser.add_argument("--watch-stdin", action="store_true", help="exit when stdin closes: the parent is gone")
    return parser.parse_args(argv)


def _follow_parent() -> None:
    """End this process when stdin reaches its end. The engine's parent holds the other side of the pipe."""

    def wait() -> None:
        # Not sys.stdin: a thread that waits inside its lock makes the interpreter abort when it ends.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent-watch").start()


def _read_spec(path: Path) -> EngineSpec:
    try:
        return EngineSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        items = tuple(
            ErrorItem.at(*each["loc"], code=each["type"], detail=validation_messages.reason(each))
            for each in error.errors()
        )
        raise SecateurError(ErrorCode.INVALID_REQUEST, f"{path} is not a valid engine spec.", items) from error


def _failure(error: BaseException) -> Failed:
    """The event for an exception; what is not expected keeps its traceback out of the sentence.

    Memory or disk that ran out is the reason wherever it stands in the chain of exceptions, whatever was made of it later.
    """
    trace = "".join(traceback.format_exception(error))
    code, cause = shortage(error) or (None, error)
    if isinstance(error, SecateurError) and code in (None, error.code):
        return Failed(code=error.code, detail=error.detail, errors=error.errors, traceback=trace)
    if code is ErrorCode.OUT_OF_MEMORY:
        return Failed(code=code, detail=f"Out of memory: {cause}", traceback=trace)
    if code is ErrorCode.SCRATCH_FULL:
        # An OSError's own text has a path of this machine in it.
        said = cause.strerror if isinstance(cause, OSError) else cause
        return Failed(code=code, detail=f"The engine's disk is full: {said}", traceback=trace)
    return Failed(code=ErrorCode.ENGINE_ERROR, detail=f"{type(error).__name__}: {error}", traceback=trace)


def main(argv: list[str] | None = None) -> int:
    """Run the engine; returns the exit status."""
    arguments = _arguments(argv)
    # Everything is a local file. Read by these libraries when they are imported, which happens below.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    # Before anything starts a thread.
    member = processes.started(arguments.processes)
    # Events alone on stdout: a library that prints must not break the protocol.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if traceparent := os.environ.get("TRACEPARENT"):
        logging.getLogger("worker.engine").info("trace %s", traceparent)
    if arguments.watch_stdin or member.rank:
        _follow_parent()

    def emit(event: EngineEvent) -> None:
        events.write(event.model_dump_json() + "\n")

    try:
        spec = _read_spec(arguments.spec)
        # Imported late: torch takes seconds, and a spec that is wrong should not wait for it.
        from worker.engine.parallel.group import Group
        from worker.engine.run import Inputs, run

        inputs = Inputs(
            model=arguments.model,
            data=arguments.data,
            out=arguments.out,
            cache=arguments.cache or arguments.out / "cache",
            device=arguments.device,
            threads=arguments.threads,
            resume=arguments.resume,
            microbatch=arguments.microbatch,
            training=arguments.training,
            training_seconds=arguments.training_seconds,
        )
        run(inputs, spec, emit, Group(member))
    except Exception as error:
        logging.getLogger("worker.engine").exception("the engine failed")
        _say(error, member, arguments.out, emit)
        return 1
    return 0


def _say(error: Exception, member: Member, out: Path, emit: Callable[[EngineEvent], None]) -> None:
    """Of several processes the first is heard; where it fails because another has, that one's reason, if it gave any."""
    if not isinstance(error, PeerLostError):
        emit(_failure(error)) if member.rank == 0 else failures.tell(out, member.rank, _failure(error))
    elif member.rank == 0 and (reason := failures.told(out)) is not None:
        emit(reason)


if __name__ == "__main__":
    sys.exit(main())
