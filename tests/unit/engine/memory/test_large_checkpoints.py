"""Checkpoints of half precision and in shards, read and written a tensor at a time; what models of a job share."""

import json
import weakref
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.families.examples import LLAMA, TEXT, Example, image, spectrogram, text, waves
from benchmarks.families.special_models import clap, whisper
from checkpoints.describe import describe_folder, read_tensors
from checkpoints.files.shards import INDEX_NAME
from worker.engine.checkpoint import reload, save, stock_folder
from worker.engine.checkpoint.load import LoadedModel, load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.models.feed_forward import all_neurons
from worker.engine.pruning.selection import keep_all
from worker.engine.pruning.surgery import cut
from worker.engine.runtime import mapped

KINDS = (
    spectrogram("ASTForAudioClassification"),
    image("ViTForImageClassification", "ViTImageProcessor", 1),
    waves("Wav2Vec2ForCTC"),
    text("BertForMaskedLM", TEXT),
    text("LlamaForCausalLM", LLAMA),
    whisper(),
    clap("ClapAudioModelWithProjection"),
)
HALVES = {torch.bfloat16: "BF16", torch.float16: "F16"}


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever temporary files lie here."""
    monkeypatch.setattr(mapped, "_is_memory", lambda _: False)


def saved(example: Example, folder: Path, dtype: torch.dtype = torch.float32, shard: str | None = None) -> Path:
    model = example.stock().to(dtype)
    example.save(model, folder)
    if shard is not None:
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size=shard)
        assert (folder / INDEX_NAME).exists()
    return folder


def floats(folder: Path) -> set[str]:
    return {tensor.dtype for tensor in read_tensors(folder).values() if not tensor.dtype.startswith("I")}


@pytest.mark.parametrize("dtype", HALVES, ids=HALVES.values())
@pytest.mark.parametrize("example", KINDS, ids=lambda example: example.id)
def test_half_precision_in_is_half_precision_out(tmp_path: Path, example: Example, dtype: torch.dtype) -> None:
    folder = saved(example, tmp_path / "in", dtype)
    loaded = load_original(folder)
    parameters = dict(loaded.model.named_parameters())
    assert {each.dtype for each in parameters.values()} == {torch.float32}, "the engine computes in float32"
    assert all(torch.equal(each.to(dtype).float(), each) for each in parameters.values()), "and nothing is rounded"
    assert loaded.dtype is dtype
    save_checkpoint(tmp_path / "out", loaded, folder)
    assert floats(folder) == floats(tmp_path / "out") == {HALVES[dtype]}
    again = load_original(tmp_path / "out").model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in loaded.model.state_dict().items())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=[*HALVES.values(), "F32"])
@pytest.mark.parametrize("example", KINDS[:-1], ids=lambda example: example.id)
def test_the_reload_gate_maps_halves_and_computes_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Example, dtype: torch.dtype
) -> None:
    """Its weights are bit for bit those of a plain float32 load, and the largest of them lie in files."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "0")
    monkeypatch.setattr(reload.mapped, "LEAST", 1)
    monkeypatch.setattr(reload.mapped, "_is_memory", lambda _: False)
    folder = saved(example, tmp_path / "in", dtype)
    auto_class = describe_folder(folder).architecture.auto_class
    model, code = reload.load(str(folder), auto_class)
    assert not code
    plain = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32)
    found, expected = dict(model.named_parameters()), dict(plain.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        assert parameter.dtype is torch.float32
        assert torch.equal(parameter, expected[name])
        # What is stored in float32 lies in the checkpoint's own file; a tied bias is padded into memory by transformers.
        if parameter.ndim > 1:
            assert reload.mapped.is_mapped(parameter) == (dtype is not torch.float32), name


def test_where_the_disk_has_no_room_the_loader_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(KINDS[0], tmp_path / "in", torch.bfloat16)
    expected = load_original(folder).model.state_dict()
    with stock_folder.as_stock_reads(folder) as place:
        assert place != folder
    monkeypatch.setattr(mapped, "RESERVE", 1 << 62)
    with stock_folder.as_stock_reads(folder) as place:
        assert place == folder
    found = load_original(folder).model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_shards_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, limit = KINDS[0], 40_000
    whole = load_original(saved(example, tmp_path / "whole"))
    loaded = load_original(saved(example, tmp_path / "in", shard="20KB"))
    pairs = zip(whole.model.state_dict().items(), loaded.model.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)
    monkeypatch.setattr(save, "SHARD_BYTES", limit)
    out = tmp_path / "out"
    save_checkpoint(out, loaded, tmp_path / "in")
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert not (out / "model.safetensors").exists()
    assert all(sum(tensor.nbytes for tensor in load_file(shard).values()) <= limit for shard in shards)
    index = json.loads((out / INDEX_NAME).read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for shard in shards for t in load_file(shard).values())
    again = load_original(out).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.model.state_dict().items())


@pytest.mark.parametrize(("module", "of"), [(stock_folder, "read"), (save, "written")])
def test_one_tensor_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, of: str) -> None:
    """What has been converted is gone from memory when the next one is."""
    folder = saved(KINDS[0], tmp_path / "in", torch.bfloat16)
    loaded = load_original(folder)
    alive: list[weakref.ref[torch.UntypedStorage]] = []
    most = 0

    def counted(tensor: Tensor) -> Tensor:
        nonlocal most
        most = max(most, 1 + sum(each() is not None for each in alive))
        alive.append(weakref.ref(tensor.untyped_storage()))
        return torch.zeros_like(tensor).copy_(tensor)

    monkeypatch.setattr(module, "mapped_copy", counted)
    if of == "read":
        load_original(folder)
    else:
        save_checkpoint(tmp_path / "out", loaded, folder)
    assert len(alive) > 20
    assert most == 1


def storages(loaded: LoadedModel) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in loaded.model.state_dict().items()}


def test_a_cut_model_shares_what_was_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LEAST", 1)
    loaded = load_original(saved(KINDS[0], tmp_path / "in"))
    state = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    smaller = cut(loaded.model, loaded.model_spec, loaded.widths, keep_all(loaded.widths), all_neurons(loaded.widths))
    before, after = storages(loaded), {name: tensor.data_ptr() for name, tensor in smaller.state_dict().items()}
    shared = {name for name in before if before[name] == after[name]}
    assert any("patch_embeddings" in name for name in shared)
    assert not any(name.endswith(("proj.weight", "fc1.weight", "fc2.weight")) for name in shared & set(after))
    with torch.no_grad():
        for name, tensor in smaller.state_dict().items():
            if name not in shared:
                tensor.zero_()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
