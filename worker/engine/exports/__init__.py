"""Files beside a checkpoint's safetensors that need no torch: ONNX, whole and in eight bits, checked against torch."""

from worker.engine.exports.export import FILES, export
from worker.engine.exports.runtime import check_installed

__all__ = ["FILES", "check_installed", "export"]
