"""Tiny random models of the classes whose attention is more than scores and softmax, or sees two streams."""

from typing import Any

import torch

from tests.unit.engine.families.models import Tiny, waves
from worker.engine.data.split import Inputs

# Whisper: its encoder sees 20 frames whatever comes.
MELS, SOURCE, WORDS = 8, 20, 60
WHISPER = {
    "vocab_size": WORDS, "num_mel_bins": MELS, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "init_std": 0.3,
    "max_source_positions": SOURCE, "max_target_positions": 72, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 3, "begin_suppress_tokens": None, "use_cache": False,
}  # fmt: skip
WHISPER_FILES = {
    "preprocessor_config.json": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": MELS},
    "vocab.json": {f"w{number}": number for number in range(WORDS)},
}


def heard(samples: int, generator: torch.Generator, tokens: int = 9) -> Inputs:
    """A spectrogram and a text for each sample."""
    features = torch.randn(samples, MELS, 2 * SOURCE, generator=generator)
    return {
        "input_features": features,
        "decoder_input_ids": torch.randint(4, WORDS, (samples, tokens), generator=generator),
    }


def _whisper(variant: str = "", **changes: Any) -> Tiny:
    return Tiny(
        "WhisperForConditionalGeneration",
        {**WHISPER, **changes},
        heard,
        lambda: heard(1, torch.Generator().manual_seed(3), 64),
        variant=variant,
        files=WHISPER_FILES,
    )


# WavLM: buckets few enough for near positions and far ones to be told apart.
POSITIONS = {"num_buckets": 12, "max_bucket_distance": 20}

# CLAP: three stages of 16², 8² and 4² patches in windows of 4²: shifted in the first two, one window in the last.
CLAP = {
    "spec_size": 32, "num_mel_bins": 8, "patch_size": 2, "patch_stride": [2, 2], "patch_embeds_hidden_size": 16,
    "window_size": 4, "depths": [2, 2, 1], "num_attention_heads": [2, 4, 8], "hidden_size": 64, "projection_dim": 24,
    "mlp_ratio": 1.5, "initializer_factor": 4.0,
}  # fmt: skip
CLAP_FILES = {
    "preprocessor_config.json": {"feature_extractor_type": "ClapFeatureExtractor", "feature_size": 8},
}


def _clap(name: str, variant: str = "", **changes: Any) -> Tiny:
    def draw(samples: int, generator: torch.Generator) -> Inputs:
        # Shorter than the square takes: it is stretched.
        return {"input_features": torch.randn(samples, 1, 100, 8, generator=generator)}

    def nominal() -> Inputs:
        return draw(1, torch.Generator().manual_seed(3))

    return Tiny(name, {**CLAP, **changes}, draw, nominal, variant=variant, files=CLAP_FILES)


WAVLM_CTC = waves(
    "WavLMForCTC", "norms first", do_stable_layer_norm=True, feat_extract_norm="layer", num_conv_pos_embeddings=5, **POSITIONS
)  # fmt: skip
SPECIAL: tuple[Tiny, ...] = (
    _whisper(),
    _whisper("untied", tie_word_embeddings=False),
    waves("WavLMForSequenceClassification", **POSITIONS),
    WAVLM_CTC,
    _clap("ClapAudioModelWithProjection"),
    _clap("ClapAudioModel"),
    _clap("ClapAudioModel", "no biases", qkv_bias=False, enable_patch_layer_norm=False),
)
