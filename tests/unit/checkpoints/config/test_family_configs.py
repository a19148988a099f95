"""config.json of every family: what cannot be pruned is refused by name, with what can."""

import copy
import importlib
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from api_schemas.enums import Head
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.checkpoint_config import read_config
from checkpoints.families import FAMILIES

REFUSED = [
    ("BertModel", "is_decoder", True),
    ("BertModel", "add_cross_attention", True),
    ("BertModel", "position_embedding_type", "relative_key"),
    ("BertModel", "chunk_size_feed_forward", 8),
    ("BertModel", "num_attention_heads", 7),
    ("BertModel", "hidden_act", "softplus"),
    ("RobertaModel", "max_position_embeddings", 2),
    ("DistilBertModel", "n_heads", 7),
    ("MPNetModel", "max_position_embeddings", 2),
    ("MPNetModel", "relative_attention_num_buckets", 31),
    ("MPNetModel", "relative_attention_num_buckets", "32"),
    ("MPNetModel", "num_attention_heads", 7),
    ("MPNetModel", "vocab_size", 1),
    ("MPNetForMaskedLM", "hidden_act", "softplus"),
    ("ElectraModel", "embedding_size", 0),
    ("ElectraModel", "embedding_size", "128"),
    ("ElectraModel", "hidden_size", None),
    ("ElectraModel", "num_attention_heads", 7),
    ("ElectraModel", "is_decoder", True),
    ("ElectraModel", "summary_use_proj", "yes"),
    ("ElectraForQuestionAnswering", "num_labels", 3),
    ("ElectraForSequenceClassification", "classifier_dropout", 2),
    ("DistilBertModel", "dim", "768"),
    ("DistilBertModel", "n_layers", 2000),
    ("DistilBertModel", "activation", "softplus"),
    *(
        ("ModernBertModel", key, value)
        for key, value in (
            ("num_attention_heads", 7),
            ("num_attention_heads", 256),
            ("num_hidden_layers", 2000),
            ("hidden_activation", "softplus"),
            ("hidden_activation", 7),
            ("classifier_pooling", "max"),
            ("local_attention", 1),
            ("local_attention", 0),
            ("local_attention", 64.5),
            ("global_attn_every_n_layers", 0),
            ("layer_types", ["full_attention"]),
            ("layer_types", ["full_attention"] * 21 + ["chunked_attention"]),
            ("layer_types", "full_attention"),
            ("layer_types", []),
            ("rope_parameters", {"rope_type": "default", "rope_theta": 10_000.0}),
            ("rope_parameters", {"full_attention": {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0}}),
            ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 0}}),
            ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": None}}),
            ("rope_parameters", {"full_attention": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            ("rope_parameters", [1]),
            ("rope_parameters", {"sliding_attention": None}),
            ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
            ("global_rope_theta", 0),
            ("local_rope_theta", "10000"),
            ("local_rope_theta", 1e300),
            ("sliding_window", 4),
            ("head_dim", 4),
            ("pad_token_id", 60_000),
            ("norm_bias", 1),
            ("mlp_bias", "no"),
            ("intermediate_size", 0),
            ("norm_eps", 2.0),
            ("sparse_pred_ignore_index", "x"),
        )
    ),
    ("ViTForImageClassification", "patch_size", 256),
    ("ViTForImageClassification", "image_size", [224, 224, 3]),
    ("ViTForImageClassification", "qkv_bias", "yes"),
    ("ViTForImageClassification", "head_dim", 0),
    ("DeiTForImageClassification", "num_attention_heads", 5),
    ("Dinov2Model", "use_swiglu_ffn", True),
    ("Dinov2Model", "mlp_ratio", 0),
    ("Dinov2Model", "mlp_ratio", 2.5),
    ("Dinov2Model", "image_size", [224, 238]),
    ("Dinov2Model", "patch_size", [14, 7]),
    ("Dinov2Model", "patch_size", 225),
    ("Dinov2Model", "head_dim", 0),
    ("Dinov2Model", "use_mask_token", None),
    ("Dinov2Model", "layerscale_value", "small"),
    ("Dinov2Model", "out_features", ["stage1", "stage12"]),
    ("Dinov2Model", "out_indices", [0]),
    ("Dinov2Model", "stage_names", ["stem"]),
    ("Dinov2ForImageClassification", "num_attention_heads", 7),
    *(
        ("DINOv3ViTModel", key, value)
        for key, value in (
            ("num_attention_heads", 7),
            ("num_attention_heads", 64),
            ("num_attention_heads", 384),
            ("num_attention_heads", 2048),
            ("hidden_size", 0),
            ("num_hidden_layers", 2000),
            ("intermediate_size", 0),
            ("num_register_tokens", -1),
            ("num_register_tokens", None),
            ("image_size", [224, 224]),
            ("patch_size", [16, 16]),
            ("patch_size", 225),
            ("use_gated_mlp", 1),
            ("key_bias", "no"),
            ("mlp_bias", None),
            ("hidden_act", "softplus"),
            ("rope_theta", 0),
            ("rope_theta", "100"),
            ("rope_theta", float("nan")),
            ("rope_theta", None),
            ("pos_embed_rescale", 0.5),
            ("pos_embed_jitter", "small"),
            ("pos_embed_shift", -1),
            ("layer_norm_eps", 2.0),
            ("attention_dropout", "none"),
            ("rope_parameters", {"rope_type": "default"}),
            ("out_features", ["stage1", "stage12"]),
            ("out_indices", [0]),
        )
    ),
    ("CLIPVisionModel", "image_size", [224, 224]),
    ("CLIPVisionModel", "patch_size", [16, 16]),
    ("CLIPVisionModel", "patch_size", 225),
    ("CLIPVisionModel", "num_attention_heads", 7),
    ("CLIPVisionModelWithProjection", "projection_dim", 0),
    ("CLIPVisionModelWithProjection", "hidden_act", "softplus"),
    ("SiglipVisionModel", "vision_use_head", 1),
    ("SiglipVisionModel", "image_size", [224, 224]),
    ("SiglipVisionModel", "attention_dropout", "none"),
    ("Wav2Vec2ForCTC", "add_adapter", True),
    ("Wav2Vec2ForCTC", "adapter_attn_dim", 16),
    ("Wav2Vec2ForCTC", "conv_dim", [512, 512]),
    ("Wav2Vec2ForCTC", "conv_kernel", 10),
    ("Wav2Vec2ForCTC", "conv_kernel", [10, 3, 3, 3, 3, 2, 2**20]),
    ("Wav2Vec2ForCTC", "feat_extract_norm", "batch"),
    ("Wav2Vec2ForCTC", "num_conv_pos_embedding_groups", 7),
    ("Wav2Vec2ForCTC", "feat_extract_activation", "softplus"),
    ("Wav2Vec2ForPreTraining", "num_codevector_groups", 7),
    ("HubertForCTC", "conv_pos_batch_norm", True),
    ("UniSpeechForCTC", "pad_token_id", 32),
    ("UniSpeechForCTC", "conv_dim", [512, 512]),
    ("UniSpeechSatForSequenceClassification", "classifier_proj_size", 0),
    ("UniSpeechSatModel", "num_conv_pos_embedding_groups", 7),
    ("UniSpeechSatModel", "num_clusters", "many"),
    ("UniSpeechSatModel", "adapter_attn_dim", 16),
    ("WhisperForAudioClassification", "classifier_proj_size", 0),
    ("WhisperForAudioClassification", "encoder_attention_heads", 7),
    ("WhisperForAudioClassification", "encoder_layers", 5000),
    ("WhisperForAudioClassification", "use_weighted_layer_sum", "no"),
    ("WhisperForAudioClassification", "num_labels", 1),
    ("Qwen2AudioEncoder", "encoder_attention_heads", 7),
    ("Qwen2AudioEncoder", "encoder_attention_heads", 1280),
    ("Qwen2AudioEncoder", "encoder_layers", 5000),
    ("Qwen2AudioEncoder", "encoder_ffn_dim", 0),
    ("Qwen2AudioEncoder", "max_source_positions", 2**21),
    ("Qwen2AudioEncoder", "num_mel_bins", "128"),
    ("Qwen2AudioEncoder", "activation_function", "softplus"),
    ("Qwen2AudioEncoder", "scale_embedding", 1),
    ("SEWForCTC", "squeeze_factor", 4000),
    ("SEWForCTC", "squeeze_factor", 0),
    ("GPT2LMHeadModel", "n_head", 7),
    ("GPT2LMHeadModel", "n_embd", 0),
    ("GPT2LMHeadModel", "n_inner", 0),
    ("GPT2LMHeadModel", "n_inner", "3072"),
    ("GPT2LMHeadModel", "n_layer", 2000),
    ("GPT2LMHeadModel", "n_positions", 1),
    ("GPT2LMHeadModel", "n_positions", 2**21),
    ("GPT2LMHeadModel", "hidden_size", 32),
    ("GPT2LMHeadModel", "vocab_size", None),
    ("GPT2LMHeadModel", "activation_function", "softplus"),
    ("GPT2LMHeadModel", "add_cross_attention", True),
    ("GPT2LMHeadModel", "scale_attn_weights", "no"),
    ("GPT2LMHeadModel", "layer_norm_epsilon", float("nan")),
    ("OPTForCausalLM", "num_attention_heads", 7),
    ("OPTForCausalLM", "ffn_dim", -1),
    ("OPTForCausalLM", "word_embed_proj_dim", 0),
    ("OPTForCausalLM", "pad_token_id", 50272),
    ("OPTForCausalLM", "pad_token_id", -1),
    ("OPTForCausalLM", "enable_bias", 1),
    ("OPTForCausalLM", "do_layer_norm_before", "yes"),
    ("OPTForCausalLM", "max_position_embeddings", 1),
    ("OPTForCausalLM", "layerdrop", 2.0),
    *(
        (name, key, value)
        for name in ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
        for key, value in (
            ("num_key_value_heads", 5),
            ("num_key_value_heads", 64),
            ("num_key_value_heads", 0),
            ("num_key_value_heads", "8"),
            ("num_key_value_heads", 2**30),
            ("num_attention_heads", 0),
            ("num_attention_heads", 2048),
            ("head_dim", 0),
            ("head_dim", 63),
            ("head_dim", "64"),
            ("head_dim", 2**20),
            ("head_dim", 2**30),
            ("hidden_size", None),
            ("intermediate_size", [11008]),
            ("num_hidden_layers", 2000),
            ("max_position_embeddings", 1),
            ("vocab_size", 0),
            ("pad_token_id", 10**6),
            ("rope_theta", 0),
            ("rope_theta", "10000"),
            ("rope_theta", 1e300),
            ("partial_rotary_factor", 0.5),
            ("rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
            ("rope_scaling", {"rope_type": "linear"}),
            ("rope_scaling", {"type": "dynamic"}),
            ("rope_scaling", {"type": 1, "factor": 2.0}),
            ("rope_scaling", {"rope_type": "linear", "factor": 0}),
            ("rope_scaling", {"rope_type": "linear", "factor": None}),
            ("rope_scaling", {"rope_type": "yarn", "factor": float("inf")}),
            ("rope_scaling", "linear"),
            ("rope_parameters", [1]),
            ("rope_parameters", {"rope_type": "llama3", "factor": 8.0}),
            (
                "rope_parameters",
                {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
            ),
            ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
            ("rope_parameters", {"full_attention": {"rope_type": "default"}}),
            ("hidden_act", "softplus"),
            ("rms_norm_eps", -1.0),
            ("tie_word_embeddings", "no"),
        )
    ),
    *((name, "num_attention_heads", 7) for name in ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")),
    ("MistralForCausalLM", "num_key_value_heads", None),
    ("MistralForCausalLM", "sliding_window", 0),
    ("MistralForCausalLM", "sliding_window", "4096"),
    ("MistralForCausalLM", "layer_types", ["sliding_attention"] * 32),
    ("LlamaForCausalLM", "sliding_window", 4096),
    ("LlamaForCausalLM", "attention_bias", 1),
    ("LlamaForCausalLM", "mlp_bias", "no"),
    ("Qwen2ForCausalLM", "num_key_value_heads", None),
    ("Qwen2ForCausalLM", "layer_types", ["full_attention"]),
    ("Qwen2ForCausalLM", "layer_types", ["sliding_attention"] * 32),
    ("Qwen2ForCausalLM", "max_window_layers", -1),
    ("Qwen2ForCausalLM", "use_sliding_window", "yes"),
    *(
        (name, key, value)
        for name in ("PhiForCausalLM", "Phi3ForCausalLM")
        for key, value in (
            ("num_attention_heads", 7),
            ("num_attention_heads", 2048),
            ("num_key_value_heads", 5),
            ("num_key_value_heads", 0),
            ("num_key_value_heads", "8"),
            ("head_dim", 64),
            ("hidden_size", 0),
            ("intermediate_size", None),
            ("num_hidden_layers", 2000),
            ("max_position_embeddings", 1),
            ("pad_token_id", 10**6),
            ("partial_rotary_factor", 0.01),
            ("partial_rotary_factor", 0.08),
            ("partial_rotary_factor", 1.5),
            ("partial_rotary_factor", "half"),
            ("rope_theta", 0),
            ("rope_scaling", "longrope"),
            ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 2}),
            ("rope_parameters", {"rope_type": "longrope", "short_factor": ["x"]}),
            ("hidden_act", "softplus"),
            ("resid_pdrop", 2.0),
            ("tie_word_embeddings", "no"),
        )
    ),
    ("PhiForCausalLM", "qk_layernorm", True),
    ("PhiForCausalLM", "layer_norm_eps", -1.0),
    ("PhiForCausalLM", "rope_scaling", {"rope_type": "linear"}),
    ("PhiForCausalLM", "rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
    ("Phi3ForCausalLM", "sliding_window", 0),
    ("Phi3ForCausalLM", "rope_scaling", {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48}),
    ("Phi3ForCausalLM", "rope_scaling", {"type": "su", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48}),
    ("Phi3ForCausalLM", "rope_scaling", {"type": "yarn", "factor": 2.0}),
    ("Phi3ForCausalLM", "rope_parameters", {"rope_type": "default", "short_factor": [1.0]}),
    ("Phi3ForCausalLM", "rope_scaling", {"type": "linear", "factor": 2.0}),
    ("Phi3ForCausalLM", "rms_norm_eps", -1.0),
    ("Qwen3ForCausalLM", "head_dim", None),
    ("Qwen3ForCausalLM", "attention_bias", 1),
    ("Qwen3ForCausalLM", "layer_types", ["sliding_attention"] * 32),
    *(
        (name, key, value)
        for name in ("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM")
        for key, value in (
            ("num_key_value_heads", 5),
            ("num_key_value_heads", None),
            ("num_attention_heads", 0),
            ("num_attention_heads", 2048),
            ("head_dim", 0),
            ("head_dim", 255),
            ("head_dim", None),
            ("head_dim", 2**20),
            ("hidden_size", "3072"),
            ("intermediate_size", -1),
            ("num_hidden_layers", 2000),
            ("max_position_embeddings", 1),
            ("pad_token_id", 10**6),
            ("rope_theta", 0),
            ("partial_rotary_factor", 0.5),
            ("rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
            ("hidden_activation", "softplus"),
            ("attention_bias", 1),
            ("use_bidirectional_attention", True),
            ("use_bidirectional_attention", 0),
            ("rms_norm_eps", "small"),
        )
    ),
    ("GemmaForCausalLM", "sliding_window", 4096),
    ("Gemma2ForCausalLM", "num_attention_heads", 7),
    ("Gemma2ForCausalLM", "query_pre_attn_scalar", 0),
    ("Gemma2ForCausalLM", "query_pre_attn_scalar", 25.5),
    ("Gemma2ForCausalLM", "attn_logit_softcapping", 0),
    ("Gemma2ForCausalLM", "attn_logit_softcapping", "50"),
    ("Gemma2ForCausalLM", "final_logit_softcapping", -30.0),
    ("Gemma2ForCausalLM", "final_logit_softcapping", float("nan")),
    ("Gemma2ForCausalLM", "sliding_window", 0),
    ("Gemma2ForCausalLM", "sliding_window", None),
    ("Gemma2ForCausalLM", "layer_types", ["full_attention"]),
    ("Gemma2ForCausalLM", "layer_types", ["chunked_attention"] * 26),
    ("Gemma3ForCausalLM", "num_attention_heads", 7),
    ("Gemma3ForCausalLM", "query_pre_attn_scalar", 0),
    ("Gemma3ForCausalLM", "attn_logit_softcapping", 50.0),
    ("Gemma3ForCausalLM", "final_logit_softcapping", 0),
    ("Gemma3ForCausalLM", "sliding_window", None),
    ("Gemma3ForCausalLM", "sliding_window_pattern", 0),
    ("Gemma3ForCausalLM", "rope_local_base_freq", 0),
    ("Gemma3ForCausalLM", "rope_parameters", {"rope_type": "default"}),
    ("Gemma3ForCausalLM", "rope_parameters", {"full_attention": {"rope_type": "linear"}}),
    ("Gemma3ForCausalLM", "rope_parameters", {"sliding_attention": None}),
    ("Gemma3ForCausalLM", "rope_parameters", {"full_attention": {"partial_rotary_factor": 0.5}}),
    ("Gemma3ForCausalLM", "layer_types", ["full_attention"]),
]


def config_of(name, **changes):
    family = next(family for family in FAMILIES if name in family.architectures)
    return {"model_type": family.model_types[0], "architectures": [name], **changes}


@pytest.mark.parametrize("name", [name for family in FAMILIES for name in family.architectures])
def test_a_config_that_says_nothing_is_the_familys_default(name):
    needed = {"vocab_size": 32} if name in ("Wav2Vec2ConformerForCTC", "Wav2Vec2BertForCTC") else {}
    known = read_config(config_of(name, **needed))
    assert known.name == name
    behind = [block for block in known.layout.feed_forward if not block.before_attention]
    assert len(known.layout.attention) == len(behind) or known.architecture.head is Head.SEQUENCE_TO_SEQUENCE
    assert known.layout.other_flops > 0 or known.architecture.head is Head.EMBEDDING


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_a_familys_defaults_are_those_of_its_stock_class(family):
    def plain(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    for model_type in family.model_types:
        stock = CONFIG_MAPPING[model_type]()
        # What other classes of a kind ask for, as data2vec's of wav2vec 2.0, a class may not have.
        said = {key: plain(getattr(stock, key)) for key in family.defaults if hasattr(stock, key)}
        assert said.keys() >= {"vocab_size"} & family.defaults.keys()
        assert family.filled({}) == family.defaults | said


@pytest.mark.parametrize(("name", "key", "value"), REFUSED)
def test_what_cannot_be_pruned_is_refused_by_its_key(name, key, value):
    with pytest.raises(SecateurError) as raised:
        read_config(config_of(name, **{key: value}))
    assert raised.value.code == ErrorCode.CONFIG_INVALID
    assert [item.pointer for item in raised.value.errors] == [f"/config.json/{key}"]


def test_a_token_for_padding_that_a_config_does_not_name_is_the_classs():
    """Phi-3's is the 32,001st, which an embedding has to have."""
    with pytest.raises(SecateurError) as raised:
        read_config(config_of("Phi3ForCausalLM", vocab_size=32000))
    assert [item.pointer for item in raised.value.errors] == ["/config.json/pad_token_id"]
    assert read_config(config_of("Phi3ForCausalLM", vocab_size=32000, pad_token_id=None)).layout.attention


@pytest.mark.parametrize(
    ("name", "said", "rotated"),
    [
        ("PhiForCausalLM", {}, 32),
        ("PhiForCausalLM", {"partial_rotary_factor": 0.25}, 16),
        ("PhiForCausalLM", {"partial_rotary_factor": 0.25, "rope_scaling": {"type": "linear", "factor": 2.0}}, 16),
        ("PhiForCausalLM", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75}}, 48),
        ("Phi3ForCausalLM", {}, 96),
        ("Phi3ForCausalLM", {"partial_rotary_factor": 0.75}, 72),
        ("Phi3ForCausalLM", {"partial_rotary_factor": 1.0, "rope_scaling": {"partial_rotary_factor": 0.5}}, 48),
    ],
)
def test_positions_rotate_what_the_stock_class_rotates(name, said, rotated):
    known = read_config(config_of(name, **said))
    stock = CONFIG_MAPPING[known.family.model_types[0]](**{"num_hidden_layers": 1, **copy.deepcopy(said)})
    embedding = getattr(
        importlib.import_module(stock.__module__.replace("configuration", "modeling")),
        name.removesuffix("ForCausalLM") + "RotaryEmbedding",
    )
    assert 2 * len(embedding(stock).inv_freq) == rotated
    assert {site.shape.rotary for site in known.layout.attention} == {rotated}


@pytest.mark.parametrize("value", [None, False])
def test_what_is_off_is_off(value):
    assert read_config(config_of("Wav2Vec2ForCTC", add_adapter=value, adapter_attn_dim=None)).layout.attention
