"""Random models of transformers' classes, and inputs for them: spectrograms, images, waveforms and texts."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from checkpoints.families import FAMILIES
from checkpoints.families.decoders.causal import BLOCK
from checkpoints.families.text.text_encoder import TOKENS, WINDOW
from worker.engine.data.split import Inputs
from worker.engine.models.model_spec import ModelSpec

LABELS = ("down", "left", "up")
WORDS = 40
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def random_model(name: str, config: Mapping[str, Any], seed: int = 0) -> PreTrainedModel:
    """A class of transformers, float32, in eval mode: weights large enough for attention to be far from uniform, no zero bias."""
    torch.manual_seed(seed)
    stock_class = getattr(transformers, name)
    model: PreTrainedModel = stock_class(stock_class.config_class(**{"initializer_range": 0.2, **config})).eval()
    for path, parameter in model.named_parameters():
        if parameter.ndim == 1:
            norm = path.endswith(("norm.weight", "Norm.weight", "layernorm_before.weight", "layernorm_after.weight"))
            torch.nn.init.normal_(parameter, mean=1.0 if norm else 0.0, std=0.2)
        elif path.endswith(("relative_position_bias_table", "gru_rel_pos_const")):
            torch.nn.init.normal_(parameter)
    return model


@dataclass(frozen=True)
class Example:
    """One class, one configuration."""

    name: str
    """Of the class of transformers."""
    config: Mapping[str, Any]
    draw: Callable[[int, torch.Generator], Inputs]
    """(samples, generator) -> a batch as short as the model takes it well."""
    nominal: Callable[[], Inputs]
    """One input of the length that costs are counted for."""
    mask: Callable[[Inputs], torch.Tensor] | None = None
    """An attention mask that pads the end of the second sample of a batch and leaves the others whole."""
    variant: str = ""
    files: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.name} {self.variant}".strip()

    @property
    def model_spec(self) -> ModelSpec:
        return ModelSpec(next(family for family in FAMILIES if self.name in family.architectures), self.name)

    def stock(self, seed: int = 0, **changes: Any) -> PreTrainedModel:
        """transformers' class with random weights."""
        return random_model(self.name, {**self.config, **changes}, seed)

    def inputs(self, samples: int, seed: int = 1) -> Inputs:
        """A batch of equally long inputs."""
        return self.draw(samples, torch.Generator().manual_seed(seed))

    def save(self, model: PreTrainedModel, folder: Path) -> Path:
        """A checkpoint as transformers saves it, with what the family wants beside it."""
        model.save_pretrained(folder)
        for name, content in self.files.items():
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return folder


LABELLED = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}


def _labelled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, **LABELLED}


# Spectrograms.
SPECTROGRAM = {**TINY, "num_mel_bins": 32, "max_length": 40, "patch_size": 16, "frequency_stride": 8, "time_stride": 8}


def spectrogram(name: str, **changes: Any) -> Example:
    """A class over spectrograms of a fixed size."""
    config = _labelled({**SPECTROGRAM, **changes})
    frames, mels = config["max_length"], config["num_mel_bins"]

    def draw(samples: int, generator: torch.Generator) -> Inputs:
        return {"input_values": torch.randn(samples, frames, mels, generator=generator)}

    files = {
        "preprocessor_config.json": {
            "feature_extractor_type": "ASTFeatureExtractor", "max_length": frames, "num_mel_bins": mels,
        }
    }  # fmt: skip
    return Example(name, config, draw, lambda: draw(1, torch.Generator().manual_seed(3)), files=files)


# Images.
IMAGE = _labelled({**TINY, "image_size": 32, "patch_size": 8, "num_channels": 3})


