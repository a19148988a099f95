"""Fields of config.json that no formula here reads but that checkpoints contain, with their allowed values.

A field that neither a family's own data nor these tables name is dropped, with a warning, before any transformers class sees it:
all kinds of tools write into a config, and no stock class reads their fields. The tables contain what transformers 4 and 5 write
for the supported classes, and what published checkpoints of them have from older tools. If a new version of transformers reads
another key, add it with a rule; tests/unit/checkpoints/config/test_config_fields.py looks for such keys in its sources.
"""

from collections.abc import Mapping

from checkpoints.config_rules import AnyOf, Boolean, Integer, ListOf, Null, Number, Numbering, OneOf, Rule, String

# transformers' names of activation functions; any other ends its loader.
ACTIVATIONS = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
    "hardswish",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "prelu",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
)
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "paged_attention")
"""Built into transformers; any other is a repository of compiled kernels."""

SIZE = Integer(1, 2**20)
COUNT = Integer(0, 2**20)
RATE = Number(0.0, 1.0)
SCALE = Number(0.0, 1e3)
WEIGHT = Number(-1e6, 1e6, null=True)
FLAG = Boolean()
SHORT = String()
TOKEN = Integer(-1, 2**24)
TOKENS = AnyOf(TOKEN, ListOf(TOKEN))
ACTIVATION = OneOf(ACTIVATIONS)
SIZES = ListOf(SIZE, 64)

GENERATION: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("do_sample", "early_stopping", "output_scores", "return_dict_in_generate", "remove_invalid_values"), FLAG
    ),
    **dict.fromkeys(
        ("max_length", "min_length", "num_beams", "num_beam_groups", "num_return_sequences", "top_k"), COUNT
    ),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size"), COUNT),
    **dict.fromkeys(("diversity_penalty", "repetition_penalty", "length_penalty"), WEIGHT),
    **dict.fromkeys(("temperature", "top_p", "typical_p"), WEIGHT),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id"), TOKEN),
    "eos_token_id": TOKENS,
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id"), TOKENS),
    **dict.fromkeys(("pad_token_id", "sep_token_id"), TOKEN),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), ListOf(TOKEN)),
    "forced_decoder_ids": ListOf(ListOf(TOKEN, 2), 64),
    **dict.fromkeys(("bad_words_ids", "exponential_decay_length_penalty", "task_specific_params", "prefix"), Null()),
}
"""What configurations said of generation before it had a file of its own, of any model."""

ANY: Mapping[str, Rule] = {
    **GENERATION,
    "architectures": ListOf(SHORT, 1),
    "model_type": SHORT,
    **dict.fromkeys(
        ("_name_or_path", "name_or_path", "transformers_version", "tokenizer_class", "finetuning_task"), SHORT
    ),
    **dict.fromkeys(("dtype", "torch_dtype"), OneOf(("auto", "float32", "float16", "bfloat16", "float64"), null=True)),
    **dict.fromkeys(
        ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"), OneOf(ATTENTION, null=True)
    ),
    **dict.fromkeys(("_attn_implementation_autoset", "return_dict", "output_hidden_states", "output_attentions"), FLAG),
    **dict.fromkeys(
        ("torchscript", "use_bfloat16", "tf_legacy_loss", "tie_word_embeddings", "tie_encoder_decoder"), FLAG
    ),
    **dict.fromkeys(("is_encoder_decoder", "is_decoder", "use_cache", "output_past", "gradient_checkpointing"), FLAG),
    **dict.fromkeys(("add_cross_attention", "xla_device"), Null()),
    **dict.fromkeys(("pruned_heads", "cross_attention_hidden_size"), Null()),
    **dict.fromkeys(("custom_pipelines", "quantization_config"), Null()),
    "chunk_size_feed_forward": COUNT,
    "label2id": Numbering(),
    "problem_type": SHORT,
    **dict.fromkeys(("num_labels", "_num_labels"), COUNT),
    **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob"), RATE),
    **dict.fromkeys(("classifier_dropout", "classifier_dropout_prob"), Number(0.0, 1.0, null=True)),
    "initializer_range": SCALE,
    "layer_norm_eps": RATE,
    "hidden_act": ACTIVATION,
}
"""Of any class."""

ANYWHERE: Mapping[str, Rule] = dict.fromkeys(
    (
        "attention_chunk_size",
        "distributed_config",
        "fusion_config",
        "is_causal",
        "layer_types",
        "per_layer_config",
        "rope_parameters",
        "rope_scaling",
        "sliding_window",
    ),
    Null(),
)
"""What transformers' code for all classes reads of any configuration, and what would be computed otherwise by it."""

