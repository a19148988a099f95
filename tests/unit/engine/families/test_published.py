"""Files as they were published: older names, tensors that no answer depends on, buffers that are no weights."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from api_schemas.errors import ErrorCode, SecateurError
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.describe import describe_folder
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import load_original


def tiny_of(name):
    return next(tiny for tiny in MODELS if tiny.name == name)


def without(part):
    return lambda state: {name: tensor for name, tensor in state.items() if part not in name}


def weight_norm(state):
    """Before torch 2 knew parametrizations."""
    by = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    found = {}
    for name, tensor in state.items():
        for new, old in by.items():
            name = name.replace(new, old)
        found[name] = tensor
    return found


def pooler(prefix):
    return lambda state: {
        **state, f"{prefix}.pooler.dense.weight": torch.ones(32, 32), f"{prefix}.pooler.dense.bias": torch.ones(32),
    }  # fmt: skip


def positions(state):
    return {**state, "embeddings.position_ids": torch.arange(30)[None]}


def named(*changes):
    """Names replaced, a pattern after another."""

    def change(state):
        for pattern, by in changes:
            state = {re.sub(pattern, by, name): tensor for name, tensor in state.items()}
        return state

    return change


def beside(**tensors):
    return lambda state: {**state, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


def each(*changes):
    def change(state):
        for every in changes:
            state = every(state)
        return state

    return change


def copied(**sources):
    """Copies of other tensors, as files had them that were saved before ties were left out."""
    return lambda state: {
        **state, **{name.replace("__", "."): state[source].clone() for name, source in sources.items()}
    }  # fmt: skip


NORMS = named((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))
HEADS = beside(
    cls__predictions__bias=torch.ones(40), lm_head__weight=torch.ones(40, 32), qa_outputs__bias=torch.ones(2)
)
PRETRAINED = beside(quantizer__codevectors=torch.ones(1, 4, 2), project_q__weight=torch.ones(6, 2))

AS_PUBLISHED = {
    "the first bert has norms with gamma and beta": (
        "BertForSequenceClassification",
        NORMS,
    ),
    "norms of images with gamma": (
        "ViTForImageClassification",
        named((r"layernorm(\w*)\.weight", r"layernorm\1.gamma")),
    ),
    "saved inside DataParallel": ("BertForTokenClassification", named(("^", "module."))),
    "saved inside torch.compile": ("ViTForImageClassification", named(("^", "_orig_mod."))),
    "saved inside both": ("Wav2Vec2ForCTC", named(("^", "module._orig_mod."))),
    "bert with other heads": ("BertForTokenClassification", HEADS),
    "distilbert with other heads": ("DistilBertForSequenceClassification", HEADS),
    "wav2vec2 with what it was pretrained with": ("Wav2Vec2ForSequenceClassification", PRETRAINED),
    "vit-base-patch16-224-in21k has a pooler": ("ViTForImageClassification", pooler("vit")),
    "a plain encoder in the names of a class with a head": ("BertModel", named(("^", "bert."))),
    "a CLAP's audio encoder in the names of the whole": ("ClapAudioModel", named(("^", "audio_model."))),
    "wav2vec2-base-960h has no mask": ("Wav2Vec2ForCTC", without("masked_spec_embed")),
    "hubert in old names": ("HubertForSequenceClassification", weight_norm),
    "sew in old names": ("SEWForCTC", weight_norm),
    "bert-base-NER has a pooler": ("BertForTokenClassification", pooler("bert")),
    "twitter-roberta-base-sentiment has a pooler": ("RobertaForSequenceClassification", pooler("roberta")),
    "all-MiniLM-L6-v2 has positions": ("BertModel", positions),
    "an encoder without pooler": ("BertModel", without("pooler")),
    "bert-base-uncased says too whether sentences follow one another": (
        "BertForMaskedLM",
        each(
            NORMS,
            pooler("bert"),
            beside(cls__seq_relationship__weight=torch.ones(2, 32), cls__seq_relationship__bias=torch.ones(2)),
        ),
    ),
    "a BERT with copies of what is tied": (
        "BertForMaskedLM",
        copied(
            cls__predictions__decoder__weight="bert.embeddings.word_embeddings.weight",
            cls__predictions__decoder__bias="cls.predictions.bias",
        ),
    ),
    "roberta-base has a pooler and positions": (
        "RobertaForMaskedLM",
        each(
            pooler("roberta"),
            lambda state: {**state, "roberta.embeddings.position_ids": torch.arange(30)[None]},
            copied(lm_head__decoder__weight="roberta.embeddings.word_embeddings.weight"),
        ),
    ),
    "a RoBERTa whose words and bias have the names of its head": (
        "RobertaForMaskedLM",
        named(
            (r"^roberta\.embeddings\.word_embeddings\.", "lm_head.decoder."),
            (r"^lm_head\.bias", "lm_head.decoder.bias"),
        ),
    ),
    "a BERT in DataParallel whose words have the name of its head": (
        "BertForMaskedLM",
        named((r"^bert\.embeddings\.word_embeddings\.", "cls.predictions.decoder."), ("^", "module.")),
    ),
    "a Whisper whose words have the name of its head": (
        "WhisperForConditionalGeneration",
        named((r"^model\.decoder\.embed_tokens\.", "proj_out.")),
    ),
    "distilbert-base-uncased with a copy of what is tied": (
        "DistilBertForMaskedLM",
        copied(vocab_projector__weight="distilbert.embeddings.word_embeddings.weight"),
    ),
    "a BERT of masked words read as its encoder": ("BertModel", each(named(("^", "bert.")), HEADS)),
    "vit-base-patch16-224-in21k, the plain encoder": (
        "ViTModel",
        lambda state: {**state, "embeddings.mask_token": torch.ones(1, 1, 32)},
    ),
    "a ViT without pooler": ("ViTModel", without("pooler")),
    "a ViT that classifies, read as its encoder": (
        "ViTModel",
        each(without("pooler"), named(("^", "vit.")), beside(classifier__weight=torch.ones(3, 32))),
    ),
    "hubert-base-ls960": ("HubertModel", weight_norm),
    "wav2vec2-base, with what it was pretrained with": ("Wav2Vec2ForPreTraining", weight_norm),
    "wav2vec2-base read as its encoder": (
        "Wav2Vec2Model",
        each(weight_norm, without("masked_spec_embed"), named(("^", "wav2vec2.")), PRETRAINED),
    ),
}


def altered(tiny, change, folder):
    stock = tiny.stock()
    tiny.save(stock, folder)
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return stock


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_it_is_read_as_it_is(name, tmp_path):
    model, change = AS_PUBLISHED[name]
    tiny = tiny_of(model)
    stock, inputs = altered(tiny, change, tmp_path), tiny.inputs(2)
    described, loaded = describe_folder(tmp_path), load_original(tmp_path)
    with torch.inference_mode():
        reference.assert_near(reference.answer(loaded.model, inputs), reference.answer(stock, inputs))
    counted = accounting.total_parameters(described.shape, described.widths)
    assert counted == sum(parameter.numel() for parameter in stock.parameters())


def test_what_is_missing_and_dispensable_is_the_same_each_time(tmp_path):
    altered(tiny_of("Wav2Vec2ForCTC"), without("masked_spec_embed"), tmp_path)
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        states.append(load_original(tmp_path).model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("BertForSequenceClassification", without("pooler")),  # this one reads it
        ("BertForSequenceClassification", without("classifier")),
        ("Wav2Vec2ForCTC", without("lm_head")),
        ("Wav2Vec2ForCTC", beside(wav2vec2__adapter__proj__bias=torch.ones(3))),
        ("ViTForImageClassification", beside(vit__encoder__layer__2__layernorm_before__bias=torch.ones(32))),
        ("DistilBertModel", without("LayerNorm")),
        ("BertForMaskedLM", without("cls.predictions.bias")),
        ("BertForMaskedLM", beside(cls__other__weight=torch.ones(2))),
        ("ViTModel", without("layernorm")),
        ("Wav2Vec2ForPreTraining", without("codevectors")),
    ],
)
def test_another_models_file_is_refused(name, change, tmp_path):
    altered(tiny_of(name), change, tmp_path)
    with pytest.raises(SecateurError) as raised:
        load_original(tmp_path)
    assert raised.value.code == ErrorCode.WEIGHTS_MISMATCH
