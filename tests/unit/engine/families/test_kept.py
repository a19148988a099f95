"""What a result has of its original: the dtype of every weight, what is tied and what is not; and the gate that compares them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from api_schemas.errors import SecateurError
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.describe import describe_folder
from checkpoints.sizes import accounting
from worker.engine.checkpoint.gate import check_original
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint

BY_ID = {tiny.id: tiny for tiny in MODELS}
BERT, WHISPER = BY_ID["BertForSequenceClassification"], BY_ID["WhisperForConditionalGeneration"]
NORMS = "LayerNorm"


def stored(folder, tiny, dtype_of, said):
    """A folder whose weights are stored as `dtype_of` has them by name, and whose config says another dtype."""
    tiny.save(tiny.stock(), folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor.to(dtype_of(name)) for name, tensor in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(config if said is None else config | {"dtype": said}))


@pytest.mark.parametrize("said", ["float32", "float16", "bfloat16", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_stay_stored_as_they_were_whatever_the_config_says(dtype, said, tmp_path):
    stored(tmp_path / "original", BERT, lambda _: dtype, said)
    described, loaded = describe_folder(tmp_path / "original"), load_original(tmp_path / "original")
    assert described.shape.bytes_per_parameter == dtype.itemsize
    stored_as = str(dtype).removeprefix("torch.")
    differs = ["dtype_differs"] if said not in (None, stored_as) else []
    assert [warning.code for warning in described.warnings] == differs
    save_checkpoint(tmp_path / "step", loaded, tmp_path / "original")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("original", "step"))
    assert {name: tensor.dtype for name, tensor in after.items()} == dict.fromkeys(before, dtype)
    assert all(torch.equal(after[name], before[name]) for name in before)
    config = json.loads((tmp_path / "step" / "config.json").read_text())
    assert config["dtype"] == (stored_as if said is None else said)


def test_norms_in_single_precision_stay_so_beside_halves(tmp_path):
    stored(tmp_path / "original", BERT, lambda name: torch.float32 if NORMS in name else torch.float16, "float16")
    loaded = load_original(tmp_path / "original")
    cut = reference.cut_by(loaded, reference.keeps(loaded.widths)["ragged"])
    save_checkpoint(tmp_path / "step", cut, tmp_path / "original")
    for name, tensor in load_file(tmp_path / "step" / "model.safetensors").items():
        assert tensor.dtype == (torch.float32 if NORMS in name else torch.float16), name


def test_double_precision_comes_back_as_single(tmp_path):
    stored(tmp_path / "original", BERT, lambda _: torch.float64, "float64")
    described = describe_folder(tmp_path / "original")
    assert described.shape.bytes_per_parameter == 4
    assert [warning.code for warning in described.warnings] == ["double_precision"]
    save_checkpoint(tmp_path / "step", load_original(tmp_path / "original"), tmp_path / "original")
    assert {tensor.dtype for tensor in load_file(tmp_path / "step" / "model.safetensors").values()} == {torch.float32}
    assert json.loads((tmp_path / "step" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("sharded", [False, True])
def test_what_the_config_ties_and_the_file_has_twice_stays_two(sharded, tmp_path):
    """As transformers reads it: both are there and differ, so they are not one weight."""
    folder = tmp_path / "original"
    WHISPER.save(WHISPER.stock(), folder)
    tensors = load_file(folder / "model.safetensors")
    own = {"proj_out.weight": torch.randn_like(tensors["model.decoder.embed_tokens.weight"])}
    if sharded:
        (folder / "model.safetensors").unlink()
        shards = {
            f"model-0000{number}-of-00002.safetensors": part for number, part in enumerate((own, tensors), start=1)
        }
        for name, part in shards.items():
            save_file(part, folder / name, {"format": "pt"})
        where = {tensor: name for name, part in shards.items() for tensor in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    else:
        save_file(tensors | own, folder / "model.safetensors", {"format": "pt"})
    assert json.loads((folder / "config.json").read_text()).get("tie_word_embeddings", True)
    stock = WhisperForConditionalGeneration.from_pretrained(folder)
    assert torch.equal(stock.proj_out.weight, own["proj_out.weight"])
    loaded, described = load_original(folder), describe_folder(folder)
    assert accounting.total_parameters(described.shape, described.widths) == sum(p.numel() for p in stock.parameters())
    inputs = WHISPER.inputs(3)
    with torch.inference_mode():
        reference.assert_near(reference.answer(loaded.model, inputs), reference.answer(stock, inputs))
    check_original(folder, loaded, inputs)
    cut = reference.cut_by(loaded, reference.keeps(loaded.widths)["ragged"])
    save_checkpoint(tmp_path / "step", cut, folder)
    written = load_file(tmp_path / "step" / "model.safetensors")
    assert torch.equal(written["proj_out.weight"], own["proj_out.weight"])
    assert json.loads((tmp_path / "step" / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("tiny", MODELS, ids=lambda tiny: tiny.id)
def test_the_engine_begins_with_what_transformers_reads(tiny, tmp_path):
    loaded, inputs = load_original(tiny.save(tiny.stock(), tmp_path)), tiny.inputs(2)
    check_original(tmp_path, loaded, inputs)
    with torch.no_grad():
        linear = loaded.model.get_submodule(tiny.model_spec.layout_of(loaded.model).feed_forward[-1].second)
        linear.weight[::2].mul_(1.5)  # not all of it, which a norm behind it would not let through
    with pytest.raises(SecateurError, match=r"gives other outputs than transformers") as caught:
        check_original(tmp_path, loaded, inputs)
    assert caught.value.code == "original_mismatch"
