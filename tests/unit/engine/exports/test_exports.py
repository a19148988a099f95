"""Exported files: they run without torch, give torch's logits in every layout, and are measured for what they are."""

import copy
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from sklearn.metrics import accuracy_score

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.events import Warned
from api_schemas.spec.job import EngineSpec, Evaluate
from tests.unit.engine.small import CLASSES, FRAMES, MELS, inputs, small_model, small_shape
from worker.engine.data import FeatureSplit
from worker.engine.exports import check_installed, export, runtime
from worker.engine.exports.attention import for_export, head_groups
from worker.engine.exports.compare import check_samples
from worker.engine.pruning.selection import KeptHead, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.run import Inputs, run
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Classification

SETTINGS = Evaluate(latency_batch_sizes=(1, 3), latency_runs=5, latency_seconds=0)
ONE, SEVERAL = Classification(several=False), Classification(several=True)
BOTH = (ExportFormat.ONNX, ExportFormat.ONNX_INT8)


def head(number, qk, vo):
    return KeptHead(number, tuple(range(qk)), tuple(range(vo)))


LAYOUTS = {
    # Every head of its own width, a layer without heads, and a layer whose QK and VO differ.
    "ragged": (
        (head(0, 5, 3), head(1, 2, 8), head(2, 7, 1), head(3, 1, 2)),
        (),
        (head(1, 6, 3), head(3, 6, 3)),
    ),
    "stock": (tuple(head(h, 5, 5) for h in (0, 1, 3)),) * 3,
}


def smaller(keep):
    """The small random model, cut to these heads and channels."""
    original = small_model()
    model = cut(original.model, original.model_spec, original.widths, keep)
    return replace(original, model=model, widths=widths_of(keep, original.widths))


def split_of(samples, model):
    """Random features; four targets in five are the model's own answers."""
    x = inputs(samples)
    with torch.no_grad():
        targets = model(x).logits.argmax(-1)
    targets[::5] = (targets[::5] + 1) % CLASSES
    return FeatureSplit({"input_values": x.numpy()}, targets)


def exported(folder, loaded, split, formats=BOTH, said=None):
    reporter = Reporter([].append if said is None else said.append, 1, {})
    return export(
        folder,
        loaded,
        formats,
        split,
        settings=SETTINGS,
        task=ONE,
        shape=small_shape(),
        reporter=reporter,
    )


@pytest.fixture(scope="module", params=LAYOUTS)
def case(request, tmp_path_factory):
    """(folder, what was exported, samples, metrics, events) of an export in both formats."""
    folder = tmp_path_factory.mktemp(request.param)
    loaded = smaller(LAYOUTS[request.param])
    split = split_of(40, loaded.model)
    said: list = []
    return folder, loaded, split, exported(folder, loaded, split, said=said), said


ALONE = """
import json, sys
import numpy, onnxruntime
out = {}
for name in ("model.onnx", "model.int8.onnx"):
    session = onnxruntime.InferenceSession(name)
    out[name] = [session.run(["logits"], {"input_values": batch})[0].tolist() for batch in numpy.load("x.npz").values()]
print(json.dumps({"logits": out, "modules": sorted(sys.modules)}))
"""


def test_onnxruntime_alone_gives_torchs_logits_at_any_batch_size(case):
    folder, loaded, split, metrics, _ = case
    batches = [split.inputs["input_values"][:1], split.inputs["input_values"][1:6], split.inputs["input_values"][6:8]]
    np.savez(folder / "x.npz", *batches)
    ran = subprocess.run([sys.executable, "-I", "-c", ALONE], cwd=folder, capture_output=True, text=True, check=True)
    (folder / "x.npz").unlink()
    result = json.loads(ran.stdout)
    assert not {"torch", "transformers", "worker", "api_schemas"} & {name.split(".")[0] for name in result["modules"]}
    for number, batch in enumerate(batches):
        with torch.no_grad():
            expected = loaded.model(torch.from_numpy(batch)).logits.numpy()
        np.testing.assert_allclose(result["logits"]["model.onnx"][number], expected, atol=2e-5)
        error = np.abs(np.array(result["logits"]["model.int8.onnx"][number]) - expected).max()
        assert 1e-4 < error <= metrics[1].max_abs_error + 1e-6


