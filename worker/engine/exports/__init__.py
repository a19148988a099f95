"""Further files beside a checkpoint's safetensors, checked against torch: ONNX, whole and in eight bits, and torchao's."""

from worker.engine.exports.export import export
from worker.engine.exports.runtime import check_installed, packages

__all__ = ["check_installed", "export", "packages"]