def image(name: str, processor: str, special: int, variant: str = "", **changes: Any) -> Example:
    """A class over images; `special` tokens stand beside those of the patches."""
    config = {**IMAGE, **changes}
    if name.startswith("Dinov2"):
        del config["intermediate_size"]
    size, patch = config["image_size"], config["patch_size"]
    height, width = (size, size) if isinstance(size, int) else size

    def draw(samples: int, generator: torch.Generator) -> Inputs:
        return {"pixel_values": torch.randn(samples, 3, height, width, generator=generator)}

    def mask(inputs: Inputs) -> torch.Tensor:
        tokens = (height // patch) * (width // patch) + special
        return padding_mask(len(inputs["pixel_values"]), tokens)

    def nominal() -> Inputs:
        return draw(1, torch.Generator().manual_seed(3))

    sides = {"height": height, "width": width}
    files = {"preprocessor_config.json": {"image_processor_type": processor, "size": sides, "crop_size": sides}}
    takes_no_mask = name.startswith(("CLIP", "Siglip", "DINOv3"))
    return Example(name, config, draw, nominal, None if takes_no_mask else mask, variant, files)


def padding_mask(rows: int, length: int) -> torch.Tensor:
    """A mask [rows, length] whose second row is padded behind two thirds."""
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1, length * 2 // 3 :] = 0
    return mask


# Waveforms: 640 samples a frame, so that five seconds are few frames.
WAVES = {
    **TINY, "vocab_size": 12, "conv_dim": (8, 16, 24), "conv_kernel": (10, 8, 8), "conv_stride": (10, 8, 8),
    "num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 20,
}  # fmt: skip
CODES: Mapping[str, Any] = {
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 6,
    "codevector_dim": 8,
    "proj_codevector_dim": 10,
}
"""Of pretraining."""
WAVE_FILES = {
    "preprocessor_config.json": {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000},
    "vocab.json": {
        "<pad>": 0,
        "<s>": 1,
        "</s>": 2,
        "<unk>": 3,
        **{letter: 4 + i for i, letter in enumerate("abcdefgh")},
    },
}


def waves(name: str, variant: str = "", **changes: Any) -> Example:
    """A class over waveforms."""
    config = {**WAVES, **changes}

    def draw(samples: int, generator: torch.Generator) -> Inputs:
        return {"input_values": torch.randn(samples, 14 * math.prod(config["conv_stride"]), generator=generator)}

    def nominal() -> Inputs:
        return {"input_values": torch.randn(1, 80_000, generator=torch.Generator().manual_seed(3))}

    def mask(inputs: Inputs) -> torch.Tensor:
        return padding_mask(*inputs["input_values"].shape)

    return Example(
        name, _labelled(config) if name.endswith("Classification") else config, draw, nominal, mask, variant, WAVE_FILES
    )


# Texts.
TEXT = {**TINY, "vocab_size": WORDS, "max_position_embeddings": 30}
DISTILLED = {
    "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": WORDS, "max_position_embeddings": 30,
}  # fmt: skip
CLAP_TEXT: Mapping[str, Any] = {"projection_dim": 24, "initializer_factor": 2.0}
GPT2: Mapping[str, Any] = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 48,
    "vocab_size": WORDS,
    "n_positions": 30,
}
OPT: Mapping[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "vocab_size": WORDS,
    "max_position_embeddings": 30, "init_std": 0.2,
}  # fmt: skip
# Two heads of queries for each of keys, and heads that are not as wide as the hidden size would have them.
LLAMA: Mapping[str, Any] = {
    **TINY, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8, "vocab_size": WORDS,
    "max_position_embeddings": 30,
}  # fmt: skip
# Four for each.
QWEN2: Mapping[str, Any] = {**LLAMA, "num_key_value_heads": 2}
# Heads as wide as the hidden size has them, half of whose channels Phi does not rotate.
PHI: Mapping[str, Any] = {
    **TINY,
    "num_key_value_heads": 2,
    "vocab_size": WORDS,
    "max_position_embeddings": 30,
    "pad_token_id": None,
}
# Heads that are together wider than the hidden size.
GEMMA: Mapping[str, Any] = {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12}
# Caps that scores and logits reach, a temperature that is not that of the width, layers of both types.
GEMMA2: Mapping[str, Any] = {
    **GEMMA, "query_pre_attn_scalar": 7, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "sliding_window": 4,
}  # fmt: skip
GEMMA3: Mapping[str, Any] = {
    **GEMMA, "query_pre_attn_scalar": 7, "sliding_window": 4, "sliding_window_pattern": 2,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
    },
}  # fmt: skip
WORD_FILES = {
    "vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(WORDS - 5))])
}


def text(name: str, config: Mapping[str, Any], longest: int = 30, variant: str = "", **changes: Any) -> Example:
    """A class over texts of at most `longest` tokens."""
    full = {**config, **changes}

    def ids(samples: int, length: int, generator: torch.Generator) -> Inputs:
        return {"input_ids": torch.randint(5, full["vocab_size"], (samples, length), generator=generator)}

    def mask(inputs: Inputs) -> torch.Tensor:
        return padding_mask(*inputs["input_ids"].shape)

    return Example(
        name,
        full
        if name.endswith(("Model", "MaskedLM", "CausalLM", "QuestionAnswering", "WithProjection"))
        else _labelled(full),
        lambda samples, generator: ids(samples, 11, generator),
        lambda: ids(1, min(longest, _longest_of(name)), torch.Generator().manual_seed(3)),
        mask,
        variant,
        WORD_FILES,
    )


def _longest_of(name: str) -> int:
    """Tokens that costs are counted for, of a class of texts."""
    if name.endswith(("LMHeadModel", "CausalLM")):
        return BLOCK
    return WINDOW if name.endswith("QuestionAnswering") else TOKENS
