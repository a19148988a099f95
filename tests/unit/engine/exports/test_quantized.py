"""torchao's formats: weights are the step's own, rounded by row; a fresh process loads them; what is measured is what they do."""

import copy
import json
import logging
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score
from torch import nn

from api_schemas.enums import ExportFormat
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from benchmarks.families.tiny_models import MODELS
from tests.support.apart import APART
from tests.unit.engine.exports.test_exports import LAYOUTS, exported, smaller, split_of
from tests.unit.engine.small import small_config, small_model
from worker.engine.checkpoint import gate
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.exports import check_installed, packages, runtime
from worker.engine.exports.quantized import _linear_maps, check_quantized, write_quantized
from worker.engine.run import Inputs, run

DYNAMIC, WEIGHTS = BOTH = (ExportFormat.TORCHAO_INT8, ExportFormat.TORCHAO_INT8_WEIGHTS)


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture(scope="module")
def torchao():
    """What its import logs. It stays on the path, since nobody can import it twice; a server of the gate knows it, too."""
    sys.path += [] if str(APART) in sys.path else [str(APART)]
    before, gate._channel = gate._channel, None
    heard = Heard()
    # torch's own loggers hand nothing on to the root.
    loggers = (logging.getLogger(), logging.getLogger("torch"))
    for logger in loggers:
        logger.addHandler(heard)
    import torchao.prototype.safetensors.safetensors_support  # noqa: F401

    for logger in loggers:
        logger.removeHandler(heard)
    yield heard.records
    if gate._channel is not None:
        gate._channel.close()
    gate._channel = before


def packaged(folder, loaded: LoadedModel):
    """A step's folder of a model that was cut."""
    original = folder / "original"
    original.mkdir()
    (original / "config.json").write_text(
        json.dumps(small_config().to_dict() | {"architectures": [loaded.model_spec.name]})
    )
    (original / "preprocessor_config.json").write_text(json.dumps({"feature_extractor_type": "ASTFeatureExtractor"}))
    save_checkpoint(folder / "step", loaded, original)
    return folder / "step"


@pytest.fixture(scope="module", params=LAYOUTS)
def case(request, tmp_path_factory):
    """(the step's folder, what was exported, samples, metrics) of an export in both formats; weights are halves in the file."""
    request.getfixturevalue("torchao")
    loaded = smaller(LAYOUTS[request.param])
    # As they are read back.
    loaded.model.half().float()
    folder = packaged(tmp_path_factory.mktemp(request.param), replace(loaded, dtype=torch.float16))
    split = split_of(40, loaded.model)
    loaded = replace(loaded, dtype=torch.float16)
    return folder, loaded, split, exported(folder, loaded, split, BOTH)


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def weights_of(folder):
    """(int8, float32 scales [rows, 1]) of every quantized map by its name, and what is stored of the others."""
    tensors = load_file(folder / "model.safetensors")
    names = [name.removesuffix("._weight_qdata") for name in tensors if name.endswith("._weight_qdata")]
    pairs = {name: (tensors.pop(f"{name}._weight_qdata"), tensors.pop(f"{name}._weight_scale")) for name in names}
    assert not any(tensors.pop(f"{name}._weight_zero_point", torch.zeros(1)).any() for name in names)
    return pairs, tensors


def by_hand(loaded, folder, format):
    """The float model with weights that were rounded, and of DYNAMIC activations rounded by token: no line of torchao."""
    model = copy.deepcopy(loaded.model)
    factor = scale_of_queries(folder)

    def rounded(_module, arguments):
        step = arguments[0].abs().amax(-1, keepdim=True) / 127.5
        # Not divided by the step: the largest one lies at 127.5 of them, and its last bit decides.
        return ((arguments[0] * (1 / step)).round().clamp(-128, 127) * step,)

    for name, (whole, scale) in weights_of(folder / format.value)[0].items():
        linear = model.get_submodule(name)
        with torch.no_grad():
            linear.weight.copy_(whole.float() * scale / (factor if name.endswith("q_proj") else 1.0))
        if format is DYNAMIC:
            linear.register_forward_pre_hook(rounded)
    return model


