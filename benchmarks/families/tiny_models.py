"""Every class that is supported, tiny, and the variants of their configurations that change how attention is computed."""

from benchmarks.families.examples import (
    CLAP_TEXT,
    CODES,
    DISTILLED,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GPT2,
    LLAMA,
    OPT,
    PHI,
    QWEN2,
    TEXT,
    Example,
    image,
    spectrogram,
    text,
    waves,
)
from benchmarks.families.special_models import (
    CONFORMER,
    POSITIONS,
    clap,
    mel_frames,
    qwen2_audio_encoder,
    whisper,
    whisper_classifier,
)

SPECTROGRAMS = (spectrogram("ASTForAudioClassification"), spectrogram("ASTModel"))
IMAGES = (
    image("ViTForImageClassification", "ViTImageProcessor", 1),
    image(
        "ViTForImageClassification", "ViTImageProcessor", 1, "wide", qkv_bias=False, head_dim=12, image_size=[16, 40]
    ),
    image("DeiTForImageClassification", "DeiTImageProcessor", 2),
    image("DeiTForImageClassificationWithTeacher", "DeiTImageProcessor", 2),
    image("ViTModel", "ViTImageProcessor", 1),
    image("DeiTModel", "DeiTImageProcessor", 2),
    image("Dinov2ForImageClassification", "BitImageProcessor", 1, mlp_ratio=2),
    image("Dinov2ForImageClassification", "BitImageProcessor", 1, "wide", mlp_ratio=2, head_dim=12, qkv_bias=False),
    image("Dinov2Model", "BitImageProcessor", 1, mlp_ratio=2),
    image("DINOv3ViTModel", "DINOv3ViTImageProcessorFast", 5, num_register_tokens=4),
    image(
        "DINOv3ViTModel",
        "DINOv3ViTImageProcessorFast",
        1,
        "gated",
        use_gated_mlp=True,
        hidden_act="silu",
        key_bias=True,
        query_bias=False,
        value_bias=False,
        proj_bias=False,
        mlp_bias=False,
    ),
    image("CLIPVisionModelWithProjection", "CLIPImageProcessor", 1, projection_dim=24, initializer_factor=4.0),
    image("CLIPVisionModel", "CLIPImageProcessor", 1, initializer_factor=4.0),
    image("SiglipVisionModel", "SiglipImageProcessor", 0),
    image("SiglipVisionModel", "SiglipImageProcessor", 0, "no head", vision_use_head=False),
)
KINDS_OF_SOUND = ("ForSequenceClassification", "ForCTC", "Model")
WAVEFORMS = (
    *(
        waves(f"{stock}{end}")
        for stock in ("Wav2Vec2", "Hubert", "SEW", "UniSpeech", "UniSpeechSat")
        for end in KINDS_OF_SOUND
    ),
    *(waves(f"Data2VecAudio{end}", conv_pos_kernel_size=5, num_conv_pos_embeddings=2) for end in KINDS_OF_SOUND),
    *(
        waves(
            name, "norms first", do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True, num_conv_pos_embeddings=5,
        )
        for name in ("Wav2Vec2ForCTC", "HubertForCTC", "UniSpeechForCTC", "UniSpeechSatForCTC")
    ),
    waves("Wav2Vec2ForPreTraining", **CODES),
    waves("Wav2Vec2ForSequenceClassification", "weighted sum", use_weighted_layer_sum=True),
    waves("HubertForCTC", "no first norm", feat_proj_layer_norm=False),
    waves("SEWForSequenceClassification", "squeezed by three", squeeze_factor=3, conv_dim=(8, 16, 32), num_conv_pos_embeddings=7),
    waves("SEWForSequenceClassification", "weighted sum", use_weighted_layer_sum=True),
)  # fmt: skip
KINDS_OF_MODERN = ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "Model")
# A window of two tokens on either side, of eleven that inputs have.
MODERN = {
    **TEXT,
    "pad_token_id": 0,
    "local_attention": 4,
    "global_attn_every_n_layers": 2,
    "initializer_cutoff_factor": 3.0,
}
KINDS_OF_TEXT = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM", "Model")
TEXTS = (
    *(text(f"Bert{end}", TEXT) for end in KINDS_OF_TEXT),
    *(text(f"{stock}{end}", TEXT, 28) for stock in ("Roberta", "XLMRoberta", "Camembert") for end in KINDS_OF_TEXT),
    *(text(f"DistilBert{end}", DISTILLED) for end in KINDS_OF_TEXT),
    *(text(f"Electra{end}", {**TEXT, "embedding_size": 20}) for end in KINDS_OF_TEXT),
    *(text(f"MPNet{end}", TEXT, 28) for end in KINDS_OF_TEXT[:-1]),
    text("MPNetForMaskedLM", TEXT, 28, "untied", tie_word_embeddings=False),
    text("ElectraForMaskedLM", {**TEXT, "embedding_size": 32}, 30, "untied", tie_word_embeddings=False),
    *(
        text(f"{stock}ForMaskedLM", config, longest, "untied", tie_word_embeddings=False)
        for stock, config, longest in (("Bert", TEXT, 30), ("Roberta", TEXT, 28), ("DistilBert", DISTILLED, 30))
    ),
    *(text(f"ModernBert{end}", MODERN) for end in KINDS_OF_MODERN),
    text("ModernBertForMaskedLM", MODERN, 30, "untied", tie_word_embeddings=False),
    text(
        "ModernBertForSequenceClassification",
        MODERN,
        30,
        "all biases",
        attention_bias=True,
        mlp_bias=True,
        norm_bias=True,
        classifier_bias=True,
        decoder_bias=False,
        classifier_pooling="mean",
        global_attn_every_n_layers=1,
    ),
    text("ClapTextModelWithProjection", {**TEXT, **CLAP_TEXT}, 28),
    text("BertForSequenceClassification", TEXT, 150, "long", max_position_embeddings=150),
)
WAVLM_CTC = waves(
    "WavLMForCTC", "norms first", do_stable_layer_norm=True, feat_extract_norm="layer", num_conv_pos_embeddings=5, **POSITIONS
)  # fmt: skip
SPECIAL: tuple[Example, ...] = (
    whisper(),
    whisper_classifier(),
    whisper_classifier("weighted sum", use_weighted_layer_sum=True),
    whisper("untied", tie_word_embeddings=False),
    qwen2_audio_encoder(),
    waves("WavLMForSequenceClassification", **POSITIONS),
    waves("WavLMModel", **POSITIONS),
    WAVLM_CTC,
    text("MPNetModel", TEXT, 28),
    clap("ClapAudioModelWithProjection"),
    clap("ClapAudioModel"),
    clap("ClapAudioModel", "no biases", qkv_bias=False, enable_patch_layer_norm=False),
)
CONFORMERS = (
    *(waves(f"Wav2Vec2Conformer{end}", **CONFORMER) for end in KINDS_OF_SOUND),
    *(
        waves(
            "Wav2Vec2ConformerForSequenceClassification",
            f"{kind or 'no'} positions",
            **CONFORMER,
            position_embeddings_type=kind,
        )
        for kind in ("rotary", None)
    ),
    *(mel_frames(f"Wav2Vec2Bert{end}") for end in KINDS_OF_SOUND),
    *(
        mel_frames(
            "Wav2Vec2BertForSequenceClassification",
            f"{kind or 'no'} positions",
            position_embeddings_type=kind,
            use_weighted_layer_sum=True,
        )
        for kind in ("relative", "rotary", None)
    ),
)
LLAMA3 = {
    "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 20,
    }
}  # fmt: skip
DECODERS = (
    text("GPT2LMHeadModel", GPT2),
    text("GPT2LMHeadModel", GPT2, 30, "untied", tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True),
    text("OPTForCausalLM", OPT),
    text("OPTForCausalLM", OPT, 30, "norms last", do_layer_norm_before=False, word_embed_proj_dim=20),
    text(
        "OPTForCausalLM", {**OPT, "enable_bias": False, "layer_norm_elementwise_affine": False}, 30, "no biases",
        tie_word_embeddings=False,
    ),
    text("LlamaForCausalLM", LLAMA),
    text("PhiForCausalLM", PHI),
    text("PhiForCausalLM", PHI, 30, "tied", tie_word_embeddings=True, num_key_value_heads=4),
    text("Phi3ForCausalLM", {**PHI, "sliding_window": 4}),
    text("Phi3ForCausalLM", PHI, 30, "rotated in part", tie_word_embeddings=True, partial_rotary_factor=0.5),
    # Every token sees four, itself among them.
    text("MistralForCausalLM", {**LLAMA, "sliding_window": 4}),
    text(
        "Qwen2ForCausalLM", {**QWEN2, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    text("Qwen3ForCausalLM", LLAMA),
    text(
        "Qwen3ForCausalLM",
        {**QWEN2, "use_sliding_window": True, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}, 30,
        "all biases", tie_word_embeddings=True, attention_bias=True,
    ),
    text("GemmaForCausalLM", GEMMA),
    text(
        "GemmaForCausalLM", {**GEMMA, "num_key_value_heads": 1, "attention_bias": True}, 30, "one for all queries",
        tie_word_embeddings=False, hidden_act="gelu",
    ),
    text("Gemma2ForCausalLM", GEMMA2),
    text("Gemma3ForCausalLM", GEMMA3),
    text(
        "LlamaForCausalLM", {**LLAMA, **LLAMA3}, 30, "all biases", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
    ),
)  # fmt: skip
MODELS: tuple[Example, ...] = (*SPECTROGRAMS, *IMAGES, *WAVEFORMS, *TEXTS, *DECODERS, *SPECIAL, *CONFORMERS)
