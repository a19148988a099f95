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

CLASSES = [(family, name) for family in FAMILIES for name in family.architectures]

# As far as anybody may look them up on the hub; values that older tools wrote and nobody reads any more are why they are here.
PUBLISHED: dict[str, dict[str, Any]] = {
    "MIT/ast-finetuned-speech-commands-v2": {
        "architectures": ["ASTForAudioClassification"],
        "attention_probs_dropout_prob": 0.0,
        "frequency_stride": 10,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "max_length": 128,
        "model_type": "audio-spectrogram-transformer",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "num_mel_bins": 128,
        "patch_size": 16,
        "qkv_bias": True,
        "time_stride": 10,
        "torch_dtype": "float32",
        "transformers_version": "4.25.0.dev0",
    },
    "google/vit-base-patch16-224": {
        "_name_or_path": "google/vit-base-patch16-224-in21k",
        "architectures": ["ViTForImageClassification"],
        "attention_probs_dropout_prob": 0.0,
        "encoder_stride": 16,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 768,
        "image_size": 224,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "model_type": "vit",
        "num_attention_heads": 12,
        "num_channels": 3,
        "num_hidden_layers": 12,
        "patch_size": 16,
        "qkv_bias": True,
        "transformers_version": "4.13.0.dev0",
    },
    "facebook/dinov2-small": {
        "apply_layernorm": True,
        "architectures": ["Dinov2Model"],
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": 384,
        "image_size": 518,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-06,
        "layerscale_value": 1.0,
        "mlp_ratio": 4,
        "model_type": "dinov2",
        "num_attention_heads": 6,
        "num_channels": 3,
        "num_hidden_layers": 12,
        "out_features": ["stage12"],
        "out_indices": [12],
        "patch_size": 14,
        "qkv_bias": True,
        "reshape_hidden_states": True,
        "stage_names": ["stem", *(f"stage{layer}" for layer in range(1, 13))],
        "torch_dtype": "float32",
        "transformers_version": "4.32.0.dev0",
        "use_swiglu_ffn": False,
    },
    "openai/clip-vit-base-patch32, its encoder of images": {
        "architectures": ["CLIPVisionModelWithProjection"],
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "image_size": 224,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_vision_model",
        "num_attention_heads": 12,
        "num_channels": 3,
        "num_hidden_layers": 12,
        "patch_size": 32,
        "projection_dim": 512,
        "torch_dtype": "float32",
        "transformers_version": "4.28.0",
    },
    "google/siglip-base-patch16-224, its encoder of images": {
        "architectures": ["SiglipVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 768,
        "image_size": 224,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-06,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 12,
        "num_channels": 3,
        "num_hidden_layers": 12,
        "patch_size": 16,
        "transformers_version": "4.37.0",
    },
    "answerdotai/ModernBERT-base": {
        "architectures": ["ModernBertForMaskedLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 50281,
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "classifier_dropout": 0.0,
        "classifier_pooling": "mean",
        "cls_token_id": 50281,
        "decoder_bias": True,
        "deterministic_flash_attn": False,
        "embedding_dropout": 0.0,
        "eos_token_id": 50282,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "gradient_checkpointing": False,
        "hidden_activation": "gelu",
        "hidden_size": 768,
        "initializer_cutoff_factor": 2.0,
        "initializer_range": 0.02,
        "intermediate_size": 1152,
        "layer_norm_eps": 1e-05,
        "local_attention": 128,
        "local_rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "mlp_dropout": 0.0,
        "model_type": "modernbert",
        "norm_bias": False,
        "norm_eps": 1e-05,
        "num_attention_heads": 12,
        "num_hidden_layers": 22,
        "pad_token_id": 50283,
        "position_embedding_type": "absolute",
        "sep_token_id": 50282,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "transformers_version": "4.47.0.dev0",
        "vocab_size": 50368,
    },
    "bert-base-multilingual-cased, with a classifier": {
        "architectures": ["BertForSequenceClassification"],
        "attention_probs_dropout_prob": 0.1,
        "directionality": "bidi",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": 119547,
    },
    "sentence-transformers/all-MiniLM-L6-v2": {
        "_name_or_path": "nreimers/MiniLM-L6-H384-uncased",
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 384,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 12,
        "num_hidden_layers": 6,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "transformers_version": "4.8.2",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": 30522,
    },
    "distilbert-base-uncased-finetuned-sst-2-english": {
        "activation": "gelu",
        "architectures": ["DistilBertForSequenceClassification"],
        "attention_dropout": 0.1,
        "dim": 768,
        "dropout": 0.1,
        "finetuning_task": "sst-2",
        "hidden_dim": 3072,
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "initializer_range": 0.02,
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        "max_position_embeddings": 512,
        "model_type": "distilbert",
        "n_heads": 12,
        "n_layers": 6,
        "output_past": True,
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "vocab_size": 30522,
    },
    "sentence-transformers/all-mpnet-base-v2, its encoder": {
        "_name_or_path": "microsoft/mpnet-base",
        "architectures": ["MPNetModel"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 514,
        "model_type": "mpnet",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "relative_attention_num_buckets": 32,
        "transformers_version": "4.8.2",
        "vocab_size": 30527,
    },
    "google/electra-small-discriminator, its encoder": {
        "architectures": ["ElectraModel"],
        "attention_probs_dropout_prob": 0.1,
        "embedding_size": 128,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 256,
        "initializer_range": 0.02,
        "intermediate_size": 1024,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "electra",
        "num_attention_heads": 4,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "summary_activation": "gelu",
        "summary_last_dropout": 0.1,
        "summary_type": "first",
        "summary_use_proj": True,
        "transformers_version": "4.6.0",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": 30522,
    },
    "facebook/wav2vec2-base-960h": {
        "_name_or_path": "facebook/wav2vec2-base-960h",
        "activation_dropout": 0.1,
        "apply_spec_augment": True,
        "architectures": ["Wav2Vec2ForCTC"],
        "attention_dropout": 0.1,
        "bos_token_id": 1,
        "codevector_dim": 256,
        "contrastive_logits_temperature": 0.1,
        "conv_bias": False,
        "conv_dim": [512, 512, 512, 512, 512, 512, 512],
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "ctc_loss_reduction": "sum",
        "ctc_zero_infinity": False,
        "diversity_loss_weight": 0.1,
        "do_stable_layer_norm": False,
        "eos_token_id": 2,
        "feat_extract_activation": "gelu",
        "feat_extract_dropout": 0.0,
        "feat_extract_norm": "group",
        "feat_proj_dropout": 0.1,
        "feat_quantizer_dropout": 0.0,
        "final_dropout": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout": 0.1,
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "layerdrop": 0.1,
        "mask_feature_length": 10,
        "mask_feature_prob": 0.0,
        "mask_time_length": 10,
        "mask_time_prob": 0.05,
        "model_type": "wav2vec2",
        "num_attention_heads": 12,
        "num_codevector_groups": 2,
        "num_codevectors_per_group": 320,
        "num_conv_pos_embedding_groups": 16,
        "num_conv_pos_embeddings": 128,
        "num_feat_extract_layers": 7,
        "num_hidden_layers": 12,
        "num_negatives": 100,
        "pad_token_id": 0,
        "proj_codevector_dim": 256,
        "transformers_version": "4.7.0.dev0",
        "vocab_size": 32,
    },
    "superb/wav2vec2-base-superb-ks": {
        "architectures": ["Wav2Vec2ForSequenceClassification"],
        "finetuning_task": "ks",
        "freeze_feat_extract_train": True,
        "id2label": {"0": "yes", "1": "no"},
        "label2id": {"yes": "0", "no": "1"},
        "mask_channel_length": 10,
        "mask_channel_min_space": 1,
        "mask_channel_other": 0.0,
        "mask_channel_prob": 0.0,
        "mask_channel_selection": "static",
        "mask_time_min_space": 1,
        "mask_time_other": 0.0,
        "mask_time_selection": "static",
        "model_type": "wav2vec2",
        "no_mask_channel_overlap": False,
        "no_mask_time_overlap": False,
        "use_weighted_layer_sum": True,
        "classifier_proj_size": 256,
    },
    "microsoft/wavlm-base-plus, with a classifier": {
        "architectures": ["WavLMForSequenceClassification"],
        "feat_proj_layer_norm": True,
        "max_bucket_distance": 800,
        "model_type": "wavlm",
        "num_buckets": 320,
        "num_ctc_classes": 80,
        "replace_prob": 0.5,
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "torch_dtype": "float32",
    },
    "microsoft/unispeech-sat-base-plus, its encoder": {
        "architectures": ["UniSpeechSatModel"],
        "activation_dropout": 0.0,
        "apply_spec_augment": True,
        "classifier_proj_size": 256,
        "codevector_dim": 256,
        "conv_bias": False,
        "conv_dim": [512, 512, 512, 512, 512, 512, 512],
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "ctc_loss_reduction": "sum",
        "do_stable_layer_norm": False,
        "feat_extract_norm": "group",
        "feat_proj_dropout": 0.1,
        "feat_quantizer_dropout": 0.0,
        "freeze_feat_extract_train": True,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layerdrop": 0.05,
        "mask_channel_length": 10,
        "mask_channel_selection": "static",
        "model_type": "unispeech-sat",
        "num_clusters": 504,
        "num_codevectors_per_group": 320,
        "num_feat_extract_layers": 7,
        "tdnn_dilation": [1, 2, 3, 1, 1],
        "tdnn_dim": [512, 512, 512, 512, 1500],
        "tdnn_kernel": [5, 3, 3, 1, 1],
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "vocab_size": 32,
        "xvector_output_dim": 512,
    },
    "openai/whisper-tiny, with a classifier": {
        "architectures": ["WhisperForAudioClassification"],
        "classifier_proj_size": 256,
        "d_model": 384,
        "decoder_attention_heads": 6,
        "decoder_layers": 4,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "encoder_layers": 4,
        "id2label": {"0": "af", "1": "am"},
        "is_encoder_decoder": True,
        "label2id": {"af": "0", "am": "1"},
        "max_source_positions": 1500,
        "model_type": "whisper",
        "num_mel_bins": 80,
        "use_weighted_layer_sum": False,
        "vocab_size": 51865,
    },
    "openai/whisper-tiny": {
        "_name_or_path": "openai/whisper-tiny",
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"],
        "attention_dropout": 0.0,
        "begin_suppress_tokens": [220, 50257],
        "bos_token_id": 50257,
        "d_model": 384,
        "decoder_attention_heads": 6,
        "decoder_ffn_dim": 1536,
        "decoder_layerdrop": 0.0,
        "decoder_layers": 4,
        "decoder_start_token_id": 50258,
        "dropout": 0.0,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 1536,
        "encoder_layerdrop": 0.0,
        "encoder_layers": 4,
        "eos_token_id": 50257,
        "forced_decoder_ids": [[1, 50259], [2, 50359], [3, 50363]],
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "max_length": 448,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "model_type": "whisper",
        "num_hidden_layers": 4,
        "num_mel_bins": 80,
        "pad_token_id": 50257,
        "scale_embedding": False,
        "suppress_tokens": [1, 2, 7, 8, 9],
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": 51865,
    },
}


def written(name: str, *, whole: bool) -> dict[str, Any]:
    """config.json of a class as transformers saves it, every key or only what differs from the default."""
    config = getattr(transformers, name).config_class(architectures=[name])
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
    # A property, of `local_attention`; as a key it is refused of any class.
    "modernbert": {"sliding_window"},
    "whisper": {"n_positions"},
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
