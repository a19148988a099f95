"""What transformers writes into config.json and what was published is read; what no class reads is left out, and said."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.checkpoint_config import allowed_fields, plain_values, read_config, used_values, without_nulls
from checkpoints.families import FAMILIES, Family
from checkpoints.families.audio.clap import CLAP
from checkpoints.families.config_fields import ANYWHERE, NOTES
from checkpoints.families.text.clap_text import CLAP_TEXT
from tests.unit.checkpoints.config.published import PUBLISHED

CLASSES = [(family, name) for family in FAMILIES for name in family.architectures]


def written(name: str, *, whole: bool) -> dict[str, Any]:
    """config.json of a class as transformers saves it, every key or only what differs from the default."""
    config = getattr(transformers, name).config_class(architectures=[name])
    if name.endswith("ForCTC") and config.vocab_size is None:
        config.vocab_size = 32  # without it there is no such class
    read: dict[str, Any] = json.loads(config.to_json_string(use_diff=not whole))
    return read


def refusal(config: dict[str, Any]) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        read_config(config)
    return caught.value


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("family", "name"), CLASSES, ids=[name for _, name in CLASSES])
def test_what_transformers_writes_passes(family: Family, name: str, whole: bool) -> None:
    found = read_config(written(name, whole=whole))
    assert (found.family, found.warnings) == (family, ())


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_published_passes(name: str) -> None:
    found = read_config(PUBLISHED[name])
    assert found.layout.attention
    assert found.warnings == ()


# As found in published configs, beside what transformers writes.
UNREAD: dict[str, Any] = {
    "adapters": {"adapters": {}, "config_map": {}},
    "num_class": 2,
    "pooling_mode": "mean",
    "sentence_transformers": {"version": "2.2.0"},
    "train_batch_size": 32,
    "predict_special_tokens": True,
    "task_specific_params": {"summarization": {"max_length": 128}},
    "transformers.js_config": {"dtype": "q8"},
    "unsloth_version": "2024.9",
    "xla_device": True,
    "directionality": ["bidi"],
    "dtype": "auto",
}


@pytest.mark.parametrize(("family", "name"), CLASSES, ids=[name for _, name in CLASSES])
def test_what_no_class_reads_is_left_out_and_said(family: Family, name: str) -> None:
    base = written(name, whole=True)
    config = {**base, **UNREAD, "_commit_hash": None, "nothing": {}}
    (warning,) = read_config(config).warnings
    assert (warning.code, warning.pointer) == ("config_ignored", "/config.json")
    assert "and 2 more" in warning.detail
    assert "`adapters`, `directionality`, `dtype`" in warning.detail
    assert not plain_values(family, config).keys() & (UNREAD.keys() | {"_commit_hash", "nothing"})
    known = {key: value for key, value in base.items() if key not in UNREAD}
    assert used_values(family, config) == without_nulls(family, known)


@pytest.mark.parametrize(("family", "name"), CLASSES, ids=[name for _, name in CLASSES])
def test_no_key_that_is_read_takes_just_anything(family: Family, name: str) -> None:
    """A nested object means nothing to any of them but the labels."""
    base = written(name, whole=True)
    read = {*allowed_fields(family), *ANYWHERE} - {"id2label", "label2id", "model_type", "architectures"} - NOTES
    for key in read:
        code = refusal(base | {key: {"a": {"b": [1e400]}}}).code
        assert code in (ErrorCode.CONFIG_INVALID, ErrorCode.CODE_REFUSED), key


# The same files have a model of texts, and the two together.
OF_IMAGES_AND_TEXTS = {
    *("logit_scale_init_value", "text_config", "vision_config", "max_position_embeddings", "vocab_size")
}
# The same file has a model of images, of texts; the other names are attributes that no file sets.
ELSEWHERE = {
    "clap": {"audio_config", "text_config", "logit_scale_init_value", "intermediate_size", "max_position_embeddings"}
    | {"type_vocab_size", "vocab_size"},
    # The same file again, the other way round.
    "clap_text": {
        *(CLAP.defaults.keys() | CLAP.config_fields.keys()) - allowed_fields(CLAP_TEXT),
        "audio_config",
        "text_config",
        "logit_scale_init_value",
    },
    "clip_vision": OF_IMAGES_AND_TEXTS,
    "siglip_vision": {*OF_IMAGES_AND_TEXTS, "initializer_factor", "projection_size"},
    # Of a summary that a class for multiple choice makes.
    "electra": {"summary_proj_to_labels", "summary_first_dropout"},
    # The same module has a model of images and texts.
    "gemma3": {"get_text_config", "image_token_id", "mm_tokens_per_image", "text_config", "vision_config"},
    # A property, of `local_attention`; as a key it is refused of any class.
    "modernbert": {"sliding_window"},
    "whisper": {"n_positions"},
    # Of the whole model, which stands in the same module.
    "qwen2_audio_encoder": {"audio_config", "text_config", "audio_token_id", "ignore_index", "vocab_size"},
}


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_every_key_that_the_classes_of_a_family_read_is_known(family: Family) -> None:
    """A key that is not known is left out: of these none may be. For a new transformers, which may read others."""
    name = next(iter(family.architectures))
    module = Path(str(sys.modules[getattr(transformers, name).__module__].__file__))
    reads = re.findall(r'config\.([a-z]\w*)|getattr\((?:self\.)?config, "([a-z]\w*)"', module.read_text())
    keys = {one or other for one, other in reads} - ELSEWHERE.get(family.name, set())
    assert {"embedding_size"} >= keys - allowed_fields(family)
    assert len(keys) > 10


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("BertModel", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("BertModel", "sliding_window", 128),
        ("ViTForImageClassification", "is_causal", True),
        ("DistilBertModel", "hidden_size", 512),
        ("WhisperForConditionalGeneration", "num_hidden_layers", 2),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(name: str, key: str, value: Any) -> None:
    error = refusal(written(name, whole=True) | {key: value})
    assert [item.pointer for item in error.errors] == [f"/config.json/{key}"]


@pytest.mark.parametrize("value", [10**9, -1, 1.5, "12", float("nan"), True, [12], [], None])
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"])
def test_widths_are_whole_numbers_within_bounds(key: str, value: Any) -> None:
    error = refusal(written("ASTForAudioClassification", whole=True) | {key: value})
    assert [item.pointer for item in error.errors] == [f"/config.json/{key}"]


PARAMETERS = {
    "google/vit-base-patch16-224": 86_567_656,
    "sentence-transformers/all-MiniLM-L6-v2": 22_713_216,
    "facebook/dinov2-small": 22_056_576,
    "openai/clip-vit-base-patch32, its encoder of images": 87_849_216,
    "google/siglip-base-patch16-224, its encoder of images": 92_884_224,
    "facebook/wav2vec2-base-960h": 94_396_320,
    "microsoft/unispeech-sat-base-plus, its encoder": 94_371_712,
    "sentence-transformers/all-mpnet-base-v2, its encoder": 109_486_464,
    "google/electra-small-discriminator, its encoder": 13_483_008,
}
"""As the hub counts them, without what no class reads and with the labels of ImageNet."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_was_published_is_as_large_as_it_is(name: str) -> None:
    """Against the class itself, built without memory, and against a number that was written down."""
    config = PUBLISHED[name]
    stock: Any = getattr(transformers, config["architectures"][0])
    labels = {"num_labels": 1000} if "ForImageClassification" in stock.__name__ else {}
    with torch.device("meta"):
        built = stock(stock.config_class(**config, **labels))
    found = read_config({**config, **labels})
    shapes = found.family.tensors(config, found.architecture, labels.get("num_labels", 2))
    assert sum(math.prod(shape) for shape in shapes.values()) == PARAMETERS[name]
    assert sum(parameter.numel() for parameter in built.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("GPT2LMHeadModel", "hidden_size", 16.0),
        ("GPT2LMHeadModel", "num_hidden_layers", 2.0),
        ("WhisperForConditionalGeneration", "num_attention_heads", 4.0),
        ("ElectraModel", "pad_token_id", 10**6),
        ("BertModel", "pad_token_id", 10**6),
        ("DistilBertModel", "pad_token_id", -(10**6)),
        ("WhisperForConditionalGeneration", "pad_token_id", 2**20),
    ],
)
def test_what_would_end_transformers_class_is_refused_with_its_key(name: str, key: str, value: Any) -> None:
    config = written(name, whole=True)
    if isinstance(value, float):
        (family,) = (family for family, each in CLASSES if each == name)
        value = float(family.value(config, family.aliases[key]))
    assert [item.pointer for item in refusal({**config, key: value}).errors] == [f"/config.json/{key}"]
