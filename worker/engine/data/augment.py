"""Augmentation of fine-tuning inputs: SpecAugment (Park et al., arXiv 1904.08779) and a time shift, on features.

All random numbers are drawn on the CPU and applied on the features' device, so a batch is the same on every device. Shapes: B
samples, T frames, F mel bins.
"""

import numpy as np
import torch
from torch import Tensor

from api_schemas.spec.recovery import Augment
from worker.engine.data.split import FeatureSplit

# Features are normalised to mean zero, so that a mask of zeros is a mask of the mean, as in SpecAugment, section 2.
MASK_VALUE = 0.0
_FRAMES, _MELS = 1, 2
SPECTROGRAM = "input_values"
"""What a classifier's spectrogram is called; waveforms have the same name and one dimension less."""


def shift_in_time(features_BTF: Tensor, shift_B: Tensor, pad_value: float) -> Tensor:
    """Move every sample by its own number of frames, later where positive.

    Frames that come in from outside are `pad_value`: what the checkpoint's feature extractor puts after a short clip.
    """
    samples, frames, _ = features_BTF.shape
    source_BT = torch.arange(frames, device=features_BTF.device)[None, :] - shift_B[:, None]
    inside_BT = (source_BT >= 0) & (source_BT < frames)
    rows = torch.arange(samples, device=features_BTF.device)[:, None]
    shifted_BTF = features_BTF[rows, source_BT.clamp(0, frames - 1)]
    return shifted_BTF.masked_fill(~inside_BT[:, :, None], pad_value)


def mask_bands(features_BTF: Tensor, axis: int, start_B: Tensor, end_B: Tensor) -> Tensor:
    """Every sample's own band start ≤ i < end along `axis` (1 frames, 2 mel bins) set to MASK_VALUE."""
    index = torch.arange(features_BTF.shape[axis], device=features_BTF.device)
    band = (index >= start_B[:, None]) & (index < end_B[:, None])
    return features_BTF.masked_fill(band.unsqueeze(2 if axis == _FRAMES else 1), MASK_VALUE)


class Augmentation:
    """Applies an `Augment` to batches. The same generator state and batches give the same result, bit for bit."""

    def __init__(self, spec: Augment, *, frames: int, mels: int, pad_value: float) -> None:
        """`frames` and `mels` are the features' size, to which the spec's shares refer."""
        self._longest_shift = min(round(spec.time_shift * frames), frames - 1)
        self._pad_value = pad_value
        sizes = ((_MELS, mels, round(spec.frequency_mask * mels)), (_FRAMES, frames, round(spec.time_mask * frames)))
        self._masks = [(axis, size, longest) for axis, size, longest in sizes if longest]

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """What one batch gets, int64 [B, 1 + 2 · masks] on the CPU: the shift, then start and end of every mask."""
        longest = self._longest_shift
        shift_B = torch.zeros(samples, dtype=torch.int64)
        if longest:
            shift_B = torch.randint(-longest, longest + 1, (samples,), generator=generator)
        columns = [shift_B]
        if self._masks:
            # One draw of the caller's generator, however many masks there are.
            own = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            for _, size, longest in self._masks:
                # A length uniform in 0 … longest, then a start uniform where it still fits, both rounded down.
                length_B = torch.rand(samples, generator=own) * (longest + 1)
                start_B = (torch.rand(samples, generator=own) * (size - length_B)).long()
                columns += [start_B, start_B + length_B.long()]
        return torch.stack(columns, dim=1)

    def apply(self, features_BTF: Tensor, drawn: Tensor) -> Tensor:
        """A new tensor with what `draw` said; `drawn` lies on the features' device."""
        if self._longest_shift:
            features_BTF = shift_in_time(features_BTF, drawn[:, 0], self._pad_value)
        for number, (axis, _, _) in enumerate(self._masks):
            features_BTF = mask_bands(features_BTF, axis, drawn[:, 1 + 2 * number], drawn[:, 2 + 2 * number])
        return features_BTF

    def __call__(self, features_BTF: Tensor, generator: torch.Generator) -> Tensor:
        """Draw and apply, for features on the CPU, which are left as they are."""
        return self.apply(features_BTF, self.draw(len(features_BTF), generator))


def augmentation(spec: Augment | None, split: FeatureSplit, pad_value: float) -> Augmentation | None:
    """What a training's inputs are changed by; None where that is not asked for, or where they are not what it is about.

    SpecAugment masks frames and mel bins of a classifier's spectrogram. A waveform has neither, an image is no sound, and in a
    recording that is to be transcribed a shift or a masked stretch changes the answer.
    """
    features = split.inputs.get(SPECTROGRAM)
    if spec is None or not isinstance(features, np.ndarray) or features.ndim != 3:
        return None
    _, frames, mels = features.shape
    return Augmentation(spec, frames=frames, mels=mels, pad_value=pad_value)