PATCHES: Mapping[str, Rule] = {
    "encoder_stride": SIZE,
    "pooler_act": ACTIVATION,
    "pooler_output_size": SIZE,
}

CLIP_VISION: Mapping[str, Rule] = {
    "attention_dropout": RATE,
    "initializer_factor": SCALE,
    # Of what transformers 4 wrote into a part of a whole CLIP.
    **dict.fromkeys(("dropout", "projection_dim"), AnyOf(RATE, COUNT)),
}

DINOV2: Mapping[str, Rule] = {
    "layerscale_value": SCALE,
    "drop_path_rate": RATE,
    **dict.fromkeys(("apply_layernorm", "reshape_hidden_states"), FLAG),
    # Of a backbone.
    **dict.fromkeys(("stage_names", "out_features"), ListOf(SHORT, 1025)),
    "out_indices": ListOf(COUNT, 1025),
}

# Of what moves and scales positions in training, the largest factors: a logarithm is taken of them.
_FACTOR = Number(1.0, 1e3, null=True)
DINOV3: Mapping[str, Rule] = {
    **DINOV2,
    "attention_dropout": RATE,
    "rope_theta": Number(1.0, 1e12),
    "pos_embed_shift": Number(0.0, 1e3, null=True),
    **dict.fromkeys(("pos_embed_jitter", "pos_embed_rescale"), _FACTOR),
    "return_class_token": FLAG,
}

SIGLIP_VISION: Mapping[str, Rule] = {"attention_dropout": RATE}

TEXT: Mapping[str, Rule] = {
    "position_embedding_type": SHORT,
    "directionality": SHORT,
    **dict.fromkeys(
        ("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head"), COUNT
    ),
    "pooler_type": SHORT,
    "language": SHORT,
    "model_max_length": COUNT,
}

ELECTRA: Mapping[str, Rule] = {
    **TEXT,
    # How a summary of all tokens would be made, of which the classes here have none.
    **dict.fromkeys(("summary_type", "summary_activation"), SHORT),
    "summary_use_proj": FLAG,
    "summary_last_dropout": RATE,
}

DISTILLED: Mapping[str, Rule] = {
    "activation": ACTIVATION,
    **dict.fromkeys(("attention_dropout", "dropout", "qa_dropout", "seq_classif_dropout"), RATE),
    **dict.fromkeys(("sinusoidal_pos_embds", "tie_weights_", "output_past"), FLAG),
}

_MASKS: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("mask_feature_length", "mask_feature_min_masks", "mask_time_length", "mask_time_min_masks"), COUNT
    ),
    **dict.fromkeys(("mask_feature_prob", "mask_time_prob"), RATE),
    "apply_spec_augment": FLAG,
}

WAVEFORM: Mapping[str, Rule] = {
    **_MASKS,
    **dict.fromkeys(("activation_dropout", "attention_dropout", "final_dropout", "hidden_dropout", "layerdrop"), RATE),
    **dict.fromkeys(("feat_proj_dropout", "feat_quantizer_dropout", "feat_extract_dropout", "conv_pos_dropout"), RATE),
    **dict.fromkeys(("feat_extract_activation", "conv_pos_activation"), ACTIVATION),
    **dict.fromkeys(
        ("feat_proj_layer_norm", "freeze_feat_extract_train", "ctc_zero_infinity", "do_stable_layer_norm"), FLAG
    ),
    "ctc_loss_reduction": OneOf(("sum", "mean")),
    **dict.fromkeys(("num_feat_extract_layers", "num_adapter_layers", "adapter_kernel_size", "adapter_stride"), COUNT),
    **dict.fromkeys(
        ("output_hidden_size", "xvector_output_dim", "num_ctc_classes", "num_clusters", "num_negatives"), COUNT
    ),
    **dict.fromkeys(
        ("codevector_dim", "proj_codevector_dim", "num_codevectors_per_group", "num_codevector_groups"), COUNT
    ),
    **dict.fromkeys(("contrastive_logits_temperature", "diversity_loss_weight"), WEIGHT),
    **dict.fromkeys(("tdnn_dilation", "tdnn_dim", "tdnn_kernel"), SIZES),
    # fairseq's own, which the first conversions carried along.
    **dict.fromkeys(("mask_channel_length", "mask_channel_min_space", "mask_time_min_space"), COUNT),
    **dict.fromkeys(("mask_channel_other", "mask_channel_prob", "mask_time_other", "replace_prob"), RATE),
    **dict.fromkeys(
        ("mask_channel_selection", "mask_time_selection", "extractor_mode", "final_dim"), AnyOf(SHORT, COUNT)
    ),
    **dict.fromkeys(("no_mask_channel_overlap", "no_mask_time_overlap", "feat_proj_norm"), FLAG),
    **dict.fromkeys(("num_buckets", "max_bucket_distance"), SIZE),
}

