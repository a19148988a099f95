"""What is written loads in a fresh process with transformers alone, and is refused where it does not."""

import json
import stat
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from api_schemas.enums import Layout
from api_schemas.errors import SecateurError
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import describe_folder
from tests.support.checkpoints.tiny import tiny_model
from worker.engine.checkpoint.gate import check_reload
from worker.engine.checkpoint.load import load_original, load_step
from worker.engine.checkpoint.save import make_durable, save_checkpoint
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons
from worker.engine.pruning.selection import KeptHead, Selection, keep_all, select, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.records import StepRecord, write_pruning
from worker.engine.scoring import score


@pytest.fixture(scope="module")
def original():
    return load_original(tiny_model())


def probe(loaded, samples=3):
    config = loaded.model.config
    return torch.randn(samples, config.max_length, config.num_mel_bins, generator=torch.Generator().manual_seed(0))


def write(folder, original, dtype=torch.float32, keep=None, neurons=None, **changes):
    """A cut model as a step's folder, `keep` and `neurons` of it or what is selected. Returns it as it was before writing."""
    pruning = Pruning.model_validate(
        {
            "preset": "paper",
            "target": {"attention_sparsity": 0.5},
            "granularity": "per_head",
            "criterion": "magnitude",
            **changes,
        }
    )
    shape = describe_folder(tiny_model()).shape
    scores = score(pruning.criterion, attention_blocks(original.model, original.model_spec, original.widths))
    keep = keep or select(scores, original.widths, shape, pruning, share=0.5)
    kept = Selection(keep, neurons or all_neurons(original.widths))
    widths = kept.widths(original.widths)
    smaller = cut(original.model, original.model_spec, original.widths, kept.heads, kept.neurons)
    loaded = replace(original, model=smaller, widths=widths, dtype=dtype)
    stock, scale = save_checkpoint(folder, loaded, tiny_model())
    spec = EngineSpec(pruning=pruning)
    write_pruning(folder, StepRecord(1, "ast", loaded.model_spec.name, spec, widths, kept, stock, scale), ())
    make_durable(folder)
    return loaded


@pytest.mark.parametrize("layout", Layout)
def test_round_trip_in_a_fresh_process(tmp_path, original, layout):
    loaded = write(tmp_path / "step", original, layout=layout)
    written = load_step(tmp_path / "step")
    x = probe(original)
    with torch.inference_mode():
        difference = (written.model(x).logits - loaded.model(x).logits).abs().max().item()
    assert difference < 1e-5
    assert check_reload(tmp_path / "step", written.model, "AutoModelForAudioClassification", {"input_values": x}) < 1e-5
    config = json.loads((tmp_path / "step" / "config.json").read_text())
    assert config["model_type"] == "audio-spectrogram-transformer"
    if layout is Layout.STOCK:
        assert "auto_map" not in config
        assert config["head_dim"] < original.widths.head_dim
        assert not list((tmp_path / "step").glob("*.py"))
    else:
        assert (tmp_path / "step" / "modeling_pruned.py").is_file()


@pytest.mark.parametrize("layout", Layout)
def test_feed_forward_blocks_that_are_alike_need_no_code_where_attention_needs_none(tmp_path, original, layout):
    """Beside stock attention, and beside attention of another kind; and the next step may be of the other shape."""
    alike = tuple(tuple(range(block, block + 20)) for block in range(len(original.widths.feed_forward)))
    loaded = write(tmp_path / "step", original, neurons=alike, layout=layout)
    written, x = load_step(tmp_path / "step"), probe(original)
    check_reload(tmp_path / "step", written.model, "AutoModelForAudioClassification", {"input_values": x})
    config = json.loads((tmp_path / "step" / "config.json").read_text())
    assert ("auto_map" not in config) == (layout is Layout.STOCK)
    assert config["intermediate_size"] == (20 if layout is Layout.STOCK else original.model.config.intermediate_size)
    assert written.widths == loaded.widths
    uneven = tuple(tuple(range(3 + block)) for block in range(len(alike)))
    again = write(tmp_path / "next", written, keep=keep_all(written.widths), neurons=uneven)
    reread = load_step(tmp_path / "next")
    with torch.inference_mode():
        assert torch.equal(reread.model(x).logits, again.model(x).logits)
    check_reload(tmp_path / "next", reread.model, "AutoModelForAudioClassification", {"input_values": x})


