"""Recovery on a CUDA device: the host never waits inside an epoch, and the same seed gives the same bits."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTForAudioClassification

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.recovery import Distill
from worker.engine.data.split import FeatureSplit
from worker.engine.recovery import CheckpointSettings, Teacher

from .conftest import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CUDA = torch.device("cuda")
OUTPUTS = tuple(f"audio_spectrogram_transformer.layers.{layer}.attention.o_proj" for layer in (0, 1))
DISTILL = Distill(weight=0.5, attention=0.5)


def teacher_of(model: ASTForAudioClassification) -> Teacher:
    return Teacher(copy.deepcopy(model).to(CUDA), OUTPUTS)


@pytest.mark.parametrize("epochs", [1, 3])
def test_no_wait_for_the_device_between_two_batches(
    model: ASTForAudioClassification, split: FeatureSplit, epochs: int
) -> None:
    """One epoch reads ahead, three hold the split on the device. Waits are an error from the second batch of an epoch on."""
    per_epoch = -(-len(split) // 10)

    def watch(done: int, _total: int) -> None:
        # The first step of an optimizer makes its state, and the end of an epoch asks for the loss.
        torch.cuda.set_sync_debug_mode("default" if done % per_epoch == 0 else "error")

    try:
        _, _, losses = train(
            model, split, device=CUDA, teacher=teacher_of(model), distill=DISTILL, epochs=epochs, on_batch=watch
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(loss.train_loss) for loss in losses)


def test_the_same_seed_gives_the_same_bits_and_learns(model: ASTForAudioClassification, split: FeatureSplit) -> None:
    runs = [
        train(copy.deepcopy(model), split, device=CUDA, teacher=teacher_of(model), distill=DISTILL, epochs=8)
        for _ in range(2)
    ]
    one, two = (tuned.state_dict() for tuned, _, _ in runs)
    assert runs[0][2] == runs[1][2]
    assert all(torch.equal(one[name], two[name]) for name in one)
    alone = train(copy.deepcopy(model), split, device=CUDA, epochs=8)[2]
    assert alone[-1].train_loss < 0.5 * alone[0].train_loss


def test_gone_on_with_it_is_as_in_one_go(model: ASTForAudioClassification, split: FeatureSplit, tmp_path: Path) -> None:
    """With the GPU's own generator, which draws the dropout, and in parts."""
    files: list[Path] = []
    resumed: list[int] = []

    def attempt(earlier: Path | None) -> ASTForAudioClassification:
        def on_saved(epoch: int, path: Path) -> None:
            # The next saving deletes it.
            files.append(path.rename(tmp_path / f"kept-{epoch}.safetensors"))

        checkpointing = CheckpointSettings(
            tmp_path, 1, 0.0, earlier, on_saved, lambda losses, _done, _total: resumed.append(len(losses))
        )
        start, settings = copy.deepcopy(model), {"epochs": 4, "distill": DISTILL, "microbatch": 4}
        return train(start, split, device=CUDA, teacher=teacher_of(model), checkpointing=checkpointing, **settings)[0]

    whole = attempt(None).state_dict()
    again = attempt(files[1]).state_dict()
    assert resumed == [2]
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_a_loss_that_is_not_finite_is_found_before_the_merge(
    model: ASTForAudioClassification, split: FeatureSplit
) -> None:
    features = split.inputs["input_values"].copy()
    features[3, 0, 0] = np.inf
    with pytest.raises(SecateurError) as caught:
        train(model, FeatureSplit({"input_values": features}, split.targets), device=CUDA, epochs=1)
    assert caught.value.code is ErrorCode.NUMERICAL
