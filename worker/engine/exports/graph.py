"""Converts a model in memory to ONNX graphs: float32 as it is, and the same with 8-bit weights."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs, map_tensors
from worker.engine.exports.attention import for_export
from worker.engine.tasks import Task

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
"""The first opset with Gelu; onnxruntime reads it from 1.17 on."""


class _Answers(nn.Module):
    """The model as a function of tensors to tensors; transformers' output object is no part of a graph."""

    def __init__(self, model: PreTrainedModel, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return self.task.parts(self.model, inputs)


def float_graph(loaded: LoadedModel, task: Task, example: Inputs, lengths: Collection[str] = ()) -> "ModelProto":
    """The model's inputs by keyword -> its answers, float32, called as `task` has it; any batch size, the rest as in `example`.

    Inputs named in `lengths` may be of any length, the same for all of them.

    The same model gives the same bytes: what the exporter notes of its own way (source files, their folders, their lines) is
    taken out.
    """
    # Two rows: the exporter takes a size of one for a constant.
    rows = map_tensors(example, lambda tensor: tensor[:1].expand(2, *tensor.shape[1:]).contiguous())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    sizes = {name: {0: batch, 1: length} if name in lengths else {0: batch} for name in rows}
    with torch.no_grad():
        # Not the exporter by tracing, which is faster: it wrote the example's batch size into graphs of unequal heads, silently.
        program = torch.onnx.export(
            _Answers(for_export(loaded), task).eval(),
            # A mapping that comes last is taken for keywords.
            (rows, {}),
            input_names=list(rows),
            output_names=list(task.outputs_called),
            dynamic_shapes={"inputs": sizes},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto: ModelProto = program.model_proto
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    # Shapes of inner values: every runtime finds them itself, and some of the exporter's confuse the quantizer.
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    return proto


def write_int8(proto: "ModelProto", path: Path) -> None:
    """Dynamic quantization: weights in eight bits with a scale for every output channel, activations rounded as they come.

    Seven of the eight bits are used: without VNNI instructions x86 adds two products of eight bits in sixteen, which
    overflows, and the file would answer differently from machine to machine. The patch embedding, a convolution, stays
    float32: hardly any bytes, and the spectrogram's range is wide.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It logs advice about its own preprocessing, once a layer.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(level)
