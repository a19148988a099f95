"""Runs an ONNX file in onnxruntime on the CPU, with as many threads as torch has here; and checks which libraries are installed.

These libraries are separate extras, because most workers never export.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.task_rules import GRAPHS

PACKAGES: Mapping[str, tuple[str, ...]] = {"export": ("onnx", "onnxscript", "onnxruntime"), "torchao": ("torchao",)}
"""By extra, what it installs."""


def packages(formats: Sequence[ExportFormat]) -> tuple[str, ...]:
    """The libraries that decide what these files are, beside torch and transformers."""
    return tuple(package for extra in _extras(formats) for package in PACKAGES[extra])


def _extra(format: ExportFormat) -> str:
    return "export" if format in GRAPHS else "torchao"


def _extras(formats: Sequence[ExportFormat]) -> list[str]:
    return sorted(set(map(_extra, formats)))


def check_installed(formats: Sequence[ExportFormat]) -> None:
    """Raises EXPORT_UNAVAILABLE where exports are asked for and a library is missing, without importing any."""
    missing = [package for package in packages(formats) if find_spec(package) is None]
    if not missing:
        return
    extras = [extra for extra in _extras(formats) if set(PACKAGES[extra]) & set(missing)]
    without = [format for format in formats if _extra(format) in extras]
    raise SecateurError(
        ErrorCode.EXPORT_UNAVAILABLE,
        f"This worker cannot write {', '.join(without)}: {', '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not installed. Install the extra{'s' if len(extras) > 1 else ''} "
        f"(pip install 'secateur[{','.join(extras)}]'), or leave {'`exports`' if without == list(formats) else 'them'} out.",
    )


class OnnxFile:
    """Called with the model's inputs by keyword, it gives answers as a Task does, float32 with the samples first, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._name = path.name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        # Idle threads sleep: awake, they would take the cores from torch, whose turn comes next when both are timed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Raises EXPORT_FAILED where the graph does not run on these inputs."""
        try:
            found = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items())
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            detail = f"onnxruntime cannot run {self._name} on {shapes}: {reason[:300]}"
            raise SecateurError(ErrorCode.EXPORT_FAILED, detail) from error
        parts = [torch.from_numpy(each) for each in found]
        return parts[0] if len(parts) == 1 else torch.stack(parts, 1)