def test_what_is_measured_is_what_the_files_do(case):
    folder, loaded, split, metrics, said = case
    with torch.no_grad():
        logits = loaded.model(torch.from_numpy(split.inputs["input_values"])).logits
    whole, eight_bits = metrics
    assert [row.format for row in metrics] == list(BOTH)
    for row in metrics:
        assert row.file_bytes == (folder / row.file).stat().st_size
        assert row.samples == row.scores.samples == 40
        assert [(time.batch_size, time.runs) for time in row.latency] == [(1, 5), (3, 5)]
        assert all(time.paired is not None for time in row.latency)
        assert all(time.p50_ms > 0 and time.dense_p50_ms > 0 for time in row.latency)
        # One run of torch, beside which both are timed.
        assert [time.dense_p50_ms for time in row.latency] == [time.dense_p50_ms for time in whole.latency]
    assert 0 < whole.max_abs_error < 2e-5
    assert whole.agreement == 1
    assert whole.scores.accuracy == pytest.approx(accuracy_score(split.targets, logits.argmax(-1)))
    assert eight_bits.max_abs_error > 100 * whole.max_abs_error
    assert eight_bits.agreement >= 0.9
    assert not any(isinstance(event, Warned) for event in said)
    assert sorted(path.name for path in folder.iterdir()) == ["model.int8.onnx", "model.onnx"]


def test_the_file_stands_alone_and_says_nothing_of_the_machine(case):
    folder, *_ = case
    for name in ("model.onnx", "model.int8.onnx"):
        proto = onnx.load(folder / name)
        onnx.checker.check_model(proto)
        assert not any(tensor.external_data for tensor in proto.graph.initializer)
        ends = [(value.name, value.type.tensor_type) for value in (*proto.graph.input, *proto.graph.output)]
        shapes = {name: [dim.dim_param or dim.dim_value for dim in kind.shape.dim] for name, kind in ends}
        assert shapes == {"input_values": ["batch", FRAMES, MELS], "logits": ["batch", CLASSES]}
        assert all(kind.elem_type == onnx.TensorProto.FLOAT for _, kind in ends)
        content = (folder / name).read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content


def test_weights_of_every_linear_layer_have_eight_bits_and_a_scale_a_channel(case):
    folder, loaded, *_ = case
    tensors = {tensor.name: tensor for tensor in onnx.load(folder / "model.int8.onnx").graph.initializer}
    kept = [
        module for module in loaded.model.modules() if isinstance(module, torch.nn.Linear) and module.weight.numel()
    ]
    rounded = [tensor for name, tensor in tensors.items() if name.endswith("_quantized")]
    assert len(rounded) == len(kept)
    for tensor in rounded:
        assert tensor.data_type == onnx.TensorProto.INT8
        # Seven of eight bits: what is safe without VNNI.
        assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() <= 64
        scale = tensors[tensor.name.replace("_quantized", "_scale")]
        assert list(scale.dims) == [tensor.dims[1]]


@pytest.mark.parametrize("seed", range(4))
def test_attention_by_groups_is_the_models_own(seed):
    """Random widths: heads missing, in any order of width, QK and VO apart."""
    random = np.random.default_rng(seed)
    keep = tuple(tuple(head(h, *random.integers(1, 9, 2)) for h in range(4) if random.random() < 0.8) for _ in range(3))
    loaded = smaller(keep)
    x = inputs(3)
    with torch.no_grad():
        torch.testing.assert_close(for_export(loaded)(x).logits, loaded.model(x).logits, atol=1e-5, rtol=1e-5)
    assert loaded.model.get_submodule("audio_spectrogram_transformer.layers.0.attention.q_proj") is not None


def test_groups_of_heads():
    assert head_groups([], []) == []
    assert head_groups([8] * 6, [5] * 6) == [(0, 1, 2, 3, 4, 5)]
    assert head_groups([30, 4, 31, 4], [30, 4, 29, 4]) == [(0, 2), (1, 3)]
    random = np.random.default_rng(0)
    for _ in range(20):
        qk, vo = (random.integers(1, 65, 12).tolist() for _ in range(2))
        groups = head_groups(qk, vo)
        assert sorted(h for group in groups for h in group) == list(range(12))
        assert len(groups) < 12
        padded = sum(len(group) * (max(qk[h] for h in group) + max(vo[h] for h in group)) for group in groups)
        assert padded <= 1.25 * (sum(qk) + sum(vo))


@pytest.fixture
def graph_of(case, monkeypatch):
    """Spares the exporter its seconds: it gives this graph, as read from the file that it has written before."""
    proto = onnx.load(case[0] / "model.onnx")
    module = sys.modules[export.__module__]
    monkeypatch.setattr(module, "float_graph", lambda *_: proto)
    return proto


@pytest.mark.usefixtures("graph_of")
def test_eight_bits_alone_leave_no_other_file(case, tmp_path):
    folder, loaded, split, metrics, _ = case
    (row,) = exported(tmp_path, loaded, split, [ExportFormat.ONNX_INT8])
    assert row.model_dump(exclude={"latency"}) == metrics[1].model_dump(exclude={"latency"})
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.onnx"]
    assert (tmp_path / "model.int8.onnx").read_bytes() == (folder / "model.int8.onnx").read_bytes()


