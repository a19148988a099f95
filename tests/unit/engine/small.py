"""A small random AST for tests of pure arithmetic, where training would change nothing."""

import torch
from transformers import ASTConfig, ASTForAudioClassification

from api_schemas.results.widths import AttentionWidths
from checkpoints.families.audio.ast import AST
from checkpoints.sizes.shape import FeedForwardShape, ModelShape
from tests.support.checkpoints.shapes import equal_shape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.model_spec import ModelSpec, build

LAYERS, HEADS, HEAD_DIM, HIDDEN, CLASSES = 3, 4, 8, 32, 5
FRAMES, MELS, TOKENS, NEURONS = 40, 32, 14, 64
DENSE = AttentionWidths.dense(LAYERS, HEADS, HEAD_DIM, (NEURONS,) * LAYERS)
KIND = ModelSpec(AST, "ASTForAudioClassification")


def small_config(**changes: object) -> ASTConfig:
    values = {
        "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": NEURONS,
        "num_mel_bins": MELS, "max_length": FRAMES, "patch_size": 16, "frequency_stride": 8, "time_stride": 8,
        "num_labels": CLASSES,
    }  # fmt: skip
    return ASTConfig(**{**values, **changes})


def small_model(seed: int = 0) -> LoadedModel:
    """Random weights ten times the usual size, so that attention is not uniform and biases matter."""
    torch.manual_seed(seed)
    config = small_config(initializer_range=0.2)
    stock = ASTForAudioClassification(config)
    for parameter in stock.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return LoadedModel(build(KIND, config.to_dict(), DENSE, stock.state_dict()), KIND, DENSE, torch.float32)


def small_shape() -> ModelShape:
    blocks = tuple(
        FeedForwardShape(layer=layer, hidden=HIDDEN, neurons=NEURONS, tokens=TOKENS, first_bias=True, second_bias=True)
        for layer in range(LAYERS)
    )
    shape = equal_shape(LAYERS, HEADS, HEAD_DIM, HIDDEN, TOKENS)
    return shape.model_copy(update={"feed_forward": blocks})


def inputs(samples: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(samples, FRAMES, MELS, generator=torch.Generator().manual_seed(seed))


def batches_of(x: torch.Tensor, size: int) -> list[dict[str, torch.Tensor]]:
    """The same as a model is called with them."""
    return [{"input_values": part} for part in x.split(size)]