UNEVEN = (
    (KeptHead(0, (0, 5, 7), (1,)), KeptHead(2, tuple(range(8)), (0, 2, 3, 6)), KeptHead(3, (4,), (4, 5))),
    (),
    (KeptHead(1, (1, 2), (3, 4, 5, 6, 7)), KeptHead(3, (0, 1), (0, 1, 2, 3, 4))),
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keep", [UNEVEN, ((), (), ())], ids=["ragged, one layer without heads", "no heads"])
def test_uneven_and_empty_layers_in_a_fresh_process(tmp_path, original, keep, dtype):
    """Ragged heads and layers without any: saved, reloaded here and by a stranger, and reloaded to be cut on."""
    loaded = write(tmp_path, original, dtype, keep)
    written = load_step(tmp_path)
    x = probe(original)
    assert written.widths == loaded.widths
    check_reload(tmp_path, written.model, "AutoModelForAudioClassification", {"input_values": x})
    with torch.inference_mode():
        expected, found = loaded.model(x).logits, written.model(x).logits
    assert dtype is not torch.float32 or torch.equal(found, expected)
    stored = load_file(tmp_path / "model.safetensors")
    blocks = attention_blocks(written.model, written.model_spec, written.widths)
    for block, layer in zip(blocks, keep, strict=True):
        assert stored[f"{block.names['q']}.weight"].shape == (sum(len(head.qk) for head in layer), 32)
        assert stored[f"{block.names['o']}.weight"].shape == (32, sum(len(head.vo) for head in layer))
        assert stored[f"{block.names['o']}.bias"].shape == (32,)
    again = cut(written.model, written.model_spec, written.widths, keep_all(written.widths))
    with torch.inference_mode():
        assert torch.equal(again(x).logits, found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", Layout)
def test_the_stored_dtype_stays_and_is_what_is_compared(tmp_path, original, dtype, layout):
    write(tmp_path, original, dtype=dtype, layout=layout)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    written = load_step(tmp_path)
    assert written.dtype == dtype
    assert next(written.model.parameters()).dtype == torch.float32
    check_reload(tmp_path, written.model, "AutoModelForAudioClassification", {"input_values": probe(original)})


def test_files_are_for_everyone_to_read(tmp_path, original):
    write(tmp_path, original)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}


def test_a_weight_that_differs_is_caught(tmp_path, original):
    write(tmp_path, original)
    written = load_step(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.dense.bias"] += 1e-3
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SecateurError, match="different logits") as caught:
        check_reload(tmp_path, written.model, "AutoModelForAudioClassification", {"input_values": probe(original)})
    assert caught.value.code == "reload_mismatch"


@pytest.mark.parametrize("package", ["worker", "checkpoints"])
def test_code_that_needs_secateur_is_caught_although_it_is_installed_here(tmp_path, original, package):
    write(tmp_path, original, layout=Layout.ANY)
    written = load_step(tmp_path)
    code = tmp_path / "modeling_pruned.py"
    code.write_text(f"__import__({package!r})\n{code.read_text()}")
    with pytest.raises(SecateurError, match=f"No module named '{package}'"):
        check_reload(tmp_path, written.model, "AutoModelForAudioClassification", {"input_values": probe(original)})


def test_a_missing_weight_is_caught(tmp_path, original):
    write(tmp_path, original)
    written = load_step(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["classifier.dense.bias"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SecateurError, match="could not load"):
        check_reload(tmp_path, written.model, "AutoModelForAudioClassification", {"input_values": probe(original)})


def test_a_nan_weight_is_refused(tmp_path):
    for path in tiny_model().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.dense.bias"][0] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SecateurError) as caught:
        load_original(tmp_path)
    assert caught.value.code == "numerical_failure"


def test_same_model_same_bytes(tmp_path, original):
    for name in ("a", "b"):
        write(tmp_path / name, original)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_dense_in_the_engines_class_is_the_stock_model(original):
    from transformers import ASTForAudioClassification

    stock = ASTForAudioClassification.from_pretrained(tiny_model()).eval()
    x = probe(original)
    with torch.inference_mode():
        assert torch.equal(stock(x).logits, original.model(x).logits)
    assert widths_of(keep_all(original.widths), original.widths) == original.widths


@pytest.mark.parametrize(("key", "value"), [("initializer_range", "small"), ("dtype", "float99")])
def test_a_config_value_of_the_wrong_type_is_the_configs_fault(tmp_path, key, value):
    for path in tiny_model().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(SecateurError) as caught:
        load_original(tmp_path)
    assert caught.value.code == "config_invalid"
    assert key in caught.value.detail or value in caught.value.detail
