"""Random models of the classes whose attention is more than scores and softmax, or sees two streams: Whisper, WavLM, CLAP."""

from dataclasses import replace
from typing import Any

import torch

from benchmarks.families.examples import LABELLED, TINY, WAVE_FILES, Example, padding_mask
from worker.engine.data.split import Inputs

# Whisper: its encoder sees 20 frames whatever comes.
WHISPER = {
    "vocab_size": 60, "num_mel_bins": 8, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "init_std": 0.3,
    "max_source_positions": 20, "max_target_positions": 72, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 3, "begin_suppress_tokens": None, "use_cache": False,
}  # fmt: skip


def whisper(variant: str = "", **changes: Any) -> Example:
    """Whisper: a spectrogram and a text for each sample."""
    config = {**WHISPER, **changes}
    mels, words = config["num_mel_bins"], config["vocab_size"]

    def heard(samples: int, tokens: int, generator: torch.Generator) -> Inputs:
        features = torch.randn(samples, mels, 2 * config["max_source_positions"], generator=generator)
        written = torch.randint(4, words, (samples, tokens), generator=generator)
        return {"input_features": features, "decoder_input_ids": written}

    files = {
        "preprocessor_config.json": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": mels},
        "vocab.json": {f"w{number}": number for number in range(words)},
    }
    return Example(
        "WhisperForConditionalGeneration",
        config,
        lambda samples, generator: heard(samples, 9, generator),
        lambda: heard(1, 64, torch.Generator().manual_seed(3)),
        variant=variant,
        files=files,
    )


def whisper_classifier(variant: str = "", **changes: Any) -> Example:
    """Whisper's encoder with a classifier: a spectrogram for each sample."""
    base = whisper(variant, **changes)

    def heard(inputs: Inputs) -> Inputs:
        return {"input_features": inputs["input_features"]}

    return replace(
        base,
        name="WhisperForAudioClassification",
        config={**base.config, "classifier_proj_size": 20, **LABELLED},
        draw=lambda samples, generator: heard(base.draw(samples, generator)),
        nominal=lambda: heard(base.nominal()),
        files={"preprocessor_config.json": base.files["preprocessor_config.json"]},
    )


def qwen2_audio_encoder(variant: str = "", **changes: Any) -> Example:
    """Qwen2-Audio's tower: a spectrogram for each sample."""
    sizes = {
        key: WHISPER[key]
        for key in ("num_mel_bins", "encoder_layers", "encoder_attention_heads", "d_model", "encoder_ffn_dim")
    }
    config = {**sizes, "max_source_positions": WHISPER["max_source_positions"], **changes}
    mels, frames = config["num_mel_bins"], 2 * config["max_source_positions"]

    def draw(samples: int, generator: torch.Generator) -> Inputs:
        return {"input_features": torch.randn(samples, mels, frames, generator=generator)}

    files = {"preprocessor_config.json": {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": mels}}
    return Example(
        "Qwen2AudioEncoder",
        config,
        draw,
        lambda: draw(1, torch.Generator().manual_seed(3)),
        variant=variant,
        files=files,
    )


# WavLM: buckets few enough for near positions and far ones to be told apart.
POSITIONS: dict[str, Any] = {"num_buckets": 12, "max_bucket_distance": 20}

# Conformers: convolutions shorter than inputs.
CONFORMER: dict[str, Any] = {"conv_depthwise_kernel_size": 5, "max_source_positions": 150}

# Wav2Vec2-BERT: a token is two frames of four bins, and the furthest positions are as one.
MELS = {
    **TINY, **CONFORMER, "vocab_size": 12, "feature_projection_input_dim": 8, "left_max_position_embeddings": 5,
    "right_max_position_embeddings": 2, "classifier_proj_size": 20,
}  # fmt: skip


def mel_frames(name: str, variant: str = "", **changes: Any) -> Example:
    """A class over mel bins of as many frames as a clip has."""
    config = {**MELS, **changes}
    width, usual = config["feature_projection_input_dim"], 249

    def draw(samples: int, tokens: int, generator: torch.Generator) -> Inputs:
        return {"input_features": torch.randn(samples, tokens, width, generator=generator)}

    files = {
        "preprocessor_config.json": {
            "feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": width // 2, "num_mel_bins": width // 2,
        },
        "vocab.json": WAVE_FILES["vocab.json"],
    }  # fmt: skip
    return Example(
        name,
        {**config, **LABELLED} if name.endswith("Classification") else config,
        lambda samples, generator: draw(samples, 14, generator),
        lambda: draw(1, usual, torch.Generator().manual_seed(3)),
        lambda inputs: padding_mask(*inputs["input_features"].shape[:2]),
        variant,
        files,
    )


# CLAP: three stages of 16², 8² and 4² patches in windows of 4²: shifted in the first two, one window in the last.
CLAP = {
    "spec_size": 32, "num_mel_bins": 8, "patch_size": 2, "patch_stride": [2, 2], "patch_embeds_hidden_size": 16,
    "window_size": 4, "depths": [2, 2, 1], "num_attention_heads": [2, 4, 8], "hidden_size": 64, "projection_dim": 24,
    "mlp_ratio": 1.5, "initializer_factor": 4.0,
}  # fmt: skip


def clap(name: str, variant: str = "", **changes: Any) -> Example:
    """CLAP's audio side."""
    config = {**CLAP, **changes}
    side, mels = config["spec_size"], config["num_mel_bins"]

    def draw(samples: int, generator: torch.Generator) -> Inputs:
        # Shorter than the square takes: it is stretched.
        return {"input_features": torch.randn(samples, 1, side * side // mels - 28, mels, generator=generator)}

    files = {"preprocessor_config.json": {"feature_extractor_type": "ClapFeatureExtractor", "feature_size": mels}}
    return Example(name, config, draw, lambda: draw(1, torch.Generator().manual_seed(3)), variant=variant, files=files)
