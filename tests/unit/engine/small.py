"""A small random AST for tests of pure arithmetic, where training would change nothing."""

import torch
from transformers import ASTConfig, ASTForAudioClassification

from api_schemas.accounting import ModelShape
from api_schemas.families.ast import AST
from api_schemas.widths import AttentionWidths
from worker.engine.checkpoint.load import Loaded
from worker.engine.models import build

LAYERS, HEADS, HEAD_DIM, HIDDEN, CLASSES = 3, 4, 8, 32, 5
FRAMES, MELS = 40, 32


def small_config(**changes: object) -> ASTConfig:
    values = {
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 64,
        "num_mel_bins": MELS, "max_length": FRAMES, "patch_size": 16, "frequency_stride": 8, "time_stride": 8,
        "num_labels": CLASSES,
    }  # fmt: skip
    return ASTConfig(**{**values, **changes})


def small_model(seed: int = 0) -> Loaded:
    """Random weights ten times the usual size, so that attention is not uniform and biases matter."""
    torch.manual_seed(seed)
    config = small_config(initializer_range=0.2)
    stock = ASTForAudioClassification(config)
    for parameter in stock.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.2)
    widths = AttentionWidths.dense(LAYERS, HEADS, HEAD_DIM)
    return Loaded(build(AST, config.to_dict(), widths, stock.state_dict()), AST, widths, torch.float32)


def small_shape(output_bias: bool = True) -> ModelShape:
    attention = LAYERS * (4 * HIDDEN * HIDDEN + (3 + output_bias) * HIDDEN)
    return ModelShape(
        hidden_size=HIDDEN, tokens=14, qkv_bias=True, output_bias=output_bias, attention_parameters=attention,
        other_parameters=10_000, other_flops=10**6, bytes_per_parameter=4,
    )  # fmt: skip


def inputs(samples: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(samples, FRAMES, MELS, generator=torch.Generator().manual_seed(seed))


def batches_of(x: torch.Tensor, size: int) -> list[dict[str, torch.Tensor]]:
    """The same as a model is called with them."""
    return [{"input_values": part} for part in x.split(size)]