@pytest.mark.parametrize("formats", [[ExportFormat.ONNX], [ExportFormat.ONNX_INT8]])
def test_a_graph_with_other_logits_is_refused(case, graph_of, tmp_path, formats):
    """Also where only the graph that is made from it was asked for."""
    _, loaded, split, *_ = case
    bias = loaded.model.classifier.dense.bias.detach().numpy()
    set_tensor(graph_of, "model.classifier.dense.bias", bias + np.float32(1e-3))
    with pytest.raises(SecateurError, match=r"error 0\.001") as raised:
        exported(tmp_path, loaded, split, formats)
    assert raised.value.code is ErrorCode.EXPORT_FAILED


def test_a_graph_that_cannot_be_made_is_said_so(tmp_path):
    loaded = smaller(LAYOUTS["stock"])
    # A path that depends on the values is no graph.
    loaded.model.classifier.dense.forward = lambda states: states if states.sum() > 0 else -states
    with pytest.raises(SecateurError, match=r"^The ONNX graph cannot be created: ") as raised:
        exported(tmp_path, loaded, split_of(9, small_model().model), [ExportFormat.ONNX])
    assert "data-dependent" in raised.value.detail
    assert raised.value.detail.isprintable()
    assert raised.value.code is ErrorCode.EXPORT_FAILED


def set_tensor(proto, name, values):
    (tensor,) = [tensor for tensor in proto.graph.initializer if tensor.name == name]
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))


def test_a_model_that_eight_bits_cannot_hold_is_warned_of(case, graph_of, tmp_path):
    """Classes told apart by less than a rounding step of the weights they share."""
    _, exported_before, *_ = case
    loaded = replace(exported_before, model=copy.deepcopy(exported_before.model))
    dense = loaded.model.classifier.dense
    torch.manual_seed(1)
    with torch.no_grad():
        dense.weight.copy_(dense.weight[:1] + 1e-4 * torch.randn(dense.weight.shape))
        dense.bias.zero_()
    for name, values in dense.state_dict().items():
        set_tensor(graph_of, f"model.classifier.dense.{name}", values.numpy())
    said: list = []
    (row,) = exported(tmp_path, loaded, split_of(40, loaded.model), [ExportFormat.ONNX_INT8], said)
    assert row.agreement < 0.9
    (warning,) = [event for event in said if isinstance(event, Warned)]
    assert warning.code == "export_disagrees"
    assert f"{row.agreement:.1%}" in warning.detail


def test_agreement():
    reference = torch.tensor([[1.0, 2.0], [3.0, -1.0], [-1.0, -2.0], [0.5, 1.5]])
    other = torch.tensor([[2.0, 1.0], [1.0, -9.0], [-5.0, -6.0], [1.0, 2.0]])
    assert ONE.agreement(other, reference).mean() == 0.75
    assert SEVERAL.agreement(other, reference).mean() == 1.0
    assert SEVERAL.agreement(-other, reference).mean() == 0.0


@pytest.mark.parametrize(
    ("rows", "flops", "expected"), [(10, 1, 10), (1000, 10**9, 256), (1000, 5 * 10**10, 100), (1000, 10**12, 32)]
)
def test_samples_are_spread_over_the_split_and_fewer_of_a_large_model(rows, flops, expected):
    split = FeatureSplit({"input_values": np.zeros((rows, 2, 2), np.float32)}, torch.arange(rows))
    chosen = check_samples(split, flops).targets
    assert len(chosen) == expected
    gaps = chosen.diff()
    assert int(chosen[0]) == 0
    assert rows - int(chosen[-1]) <= -(-rows // expected)
    assert int(gaps.max() - gaps.min()) <= 1


def test_a_worker_without_the_extra_refuses_before_any_work(tmp_path, monkeypatch):
    check_installed(BOTH)
    monkeypatch.setattr(runtime, "PACKAGES", {"export": ("onnx", "no_such_package"), "torchao": ()})
    check_installed(())
    spec = EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}}, "exports": ["onnx"]})
    nowhere = tmp_path / "nowhere"
    said: list = []
    with pytest.raises(SecateurError, match=r"no_such_package is not installed.*secateur\[export\]") as raised:
        run(Inputs(model=nowhere, data=nowhere, out=tmp_path, cache=tmp_path), spec, said.append)
    assert raised.value.code is ErrorCode.EXPORT_UNAVAILABLE
    assert said == []