def scale_of_queries(folder):
    """What is folded into them, since a stock class computes the softmax's scale from the new width."""
    config = json.loads((folder / "config.json").read_text())
    return 1.0 if "auto_map" in config else (config["head_dim"] / small_model().widths.head_dim) ** 0.5


@pytest.mark.parametrize("format", BOTH)
def test_weights_are_the_steps_own_rounded_by_row(case, format):
    folder, loaded, *_ = case
    whole = load_file(folder / "model.safetensors")
    pairs, others = weights_of(folder / format.value)
    linear = {name for name, module in loaded.model.named_modules() if isinstance(module, nn.Linear)}
    assert pairs.keys() == {name for name in linear if whole[f"{name}.weight"].numel()}
    for name, (rounded, scale) in pairs.items():
        weight = whole[f"{name}.weight"].float()
        assert (rounded.dtype, scale.dtype) == (torch.int8, torch.float32)
        torch.testing.assert_close(scale, weight.abs().amax(1, keepdim=True) / 127.5, rtol=1e-5, atol=0)
        assert ((rounded * scale - weight).abs() <= scale * (0.5 + 1e-3)).all()
    # All else as it was, halves too, what has neither rows nor columns among it.
    assert others.keys() == whole.keys() - {f"{name}.weight" for name in pairs}
    assert all(torch.equal(others[name], whole[name]) and others[name].dtype == torch.float16 for name in others)


@pytest.mark.usefixtures("torchao")
def test_a_step_in_shards_is_one_file_in_eight_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.engine.checkpoint.save.SHARD_BYTES", 40_000)
    loaded = smaller(next(iter(LAYOUTS.values())))
    folder = packaged(tmp_path, loaded)
    assert "model.safetensors.index.json" in names_in(folder)
    write_quantized(folder, tmp_path / "small", loaded, WEIGHTS, split_of(4, loaded.model).batch(torch.tensor([0]))[0])
    assert {name for name in names_in(tmp_path / "small") if "safetensors" in name} == {"model.safetensors"}


@pytest.mark.parametrize("format", BOTH)
def test_a_map_alone_is_the_one_rounded_by_hand(case, tmp_path, format):
    folder, loaded, split, _ = case
    model = write_quantized(folder, tmp_path / "again", loaded, format, split.batch(torch.tensor([0]))[0])
    hand, name = by_hand(loaded, folder, format), "audio_spectrogram_transformer.layers.2.mlp.fc1"
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.get_submodule(name)(x), hand.get_submodule(name)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("format", BOTH)
def test_what_is_measured_is_what_a_model_rounded_by_hand_does(case, format):
    folder, loaded, split, metrics = case
    row = metrics[BOTH.index(format)]
    x = torch.from_numpy(split.inputs["input_values"])
    with torch.no_grad():
        reference, answers = loaded.model(x).logits, by_hand(loaded, folder, format)(x).logits
    assert (row.format, row.file) == (format, f"{format.value}/model.safetensors")
    assert row.file_bytes == (folder / row.file).stat().st_size
    assert row.samples == row.scores.samples == 40
    error = (answers - reference).abs().max().item()
    assert error > 1e-4
    # Through three layers an activation here and there falls to another of 256 values, another on every processor: inputs that
    # differ by 1e-6 move the largest error by a sixth. It stays well above what rounded weights alone do.
    assert row.max_abs_error == pytest.approx(error, rel=1e-3 if format is WEIGHTS else 0.3)
    if format is DYNAMIC:
        assert row.max_abs_error > 1.2 * metrics[BOTH.index(WEIGHTS)].max_abs_error
    assert row.agreement == (answers.argmax(1) == reference.argmax(1)).double().mean().item()
    assert row.scores.accuracy == pytest.approx(accuracy_score(split.targets, answers.argmax(-1)))
    assert [(time.batch_size, time.runs) for time in row.latency] == [(1, 5), (3, 5)]
    # One run of torch, beside which both are timed.
    assert [time.dense_p50_ms for time in row.latency] == [time.dense_p50_ms for time in metrics[0].latency]


