"""Rows of several lengths in one pass: a model answers to each what it answers to it alone, cut or not, fused and eager."""

import pytest
import torch
from torch import Tensor

from api_schemas.enums import Head
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS, WAVEFORMS
from checkpoints.families.audio.waveform_encoder import SAMPLES
from checkpoints.families.base import Padding
from worker.engine.data.split import FeatureSplit, Inputs, Ragged
from worker.engine.tasks import task_for
from worker.engine.tasks.padding import real_positions

SHARES = (0.4, 1.0, 0.71, 0.5)
"""Lengths of the rows, of the whole."""
PADDED = tuple(tiny for tiny in MODELS if tiny.model_spec.padding_of(tiny.stock()) is not None)
SAID = Padding({"input_values": 0.0}, "attention_mask", SAMPLES)


def uneven(inputs: Inputs, padding: Padding) -> FeatureSplit:
    """The rows of a batch, shortened where they may be."""
    columns = {
        name: Ragged.of([row[: round(share * len(row))] for row, share in zip(tensor.numpy(), SHARES, strict=True)])
        if name in padding.fills
        else tensor.numpy()
        for name, tensor in inputs.items()
    }
    return FeatureSplit(columns, torch.zeros(len(SHARES), dtype=torch.int64))


def worst(tiny, model, split: FeatureSplit, padding: Padding) -> float:
    """The largest difference between what a row is answered in a batch and alone, where its own positions are."""
    head = tiny.model_spec.family.architectures[tiny.name].head
    needs = {
        "decode": str,
        "original": model,
        "questions": object(),
        "pooling": ("mean", "max", "lasttoken", "weightedmean"),
    }
    task = task_for(head, model.config, **needs)  # type: ignore[arg-type]
    inputs, _ = split.padded(padding).batch(range(len(split)))
    assert padding.mask in inputs
    with torch.inference_mode():
        together, real = task.outputs(model, inputs), real_positions(model, inputs)
        assert real is not None
        found = 0.0
        for row in range(len(split)):
            alone: Tensor = task.outputs(model, split.batch([row])[0])[0]
            ours = together[row]
            if head is Head.QUESTION_ANSWERING:
                assert (ours[:, ~real[row]] < -1e5).all()
                ours = ours[:, real[row]]
            elif alone.ndim == 2:
                ours = ours[real[row]]
            assert ours.shape == alone.shape
            found = max(found, float((ours - alone).abs().max()))
    return found


@pytest.mark.parametrize("name", ["nothing cut", "ragged", "no heads first"])
@pytest.mark.parametrize("tiny", PADDED, ids=lambda tiny: tiny.id)
def test_a_rows_answers_are_those_that_it_gets_alone(tiny, name):
    whole = reference.dense(tiny.model_spec, tiny.stock())
    model = reference.cut_by(whole, reference.keeps(whole.widths)[name]).model
    padding = tiny.model_spec.padding_of(model)
    split = uneven(tiny.inputs(len(SHARES)), padding)
    for way in ("sdpa", "eager") if model._supports_sdpa else ("eager",):
        model.set_attn_implementation(way)
        assert worst(tiny, model, split, padding) < 1e-4, way


def test_every_family_of_texts_is_padded_and_whisper_and_waveforms_with_a_norm_by_frame():
    assert {tiny.model_spec.family.name for tiny in PADDED} == {
        "bert", "clap_text", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "gpt2", "llama", "mistral",
        "gemma", "gemma2", "gemma3", "modernbert", "mpnet", "opt", "phi", "phi3", "qwen2", "qwen3",
        "wav2vec2", "hubert", "unispeech", "unispeech-sat", "wavlm", "wav2vec2-bert", "whisper",
    }  # fmt: skip
    assert all(tiny.config["feat_extract_norm"] == "layer" for tiny in PADDED if "conv_dim" in tiny.config)


@pytest.mark.parametrize("tiny", [tiny for tiny in WAVEFORMS if tiny.id.endswith("ForCTC")], ids=lambda tiny: tiny.id)
def test_waveforms_that_are_not_padded_would_be_answered_otherwise(tiny):
    """With a norm over all frames, or several convolutions of positions, silence is heard in spite of its mask."""
    model = tiny.stock()
    assert tiny.model_spec.padding_of(model) is None
    assert worst(tiny, model, uneven(tiny.inputs(len(SHARES)), SAID), SAID) > 1e-3
