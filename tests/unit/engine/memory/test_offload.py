"""Layers whose weights stay on the host: results are the same, and weights are in their places however a call ends.

Here the device is the CPU: what is copied to it and back has the same bits. On a device of its own: devices/test_offload.py.
"""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from api_schemas.results.events import Started, StepDone, Warned
from api_schemas.spec.job import EngineSpec
from checkpoints.describe import describe_folder
from tests.support.checkpoints.tiny import some_data, tiny_model
from tests.support.jobs.engine import identity, run_job
from tests.unit.engine.small import inputs, small_model
from worker.engine import run
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.models.model_spec import move_model
from worker.engine.runtime import offload
from worker.engine.scoring import Statistic, observe

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("offloading_ends")


SETTINGS = {
    "pruning": {
        "target": {"flops": 0.5},
        "parts": ["attention", "feed_forward"],
        "calibration": {"samples": 16},
        "schedule": {"steps": 1},
    },
    "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "latency_seconds": 0, "sensitivity_samples": None},
}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_job_has_the_same_bytes(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EngineSpec.model_validate({**SETTINGS, "finetune": {"epochs": 1, "method": method}})
    run_job(tmp_path / "all", spec, data=some_data(), cache=tmp_path / "cache-1", fresh_process=False)
    called: list[nn.Module] = []
    begin = offload._calls.begin

    def seen(layer: nn.Module, device: torch.device) -> None:
        called.append(layer)
        begin(layer, device)

    monkeypatch.setattr(offload._calls, "begin", seen)
    monkeypatch.setattr(offload, "LEAST", 1)
    monkeypatch.setattr(offload.graph_on_host.__wrapped__, "__defaults__", (0,))  # type: ignore[attr-defined]
    monkeypatch.setattr(run, "is_too_small", lambda *_, **__: True)
    events = run_job(tmp_path / "offloaded", spec, data=some_data(), cache=tmp_path / "cache-2", fresh_process=False)
    assert called
    (started,) = (event for event in events if isinstance(event, Started))
    (warned,) = (event for event in events if isinstance(event, Warned) and event.code == "device_too_small")
    assert started.tensor_bytes is None, "no estimate is made of it"
    assert "stay in the host's memory" in warned.detail
    assert identity(tmp_path / "all" / "step-1") == identity(tmp_path / "offloaded" / "step-1")


def test_scoring_in_half_precision_keeps_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which autocast converts, each time that they are used."""
    monkeypatch.setattr(offload, "LEAST", 1)
    monkeypatch.setattr(offload.graph_on_host.__wrapped__, "__defaults__", (0,))  # type: ignore[attr-defined]
    host_copy, kept = offload._host_copy, []

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return host_copy(tensor)

    monkeypatch.setattr(offload, "_host_copy", copied)
    found = []
    for offloaded in (False, True):
        loaded = small_model()
        offload.offload_to(CPU if offloaded else None)
        move_model(loaded.model, CPU)
        found.append(
            observe(
                loaded.model,
                attention_blocks(loaded.model, loaded.model_spec, loaded.widths),
                [({"input_values": inputs(4)}, torch.arange(4))],
                torch.nn.CrossEntropyLoss(reduction="none"),
                frozenset(Statistic),
                neurons=feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths),
                autocast=torch.bfloat16,
                device=CPU,
            )
        )
    for one, other in zip(found[0].layers, found[1].layers, strict=True):
        assert one.gates is not None
        assert other.gates is not None
        assert torch.equal(one.gates.qk, other.gates.qk)
        assert torch.equal(one.gates.vo, other.gates.vo)
    for first, second in zip(found[0].neurons, found[1].neurons, strict=True):
        assert torch.equal(first.fisher, second.fisher)
    weights = {tuple(weight.shape) for layer in layers_of(loaded.model) for weight in layer.parameters()}
    assert kept
    assert not {shape for each in kept for shape in (each, each[::-1])} & {shape for shape in weights if len(shape) > 1}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_job_on_a_gpu_has_nearly_the_same_scores(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EngineSpec.model_validate({**SETTINGS, "finetune": {"epochs": 1, "method": method}})
    losses = []
    for too_small in (False, True):
        monkeypatch.setattr(run, "is_too_small", lambda *_, answer=too_small, **__: answer)
        out = tmp_path / str(too_small)
        events = run_job(out, spec, data=some_data(), cache=tmp_path / f"cache-{too_small}", device="cuda")
        losses.append([event.metrics.validation.loss for event in events if isinstance(event, StepDone)])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def layers_of(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(path) for path in getattr(model, offload.LAYERS)]


def test_copies_are_gone_however_a_call_ends() -> None:
    model, x = small_model().model, inputs(2)
    whole = model(x).logits
    offload.offload_to(CPU)
    move_model(model, CPU)
    weights = [id(weight) for weight in model.parameters()]
    assert torch.equal(model(x).logits, whole)

    def stop(*_: object) -> None:
        assert offload._calls.running
        raise KeyError("stop")

    layers_of(model)[1].get_submodule("attention").register_forward_hook(stop)
    with pytest.raises(KeyError):
        model(x)
    assert [id(weight) for weight in model.parameters()] == weights
    assert not offload._calls.running


def test_memory_that_runs_out_while_weights_are_copied_leaves_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small_model().model, inputs(2)
    offload.offload_to(CPU)
    move_model(model, CPU)
    weights = [id(weight) for weight in model.parameters()]
    to, copied = torch.Tensor.to, 0

    def short(tensor: torch.Tensor, *args: object, **settings: object) -> torch.Tensor:
        nonlocal copied
        copied += settings.get("copy") is True
        if copied == 5:
            raise torch.OutOfMemoryError("no memory")
        return to(tensor, *args, **settings)  # type: ignore[call-overload, no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", short)
        with pytest.raises(torch.OutOfMemoryError):
            model(x)
    assert [id(weight) for weight in model.parameters()] == weights
    assert not offload._calls.copied
    assert torch.isfinite(model(x).logits).all()


def test_a_copy_of_a_model_has_its_own_weights_and_one_that_moved_is_as_before() -> None:
    model, x = small_model().model, inputs(2)
    offload.offload_to(CPU)
    move_model(model, CPU)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert other(x).logits.abs().max() > 0
    assert model(x).logits.abs().max() == 0
    offload.offload_to(None)
    move_model(other, CPU)
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in layers_of(other))


def test_the_tensors_of_a_job_are_on_its_device() -> None:
    offload.offload_to(torch.device("cuda"))
    assert offload.offloads(torch.device("cuda", 0))
    assert not offload.offloads(CPU)


def test_when_a_gpu_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 120))
    gpu = torch.device("cuda", 0)
    assert not offload.is_too_small(gpu, 100)
    assert offload.is_too_small(gpu, 101)
    assert offload.is_too_small(gpu, 51, ran_out=True)
    assert not offload.is_too_small(CPU, 1 << 60)


def test_a_job_with_a_latency_target_needs_its_models_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "is_too_small", lambda *_, **__: True)
    described, folder = describe_folder(tiny_model()), Path("unused")
    given = run.Inputs(model=folder, data=folder, out=folder, cache=folder)
    for target, offloaded in (({"flops": 0.3}, True), ({"latency": 0.3}, False)):
        spec = EngineSpec.model_validate({"pruning": {"target": target}})
        warned = run._too_small(CPU, spec, described, given)
        assert (warned is not None, offload.offloads(CPU)) == (offloaded, offloaded)
