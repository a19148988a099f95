"""What fine-tuning does to its input: SpecAugment (Park et al., arXiv 1904.08779) and a shift in time, on features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from api_schemas.spec import Augment
from worker.engine.data.audio_library import load_torchaudio

# Features are normalised to mean zero, so that a mask of zeros is a mask of the mean, as in SpecAugment, section 2.
MASK_VALUE = 0.0


@contextmanager
def _cpu_randomness_from(generator: torch.Generator) -> Iterator[None]:
    """Let code that draws from torch's global CPU generator draw from `generator` instead; the global one is restored.

    torchaudio's masks take no generator. CUDA's generators are not touched.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def shift_in_time(features: Tensor, longest: int, pad_value: float, generator: torch.Generator) -> Tensor:
    """Move every sample of [B, frames, mels] by its own number of frames, uniform in [-longest, longest].

    Frames that come in from outside are `pad_value`: what the checkpoint's feature extractor puts after a short clip.
    """
    samples, frames, _ = features.shape
    shift_B = torch.randint(-longest, longest + 1, (samples,), generator=generator)
    source_BT = torch.arange(frames)[None, :] - shift_B[:, None]
    inside_BT = (source_BT >= 0) & (source_BT < frames)
    rows = torch.arange(samples)[:, None]
    shifted = features[rows, source_BT.clamp(0, frames - 1)]
    return shifted.masked_fill(~inside_BT[:, :, None], pad_value)


class Augmentation:
    """Applies an `Augment` to batches. The same generator state and batches give the same result, bit for bit."""

    def __init__(self, spec: Augment, *, frames: int, mels: int, pad_value: float) -> None:
        """`frames` and `mels` are the features' size, to which the spec's shares refer."""
        self._longest_shift = min(round(spec.time_shift * frames), frames - 1)
        self._pad_value = pad_value
        transforms = load_torchaudio().transforms
        # torchaudio draws a length uniformly from [0, parameter) and rounds down, hence the one more.
        # iid_masks: every sample of a batch gets a mask of its own.
        longest_frequency, longest_time = round(spec.frequency_mask * mels), round(spec.time_mask * frames)
        self._masks: list[nn.Module] = []
        if longest_frequency:
            self._masks.append(transforms.FrequencyMasking(longest_frequency + 1, iid_masks=True))
        if longest_time:
            self._masks.append(transforms.TimeMasking(longest_time + 1, iid_masks=True))

    def __call__(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """features: [B, frames, mels] on the CPU, left as they are. Returns a tensor of the same shape."""
        if self._longest_shift:
            features = shift_in_time(features, self._longest_shift, self._pad_value, generator)
        if self._masks:
            with _cpu_randomness_from(generator):
                features_BFT = features.transpose(1, 2)
                for mask in self._masks:
                    features_BFT = mask(features_BFT, MASK_VALUE)
                features = features_BFT.transpose(1, 2)
        return features
