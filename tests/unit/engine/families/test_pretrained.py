"""The checkpoints that most models begin as, at their real size: config.json as published, and the names in their files."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import transformers

from api_schemas.enums import Head
from checkpoints.describe import describe_checkpoint
from checkpoints.files.safetensors_header import TensorInfo
from checkpoints.sizes import accounting

BERT: Mapping[str, Any] = {
    "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
    "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
ROBERTA: Mapping[str, Any] = {
    "architectures": ["RobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 514, "model_type": "roberta", "num_attention_heads": 12,
    "num_hidden_layers": 12, "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 50265,
}  # fmt: skip
DISTILBERT: Mapping[str, Any] = {
    "activation": "gelu", "architectures": ["DistilBertForMaskedLM"], "attention_dropout": 0.1, "dim": 768, "dropout": 0.1,
    "hidden_dim": 3072, "initializer_range": 0.02, "max_position_embeddings": 512, "model_type": "distilbert", "n_heads": 12,
    "n_layers": 6, "pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False,
    "tie_weights_": True, "transformers_version": "4.10.0.dev0", "vocab_size": 30522,
}  # fmt: skip
VIT: Mapping[str, Any] = {
    "architectures": ["ViTModel"], "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
    "hidden_size": 768, "image_size": 224, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
    "model_type": "vit", "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16,
    "qkv_bias": True, "transformers_version": "4.13.0.dev0",
}  # fmt: skip
_WAVES: Mapping[str, Any] = {
    "activation_dropout": 0.1, "apply_spec_augment": True, "attention_dropout": 0.1, "bos_token_id": 1, "conv_bias": False,
    "conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "ctc_loss_reduction": "sum", "ctc_zero_infinity": False, "do_stable_layer_norm": False, "eos_token_id": 2,
    "feat_extract_activation": "gelu", "feat_extract_norm": "group", "feat_proj_dropout": 0.1, "final_dropout": 0.0,
    "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "layerdrop": 0.1,
    "mask_feature_length": 10, "mask_feature_prob": 0.0, "mask_time_length": 10, "mask_time_prob": 0.05,
    "num_attention_heads": 12, "num_conv_pos_embedding_groups": 16, "num_conv_pos_embeddings": 128,
    "num_feat_extract_layers": 7, "num_hidden_layers": 12, "pad_token_id": 0, "vocab_size": 32,
}  # fmt: skip
HUBERT = {**_WAVES, "architectures": ["HubertModel"], "model_type": "hubert"}
WAV2VEC2: Mapping[str, Any] = {
    **_WAVES, "architectures": ["Wav2Vec2ForPreTraining"], "model_type": "wav2vec2", "activation_dropout": 0.0,
    "codevector_dim": 256, "contrastive_logits_temperature": 0.1, "diversity_loss_weight": 0.1, "feat_quantizer_dropout": 0.0,
    "mask_channel_length": 10, "mask_channel_min_space": 1, "mask_channel_other": 0.0, "mask_channel_prob": 0.0,
    "mask_channel_selection": "static", "mask_time_min_space": 1, "mask_time_other": 0.0, "mask_time_selection": "static",
    "no_mask_channel_overlap": False, "no_mask_time_overlap": False, "num_codevector_groups": 2,
    "num_codevectors_per_group": 320, "num_negatives": 100, "proj_codevector_dim": 256,
}  # fmt: skip

OLD_NORMS = ((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))
OLD_WEIGHT_NORM = (
    (r"parametrizations\.weight\.original0", "weight_g"),
    (r"parametrizations\.weight\.original1", "weight_v"),
)
OLD_LAYERS = (
    (r"^layers\.(\d+)\.", r"encoder.layer.\1."),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"attention\.(q|k|v)_proj", r"attention.attention.\1_proj"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)
SENTENCES = {
    "cls.seq_relationship.weight": (2, 768), "cls.seq_relationship.bias": (2,),
    "bert.pooler.dense.weight": (768, 768), "bert.pooler.dense.bias": (768,),
}  # fmt: skip
POOLED = {"roberta.pooler.dense.weight": (768, 768), "roberta.pooler.dense.bias": (768,)}
PROJECTED = {"vocab_projector.weight": (30522, 768)}

PUBLISHED: Mapping[str, Any] = {
    "bert-base-uncased": (BERT, Head.MASKED_LM, OLD_NORMS, SENTENCES),
    "roberta-base": (ROBERTA, Head.MASKED_LM, (), POOLED),
    "distilbert-base-uncased": (DISTILBERT, Head.MASKED_LM, (), PROJECTED),
    "google/vit-base-patch16-224-in21k": (VIT, Head.HIDDEN_STATES, OLD_LAYERS, {}),
    "facebook/hubert-base-ls960": (HUBERT, Head.HIDDEN_STATES, OLD_WEIGHT_NORM, {}),
    "facebook/wav2vec2-base": (WAV2VEC2, Head.HIDDEN_STATES, OLD_WEIGHT_NORM, {}),
    "the same, whose codes are those of the class": (
        {key: value for key, value in WAV2VEC2.items() if "codevector" not in key},
        Head.HIDDEN_STATES,
        (),
        {},
    ),
}
"""By its name on the hub: config.json, what it answers with, how the file names tensors, and which it has beside."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_taken(name: str) -> None:
    config, head, renamed, beside = PUBLISHED[name]
    stock_class = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        stock = stock_class(stock_class.config_class(**config))
    shapes = {
        key: tuple(tensor.shape) for key, tensor in stock.state_dict().items() if key not in stock.all_tied_weights_keys
    } | beside
    tensors = {}
    for key, shape in shapes.items():
        for pattern, by in renamed:
            key = re.sub(pattern, by, key)
        tensors[key] = TensorInfo(dtype="F32", shape=shape, start=0, end=4 * math.prod(shape))
    described = describe_checkpoint(config, tensors)
    assert (described.name, described.architecture.head, described.labels) == (config["architectures"][0], head, ())
    counted = accounting.total_parameters(described.shape, described.widths)
    assert counted == sum(parameter.numel() for parameter in stock.parameters())
    left_out = sorted(set(beside) - stock.state_dict().keys())
    warned = [warning.detail for warning in described.warnings if warning.code == "tensors_ignored"]
    assert len(warned) == bool(left_out)
    assert all(key in warned[0] for key in left_out)
