"""Every class that is supported, small but of the proportions of real ones: what is timed."""

from typing import Any

from benchmarks.families.examples import CODES, DISTILLED, OPT, TEXT, Example, image, spectrogram, text, waves
from benchmarks.families.special_models import clap, mel_frames, qwen2_audio_encoder, whisper, whisper_classifier

SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
}
WORDS = {"vocab_size": 5000, "max_position_embeddings": 130}
MODERN = {"pad_token_id": 0, "intermediate_size": 384, "local_attention": 64}
# The convolutions of the real ones, a 320th of the rate, with an eighth of their channels.
LISTENING: dict[str, Any] = {
    **SIZES, "conv_dim": (64,) * 7, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 16, "classifier_proj_size": 256, "vocab_size": 32,
}  # fmt: skip
KINDS_OF_SOUND = ("ForSequenceClassification", "ForCTC", "Model")
KINDS_OF_TEXT = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM", "Model")

MODELS: tuple[Example, ...] = (
    *(
        spectrogram(name, **SIZES, max_length=256, num_mel_bins=128, frequency_stride=10, time_stride=10)
        for name in ("ASTForAudioClassification", "ASTModel")
    ),
    *(
        image(name, "ViTImageProcessor", 1, image_size=224, patch_size=16, **SIZES)
        for name in ("ViTForImageClassification", "ViTModel")
    ),
    image("DeiTForImageClassification", "DeiTImageProcessor", 2, image_size=224, patch_size=16, **SIZES),
    image("DeiTForImageClassificationWithTeacher", "DeiTImageProcessor", 2, image_size=224, patch_size=16, **SIZES),
    image("DeiTModel", "DeiTImageProcessor", 2, image_size=224, patch_size=16, **SIZES),
    *(
        image(name, f"{line}ImageProcessor", special, image_size=224, patch_size=16, **SIZES)
        for name, line, special in (
            ("Dinov2ForImageClassification", "Bit", 1), ("Dinov2Model", "Bit", 1), ("DINOv3ViTModel", "DINOv3ViT", 1),
            ("CLIPVisionModelWithProjection", "CLIP", 1), ("CLIPVisionModel", "CLIP", 1), ("SiglipVisionModel", "Siglip", 0),
        )
    ),
    *(
        waves(f"{stock}{end}", **LISTENING)
        for stock in ("Wav2Vec2", "Hubert", "WavLM", "SEW", "UniSpeech", "UniSpeechSat")
        for end in KINDS_OF_SOUND
    ),
    *(
        waves(f"Data2VecAudio{end}", **{**LISTENING, "conv_pos_kernel_size": 19, "num_conv_pos_embeddings": 5})
        for end in KINDS_OF_SOUND
    ),
    *(waves(f"Wav2Vec2Conformer{end}", **{**LISTENING, "conv_depthwise_kernel_size": 31}) for end in KINDS_OF_SOUND),
    *(
        mel_frames(f"Wav2Vec2Bert{end}", **{**SIZES, "feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 31})
        for end in KINDS_OF_SOUND
    ),
    waves("Wav2Vec2ForPreTraining", **{**LISTENING, **CODES}),
    *(
        made(
            vocab_size=5000, num_mel_bins=80, d_model=256, encoder_layers=4, decoder_layers=4, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=1024, decoder_ffn_dim=1024, max_source_positions=300, init_std=0.02,
        )
        for made in (whisper, whisper_classifier)
    ),
    qwen2_audio_encoder(
        num_mel_bins=80, d_model=256, encoder_layers=4, encoder_attention_heads=8, encoder_ffn_dim=1024, max_source_positions=300,
        initializer_range=0.02,
    ),
    *(
        clap(
            name, spec_size=256, num_mel_bins=64, patch_size=4, patch_stride=[4, 4], patch_embeds_hidden_size=64, window_size=8,
            depths=[1, 1, 2], num_attention_heads=[2, 4, 8], hidden_size=256, mlp_ratio=4.0, initializer_factor=1.0,
        )
        for name in ("ClapAudioModelWithProjection", "ClapAudioModel")
    ),
    *(text(f"Bert{end}", {**TEXT, **SIZES, **WORDS}, 128) for end in KINDS_OF_TEXT),
    *(
        text(f"{stock}{end}", {**TEXT, **SIZES, **WORDS}, 128)
        for stock in ("Roberta", "XLMRoberta", "Camembert")
        for end in KINDS_OF_TEXT
    ),
    *(
        text(f"ModernBert{end}", {**TEXT, **SIZES, **WORDS, **MODERN}, 128)
        for end in ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", "Model")
    ),
    text("ClapTextModelWithProjection", {**TEXT, **SIZES, **WORDS, "projection_dim": 256}, 128),
    *(
        text(f"DistilBert{end}", {**DISTILLED, "dim": 256, "n_layers": 4, "n_heads": 8, "hidden_dim": 1024, **WORDS}, 128)
        for end in KINDS_OF_TEXT
    ),
    *(text(f"MPNet{end}", {**TEXT, **SIZES, **WORDS}, 128) for end in KINDS_OF_TEXT),
    *(text(f"Electra{end}", {**TEXT, **SIZES, **WORDS, "embedding_size": 128}, 128) for end in KINDS_OF_TEXT),
    text(
        "GPT2LMHeadModel",
        {"n_embd": 256, "n_layer": 4, "n_head": 8, "n_inner": 1024, "vocab_size": 5000, "n_positions": 130}, 130,
    ),
    text("OPTForCausalLM", {**OPT, **SIZES, "ffn_dim": 1024, **WORDS}, 130),
    *(
        text(f"{stock}ForCausalLM", {**TEXT, **SIZES, **WORDS, "num_key_value_heads": 2, "pad_token_id": None}, 130)
        for stock in ("Llama", "Mistral", "Qwen2", "Qwen3", "Phi", "Phi3", "Gemma", "Gemma2", "Gemma3")
    ),
)  # fmt: skip
