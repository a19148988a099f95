"""Graphs of models whose inputs differ in length: any batch, any length, the answers of torch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import BertModel

from api_schemas.errors import ErrorCode, SecateurError
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.config.sentences import POOLINGS
from tests.unit.engine.tasks.models import bert, ctc, spell
from worker.engine.exports import graph
from worker.engine.exports.runtime import OnnxFile
from worker.engine.tasks import Task
from worker.engine.tasks.classification import Classification
from worker.engine.tasks.ctc import Ctc
from worker.engine.tasks.embedding import Embedding


def ids(samples: int, length: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(20, (samples, length)), "token_type_ids": torch.zeros(samples, length).long()}


DENSE = [({"linear.weight": torch.eye(5, 6 * 16), "linear.bias": torch.arange(5.0)}, "Tanh")]


def sound(samples: int, length: int) -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(samples, 50 * length)}


@pytest.mark.parametrize(
    ("model", "task", "make"),
    [(lambda: bert(BertModel), Embedding(POOLINGS, DENSE), ids), (ctc, Ctc(blank=0, decode=spell), sound)],
    ids=["text", "sound"],
)
def test_neither_batch_nor_length_is_fixed(monkeypatch: pytest.MonkeyPatch, model, task: Task, make) -> None:
    network = model()
    monkeypatch.setattr(graph, "for_export", lambda stock: stock)
    proto = graph.float_graph(network, task, make(1, 7), list(make(1, 7)))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    assert [value.name for value in session.get_outputs()] == list(task.outputs_called)
    for inputs in (make(3, 5), make(1, 12)):
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.no_grad():
            expected = task.outputs(network, inputs).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_graph_that_does_not_run_on_the_data_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model may do something else at other lengths, which no graph says: then its file is not handed out."""
    monkeypatch.setattr(graph, "for_export", lambda stock: stock)
    onnx.save(graph.float_graph(bert(BertModel), Embedding(), ids(1, 7)), tmp_path / "fixed.onnx")
    file = OnnxFile(tmp_path / "fixed.onnx")
    assert file(**ids(3, 7)).shape == (3, 16)
    with pytest.raises(SecateurError, match=r"cannot run fixed.onnx on input_ids \(1, 5\)") as caught:
        file(**ids(1, 5))
    assert caught.value.code is ErrorCode.EXPORT_FAILED


def test_local_attention_sees_its_window_at_lengths_that_were_not_exported() -> None:
    """The example is shorter than the window, where no mask would be needed; what is asked is longer."""
    tiny = next(each for each in MODELS if each.name == "ModernBertForSequenceClassification")
    loaded = reference.dense(
        tiny.model_spec, tiny.stock(local_attention=20, num_hidden_layers=1, layer_types=["sliding_attention"])
    )
    loaded = reference.cut_by(loaded, reference.keeps(loaded.widths)["ragged"])
    task, draw = Classification(several=False), torch.Generator().manual_seed(0)

    def texts(samples: int, length: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.randint(5, 40, (samples, length), generator=draw)}

    session = onnxruntime.InferenceSession(
        graph.float_graph(loaded, task, texts(1, 6), ["input_ids"]).SerializeToString()
    )
    for inputs in (texts(2, 3), texts(1, 30)):
        (found,) = session.run(None, {"input_ids": inputs["input_ids"].numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(found, task.outputs(loaded.model, inputs).numpy(), atol=2e-5)
    loaded.model.config.local_attention = 60
    with torch.inference_mode():
        assert np.abs(found - task.outputs(loaded.model, inputs).numpy()).max() > 1e-3
