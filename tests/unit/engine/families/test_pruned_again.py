"""A result in the layout of our own is a model like any other: described, loaded without its code, cut again, and saved."""

import json

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.describe import STATISTICS, describe_folder
from checkpoints.sizes import accounting
from tests.support.gate import WHOLE
from worker.engine.checkpoint.gate import check_original
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.pruning.selection import KeptHead, Selection

BY_ID = {tiny.id: tiny for tiny in MODELS}
GATE = (
    "ASTForAudioClassification",
    "Wav2Vec2ForCTC",
    "WavLMForSequenceClassification",
    "WhisperForConditionalGeneration",
    "ClapAudioModelWithProjection",
    "BertForSequenceClassification",
)
"""A class of every kind of attention, and where the heads of a layer have parameters beside."""
CODE = (
    "configuration_pruned.py",
    "modeling_pruned.py",
    "pruned_layers.py",
    "pruned_attention.py",
    "pruned_heads.py",
    "pruned_maps.py",
)


def half(widths):
    """What is left of any model without the first head of a layer, and every other channel (or pair) and neuron of the rest."""
    whole = Selection.all(widths)

    def others(qk, rotary):
        return (*qk[: len(qk) // 2][::2], *qk[len(qk) // 2 :][::2]) if rotary else qk[::2]

    heads = tuple(
        tuple(KeptHead(h.head, others(h.qk, layer.rotary), h.vo[::2]) for h in kept[1:])
        for kept, layer in zip(whole.heads, widths.layers, strict=True)
    )
    return Selection(heads, tuple(neurons[::2] for neurons in whole.neurons))


def again(name, tmp_path):
    """Of a class: its stock model, and its result after two cuts, the second of the folder that the first left."""
    tiny = BY_ID[name]
    stock, before = tiny.stock(), tmp_path / "original"
    loaded = load_original(tiny.save(stock, before))
    kept = Selection.all(loaded.widths)
    for number in range(2):
        left = half(loaded.widths) if number else reference.keeps(loaded.widths)["no heads first"]
        kept = kept.then(left)
        folder = tmp_path / f"job {number}"
        save_checkpoint(folder, reference.cut_by(loaded, left), before)
        for code in CODE:
            # What would be seen if it ever ran.
            (folder / code).write_text("raise SystemExit('ran')")
        loaded, before = load_original(folder), folder
    return tiny, stock, kept, loaded


@pytest.mark.parametrize("name", list(BY_ID) if WHOLE else GATE)
def test_the_second_cut_is_of_the_first_ones_result(name, tmp_path):
    tiny, stock, kept, loaded = again(name, tmp_path)
    inputs = tiny.inputs(2)
    with reference.masked(loaded.model_spec, stock, kept):
        expected = reference.answer(stock, inputs)
    reference.assert_near(reference.answer(loaded.model, inputs), expected)
    check_original(tmp_path / "job 1", loaded, inputs)
    described = describe_folder(tmp_path / "job 1")
    whole = describe_folder(tmp_path / "original")
    assert described.widths == loaded.widths == kept.widths(whole.widths)
    assert [warning.code for warning in described.warnings] == ["pruned_before"]
    stored = load_file(tmp_path / "job 1" / "model.safetensors")
    weights = (t for key, t in stored.items() if t.is_floating_point() and not key.endswith(STATISTICS))
    assert accounting.total_parameters(described.shape, described.widths) == sum(t.numel() for t in weights)
    assert accounting.total_flops(described.shape, loaded.widths) == accounting.total_flops(whole.shape, loaded.widths)


def test_heads_and_neurons_may_come_to_fit_a_stock_layout(tmp_path):
    """Then nothing of our own stays in the config: neither widths nor the sentence for who forgets the code."""
    tiny = BY_ID["ViTForImageClassification"]
    loaded = load_original(tiny.save(tiny.stock(), tmp_path / "original"))
    uneven = reference.cut_by(loaded, reference.keeps(loaded.widths)["neurons"])
    assert save_checkpoint(tmp_path / "first", uneven, tmp_path / "original")[0] is False
    loaded = load_original(tmp_path / "first")
    whole, least = Selection.all(loaded.widths), min(loaded.widths.feed_forward)
    smaller = reference.cut_by(loaded, Selection(whole.heads, tuple(each[:least] for each in whole.neurons)))
    assert save_checkpoint(tmp_path / "last", smaller, tmp_path / "first") == (True, 1.0)
    config = json.loads((tmp_path / "last" / "config.json").read_text())
    assert not {"pruned_attention", "pruned_feed_forward", "auto_map", "_attn_implementation"} & set(config)
    assert not list((tmp_path / "last").glob("*.py"))
    model = tiny.model_spec.classes.stock.from_pretrained(tmp_path / "last", dtype=torch.float32).eval()
    reference.assert_near(reference.answer(model, tiny.inputs(2)), reference.answer(smaller.model, tiny.inputs(2)))
