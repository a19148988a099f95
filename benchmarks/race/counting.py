"""FLOPs of a model as it runs: every matrix product of one forward pass, by the shapes that torch is really called with. And
parameters of its blocks as it has them.

What tables promise (checkpoints.sizes.accounting) is computed from widths; this is not, so that an arm whose model has other
layers (a projection in the residual path) pays for them like everybody else. Attention runs in transformers' plain function here:
the fused kernels pad widths, and torch does not count what they do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

HEADS = ("lm_head",)
"""Of the decoders that are raced by their parameters."""


@contextmanager
def _plain_attention(model: nn.Module) -> Iterator[None]:
    config = getattr(model, "config", None)
    before = getattr(config, "_attn_implementation", None)
    if before is None:
        yield
        return
    model.set_attn_implementation("eager")  # type: ignore[operator]
    try:
        yield
    finally:
        model.set_attn_implementation(before)  # type: ignore[operator]


def _example(model: nn.Module, tokens: int) -> dict[str, torch.Tensor]:
    config: Any = model.config
    if hasattr(config, "num_mel_bins"):
        return {"input_values": torch.zeros(1, config.max_length, config.num_mel_bins)}
    return {"input_ids": torch.ones(1, tokens, dtype=torch.long)}


def flops(model: nn.Module, tokens: int) -> int:
    """Of one input; a multiplication and an addition are two. `tokens`: of a text; a spectrogram has the model's length."""
    counter = FlopCounterMode(display=False)
    training = model.training
    model.eval()
    with torch.no_grad(), _plain_attention(model), counter:
        model(**_example(model, tokens))
    model.train(training)
    return int(counter.get_total_flops())


def parameters_of_maps(model: nn.Module) -> int:
    """Weights and biases of all linear maps but the one to the vocabulary or the classes: those of attention and feed-forward
    blocks, and whatever maps an arm has put into the residual path.
    """
    heads = {id(module) for name in HEADS if (module := getattr(model, name, None)) is not None}
    linears = [each for each in model.modules() if isinstance(each, nn.Linear) and id(each) not in heads]
    return sum(parameter.numel() for linear in linears for parameter in linear.parameters())
