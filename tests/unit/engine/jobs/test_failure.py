"""What the engine says when it fails: shortages are known by any name, and wherever they stand in a chain of exceptions."""

import errno
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from api_schemas.errors import ErrorCode, SecateurError
from worker.engine.__main__ import _failure
from worker.engine.runtime.memory import shortage

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)
RUST = "Error while serializing: I/O error: No space left on device (os error 28)"


def wrapped(inner: BaseException, outer: BaseException, how: str) -> BaseException:
    """`outer` after `inner` led to it: raised from it, while it was handled, or `from None`."""
    outer.__context__ = inner
    if how == "cause":
        outer.__cause__ = inner
    outer.__suppress_context__ = how != "context"
    return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError(ALLOCATOR),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=repr,
)
def test_out_of_memory_by_any_name(error: Exception) -> None:
    assert _failure(error).code is ErrorCode.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/scratch/job/model.safetensors"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError(RUST),
        RuntimeError("write failed: No space left on device"),
    ],
    ids=repr,
)
def test_a_full_disk_by_any_name(error: Exception) -> None:
    failed = _failure(error)
    assert failed.code is ErrorCode.SCRATCH_FULL
    assert "/scratch" not in failed.detail


@pytest.mark.parametrize("how", ["cause", "context"])
def test_what_led_to_an_exception_is_the_reason(how: str) -> None:
    outer = SecateurError(ErrorCode.EXPORT_FAILED, "The graph cannot be made.")
    failed = _failure(wrapped(RuntimeError(ALLOCATOR), outer, how))
    assert failed.code is ErrorCode.OUT_OF_MEMORY
    assert "you tried to allocate 9" in failed.detail
    assert "The graph cannot be made" in str(failed.traceback)
    assert _failure(wrapped(SafetensorError(RUST), ValueError("x"), how)).code is ErrorCode.SCRATCH_FULL


def test_what_was_said_on_purpose_is_kept() -> None:
    said = SecateurError(ErrorCode.OUT_OF_MEMORY, "A batch of 4 samples at a time fits.")
    assert _failure(wrapped(MemoryError(), said, "cause")).detail == said.detail
    plain = SecateurError(ErrorCode.NUMERICAL, "Diverged.")
    assert _failure(wrapped(MemoryError(), plain, "hidden")).code is ErrorCode.NUMERICAL
    assert _failure(wrapped(ValueError("x"), plain, "context")).code is ErrorCode.NUMERICAL


def test_other_errors_stay_what_they_are() -> None:
    assert _failure(OSError(errno.ENOENT, "No such file or directory")).code is ErrorCode.ENGINE_ERROR
    assert _failure(RuntimeError("shape mismatch")).code is ErrorCode.ENGINE_ERROR
    # A message that only sounds like it: torch says these in RuntimeErrors.
    assert _failure(ValueError("not enough memory cells in the layer")).code is ErrorCode.ENGINE_ERROR


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert shortage(one) is None


def test_its_log_begins_with_what_it_is_a_part_of(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    nowhere = [text for name in ("model", "data", "spec", "out") for text in (f"--{name}", str(tmp_path / name))]
    command = [sys.executable, "-m", "worker.engine", *nowhere]
    engine = subprocess.run(command, capture_output=True, text=True, check=False)
    assert engine.returncode == 1
    assert engine.stderr.splitlines()[0].endswith("trace 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
