"""Exports of a checkpoint, checked against torch: ONNX, in float32 and in 8 bits, and torchao's 8-bit formats."""

from worker.engine.exports.export import export
from worker.engine.exports.runtime import check_installed, packages

__all__ = ["check_installed", "export", "packages"]
