"""An ONNX file as onnxruntime runs it on the CPU, with as many threads as torch has here."""

from pathlib import Path

import torch
from torch import Tensor


class OnnxFile:
    """Called with the model's inputs by keyword, it gives its answers, float32 with the samples first; all on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        # Idle threads sleep: awake, they would take the cores from torch, whose turn comes next when both are timed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Tensor) -> Tensor:
        (answers,) = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(answers)