WHISPER: Mapping[str, Rule] = {
    **_MASKS,
    **dict.fromkeys(
        ("activation_dropout", "attention_dropout", "dropout", "encoder_layerdrop", "decoder_layerdrop"), RATE
    ),
    "activation_function": ACTIVATION,
    "init_std": SCALE,
    **dict.fromkeys(("scale_embedding", "use_weighted_layer_sum"), FLAG),
    **dict.fromkeys(("median_filter_width", "num_hidden_layers", "classifier_proj_size"), COUNT),
}

QWEN2_AUDIO_ENCODER: Mapping[str, Rule] = {
    **dict.fromkeys(("activation_dropout", "attention_dropout", "dropout", "encoder_layerdrop"), RATE),
    "activation_function": ACTIVATION,
    # Of what transformers 4 wrote.
    "init_std": SCALE,
    "scale_embedding": FLAG,
}

QWEN2_AUDIO: Mapping[str, Rule] = {
    # Of what transformers 4 wrote.
    "ignore_index": Integer(-(2**24), 2**24),
    "vocab_size": SIZE,
}
"""Beside the configurations of its parts."""

GPT2: Mapping[str, Rule] = {
    "n_inner": SIZE,
    "activation_function": ACTIVATION,
    **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout", "layer_norm_epsilon"), RATE),
    **dict.fromkeys(("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"), FLAG),
    # Of classes that stand beside it.
    **dict.fromkeys(("summary_first_dropout", "summary_last_dropout"), RATE),
    **dict.fromkeys(("summary_use_proj", "summary_proj_to_labels"), FLAG),
    "summary_type": SHORT,
    "summary_activation": OneOf(ACTIVATIONS, null=True),
    "n_ctx": COUNT,
}

OPT: Mapping[str, Rule] = {
    **dict.fromkeys(("activation_dropout", "attention_dropout", "dropout", "layerdrop"), RATE),
    "activation_function": ACTIVATION,
    "init_std": SCALE,
    "word_embed_proj_dim": SIZE,
    "_remove_final_layer_norm": FLAG,
}

CLAP: Mapping[str, Rule] = {
    "aff_block_r": COUNT,
    "drop_path_rate": RATE,
    **dict.fromkeys(("enable_fusion", "flatten_patch_embeds", "enable_patch_layer_norm"), FLAG),
    "fusion_type": SHORT,
    "initializer_factor": SCALE,
    "mlp_ratio": Number(0.0, 64.0),
    **dict.fromkeys(
        ("num_classes", "num_hidden_layers", "patch_embed_input_channels", "fusion_num_hidden_layers"), COUNT
    ),
    "projection_hidden_act": ACTIVATION,
}

CLAP_TEXT: Mapping[str, Rule] = {**TEXT, "initializer_factor": SCALE, "projection_hidden_act": ACTIVATION}

NOTES = frozenset(
    {
        *("_name_or_path", "name_or_path", "transformers_version", "tokenizer_class", "finetuning_task", "_num_labels"),
        *(
            "task_specific_params",
            "prefix",
            "xla_device",
            "torchscript",
            "use_bfloat16",
            "tf_legacy_loss",
            "output_past",
        ),
        *(
            "directionality",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
        ),
        *("pooler_type", "language", "model_max_length", "tie_weights_", "_attn_implementation_autoset"),
        *(
            "mask_channel_length",
            "mask_channel_min_space",
            "mask_time_min_space",
            "mask_channel_other",
            "mask_channel_prob",
        ),
        *(
            "mask_time_other",
            "replace_prob",
            "mask_channel_selection",
            "mask_time_selection",
            "extractor_mode",
            "final_dim",
        ),
        *("no_mask_channel_overlap", "no_mask_time_overlap", "feat_proj_norm"),
    }
)
"""Of all these, the keys that no class reads: with a value that its rule does not allow, one is left out like any other key."""
