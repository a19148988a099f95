"""Which tokens or frames of a batch are real and which are padding, and means over the real ones.

Shapes: B samples, T tokens of text or frames of sound, as the model's layers see them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.data.split import Inputs

MASK, GIVEN_MASK = "attention_mask", "decoder_attention_mask"
"""Where `FeatureSplit.batch` says what is real: of what a model reads or hears, and of the text that a decoder is given."""
WAVEFORM = "input_values"


def real_positions(model: nn.Module, inputs: Inputs) -> Tensor | None:
    """[B, T], true where a position is of the sample itself; None where all are. Of a decoder, the positions of its text."""
    mask = next((inputs[name] for name in (GIVEN_MASK, MASK) if name in inputs), None)
    if mask is None or WAVEFORM not in inputs:
        return None if mask is None else mask.bool()
    wave: Any = model
    frames_B, total = mask.sum(1), mask.shape[1]
    for kernel, stride in zip(wave.config.conv_kernel, wave.config.conv_stride, strict=True):
        frames_B, total = (frames_B - kernel) // stride + 1, (total - kernel) // stride + 1
    return torch.arange(total, device=mask.device) < frames_B[:, None]


def mean_of_real(by_position_BT: Tensor, real_BT: Tensor | None) -> Tensor:
    """Each sample's mean over its real positions, [B]."""
    if real_BT is None:
        return by_position_BT.mean(1)
    return by_position_BT.masked_fill(~real_BT, 0.0).sum(1) / real_BT.sum(1)