def test_the_folder_stands_alone(case):
    folder, *_ = case
    own = {
        "configuration_pruned.py",
        "modeling_pruned.py",
        "pruned_layers.py",
        "pruned_attention.py",
        "pruned_heads.py",
        "pruned_maps.py",
    } & names_in(folder)
    config = json.loads((folder / "config.json").read_text())
    for format in BOTH:
        assert names_in(folder / format.value) == {"config.json", "model.safetensors", "preprocessor_config.json"} | own
        said = json.loads((folder / format.value / "config.json").read_text())
        assert said.pop("quantization_config")["quant_method"] == "torchao"
        assert said == config | {"dtype": "float32"}


def test_the_same_model_gives_the_same_bytes(case, tmp_path):
    folder, loaded, split, _ = case
    example, _ = split.batch(torch.tensor([0]))
    write_quantized(folder, tmp_path / "again", loaded, DYNAMIC, example)
    content = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert content == (folder / DYNAMIC.value / "model.safetensors").read_bytes()
    with safe_open(tmp_path / "again" / "model.safetensors", "pt") as file:
        described = file.metadata()
    # Any order of some fifty entries but one would be a matter of chance.
    assert list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]) == sorted(described)


@pytest.mark.parametrize("harm", ["other scales", "not quantized", "a missing weight"])
def test_a_folder_that_loads_to_something_else_is_no_export(case, tmp_path, harm):
    folder, loaded, split, _ = case
    example, _ = split.batch(torch.tensor([0]))
    target = tmp_path / "again"
    model = write_quantized(folder, target, loaded, WEIGHTS, example)
    path = target / "model.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        described = file.metadata()
    if harm == "other scales":
        tensors["classifier.dense._weight_scale"] *= 1.1
    elif harm == "a missing weight":
        del tensors["classifier.dense.bias"]
    else:
        tensors = load_file(folder / "model.safetensors")
        (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(tensors, path, described if harm != "not quantized" else {"format": "pt"})
    with pytest.raises(
        SecateurError, match=r"^again: |^A fresh process that loaded again got different outputs"
    ) as raised:
        check_quantized(target, model, loaded, example)
    assert raised.value.code is ErrorCode.EXPORT_FAILED


@pytest.mark.parametrize(
    ("name", "left"),
    [
        # Tied to the table of embeddings.
        ("BertForMaskedLM", {"cls.predictions.decoder"}),
        # Handed on as plain tensors.
        (
            "WavLMForSequenceClassification",
            {
                f"wavlm.encoder.layers.{layer}.attention.{each}_proj"
                for layer in range(2)
                for each in ("q", "k", "v", "out")
            },
        ),
    ],
)
def test_maps_that_torchaos_tensors_cannot_stand_in_for_are_left(name, left):
    tiny = next(tiny for tiny in MODELS if tiny.id == name)
    model = tiny.stock()
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert linear - set(_linear_maps(model, tiny.inputs(1))) == left


def test_a_worker_without_torchao_refuses_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", {"export": ("onnx", "no_such_onnx"), "torchao": ("no_such_torchao",)})
    check_installed(())
    spec = EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}}, "exports": ["torchao_int8"]})
    nowhere = tmp_path / "nowhere"
    said: list = []
    words = r"cannot write torchao_int8: no_such_torchao is not installed.*secateur\[torchao\]"
    with pytest.raises(SecateurError, match=words) as raised:
        run(Inputs(model=nowhere, data=nowhere, out=tmp_path, cache=tmp_path), spec, said.append)
    assert raised.value.code is ErrorCode.EXPORT_UNAVAILABLE
    assert said == []
    words = r"write onnx, torchao_int8: no_such_onnx, no_such_torchao are not .*secateur\[export,torchao\]"
    with pytest.raises(SecateurError, match=words):
        check_installed([ExportFormat.ONNX, DYNAMIC])
    monkeypatch.setattr(runtime, "PACKAGES", {"export": ("onnx",), "torchao": ("no_such_torchao",)})
    with pytest.raises(SecateurError, match=r"write torchao_int8: no_such_torchao is not .*or leave them out"):
        check_installed([ExportFormat.ONNX, DYNAMIC])
    assert packages([DYNAMIC, WEIGHTS]) == ("no_such_torchao",)


def test_torchao_is_imported_in_silence(torchao):
    """The engine's log is the job's."""
    assert [record.getMessage() for record in torchao] == []
