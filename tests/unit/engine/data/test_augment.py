"""SpecAugment and time shift: sizes, values, one mask a sample, and the same every time."""

import pytest
import torch
from torch import Tensor

from api_schemas.spec.recovery import Augment
from worker.engine.data.augment import MASK_VALUE, Augmentation, shift_in_time
from worker.engine.data.featurizers.audio import load_torchaudio

SAMPLES, FRAMES, MELS, PAD = 64, 40, 20, -7.0
OFF = {"time_mask": 0.0, "frequency_mask": 0.0, "time_shift": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def features() -> Tensor:
    return torch.rand(SAMPLES, FRAMES, MELS, generator=seeded(9)) + 1.0


def augmented(features: Tensor, seed: int = 0, **changes: float) -> Tensor:
    spec = Augment.model_validate(OFF | changes)
    return Augmentation(spec, frames=FRAMES, mels=MELS, pad_value=PAD)(features, seeded(seed))


def runs(masked: Tensor) -> list[int]:
    """Length of the one run of True in every row of [B, N]; fails where there are several."""
    lengths = []
    for row in masked:
        where = row.nonzero().flatten()
        assert len(where) == 0 or len(where) == where[-1] - where[0] + 1
        lengths.append(len(where))
    return lengths


def test_nothing_asked_for_changes_nothing(features: Tensor) -> None:
    assert torch.equal(augmented(features), features)


@pytest.mark.parametrize(("field", "axis", "longest"), [("time_mask", 2, 8), ("frequency_mask", 1, 4)])
def test_masks_are_whole_bands_of_their_own_in_every_sample(
    features: Tensor, field: str, axis: int, longest: int
) -> None:
    before = features.clone()
    masked = augmented(features, **{field: 0.2}) == MASK_VALUE
    assert torch.equal(features, before), "the input is left as it is"
    assert torch.equal(masked.any(dim=axis), masked.all(dim=axis))
    lengths = runs(masked.any(dim=axis))
    assert max(lengths) == longest
    assert len(set(lengths)) > 3


def test_a_shift_moves_frames_and_pads_what_comes_in(features: Tensor) -> None:
    shift = torch.randint(-5, 6, (SAMPLES,), generator=seeded())
    shifted = shift_in_time(features, shift, PAD)
    seen = set()
    for before, after, by in zip(features, shifted, shift.tolist(), strict=True):
        padded = int((after == PAD).all(dim=1).sum())
        left = torch.equal(after[: FRAMES - padded], before[padded:])
        right = torch.equal(after[padded:], before[: FRAMES - padded])
        assert left or right
        assert (after == PAD).sum() == padded * MELS
        assert (-padded if left else padded) == by
        seen.add(by)
    assert seen == set(range(-5, 6))


def test_masks_are_torchaudios(features: Tensor) -> None:
    """The same draws give, bit for bit, what SpecAugment's best-known implementation gives."""
    transforms = load_torchaudio().transforms
    frequency, time = transforms.FrequencyMasking(5, iid_masks=True), transforms.TimeMasking(10, iid_masks=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=seeded(4))))
        expected = time(frequency(features.transpose(1, 2), MASK_VALUE), MASK_VALUE).transpose(1, 2)
    assert torch.equal(augmented(features, seed=4, time_mask=0.225, frequency_mask=0.2), expected)


def test_what_is_drawn_does_not_depend_on_the_features(features: Tensor) -> None:
    augment = Augmentation(Augment(), frames=FRAMES, mels=MELS, pad_value=PAD)
    drawn = augment.draw(SAMPLES, seeded(2))
    assert drawn.dtype == torch.int64
    assert drawn.shape == (SAMPLES, 5)
    assert torch.equal(augment.apply(features, drawn), augment(features, seeded(2)))


def test_the_generator_alone_decides(features: Tensor) -> None:
    everything = {"time_mask": 0.2, "frequency_mask": 0.2, "time_shift": 0.2}
    torch.manual_seed(1)
    one = augmented(features, **everything)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two = augmented(features, **everything)
    assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(one, augmented(features, seed=1, **everything))


def test_successive_batches_differ(features: Tensor) -> None:
    augment = Augmentation(Augment(), frames=FRAMES, mels=MELS, pad_value=PAD)
    generator = seeded()
    assert not torch.equal(augment(features, generator), augment(features, generator))
