"""A recovery that was killed between two epochs and goes on: the same bits and the same losses as in one go."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import ASTForAudioClassification

from api_schemas.results.metrics import EpochLoss
from api_schemas.spec.recovery import Augment, Distill
from worker.engine.data.split import FeatureSplit
from worker.engine.recovery import CheckpointSettings, Teacher, training_state
from worker.engine.recovery.training_state import digest_of

from .conftest import train

EPOCHS = 5
OUTPUTS = tuple(f"audio_spectrogram_transformer.layers.{layer}.attention.o_proj" for layer in (0, 1))
VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "distilled": {"distill": Distill(weight=0.5, attention=0.5)},
    "microbatch": {"distill": Distill(weight=0.5, attention=0.5), "microbatch": 4},
    "no attention": {"projections": {}},
    "all weights": {"method": "full", "distill": Distill(weight=0.5)},
}


class Killed(Exception):
    pass


@dataclass
class Attempt:
    """One attempt at the same recovery, with dropout and augmentation, and all that it says."""

    start: ASTForAudioClassification
    split: FeatureSplit
    variant: str = "plain"
    changes: dict[str, object] = field(default_factory=dict)
    saved: list[tuple[int, Path]] = field(default_factory=list)
    resumed: list[tuple[tuple[EpochLoss, ...], int, int]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    losses: list[EpochLoss] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def checkpointing(self, folder: Path, earlier: Path | None = None, kill: int | None = None) -> CheckpointSettings:
        def on_saved(epoch: int, path: Path) -> None:
            self.saved.append((epoch, path))
            if epoch == kill:
                raise Killed

        def on_resumed(losses: Sequence[EpochLoss], done: int, total: int) -> None:
            self.resumed.append((tuple(losses), done, total))

        return CheckpointSettings(folder, 2, 0.0, earlier, on_saved, on_resumed)

    def run(self, checkpointing: CheckpointSettings | None) -> "Attempt":
        teacher = Teacher(copy.deepcopy(self.start), OUTPUTS)
        with torch.no_grad():
            teacher.model.classifier.dense.weight.mul_(2.0)
        # Where torch's own generators stand must not matter.
        torch.manual_seed(len(self.saved) + 77)
        settings = {"epochs": EPOCHS, "augment": Augment(), **VARIANTS[self.variant], **self.changes}
        tuned, _, self.losses = train(
            copy.deepcopy(self.start), self.split, teacher=teacher, checkpointing=checkpointing,
            on_batch=lambda done, _: self.batches.append(done), **settings,
        )  # fmt: skip
        self.weights = tuned.state_dict()
        return self


Attempts = Callable[..., Attempt]


@pytest.fixture
def attempt(model: ASTForAudioClassification, split: FeatureSplit) -> Attempts:
    assert model.config.hidden_dropout_prob > 0
    return lambda variant="plain", **changes: Attempt(model, split, variant, changes)


def same(one: Attempt, two: Attempt) -> bool:
    return all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())


def killed_after(epoch: int, attempted: Attempt, folder: Path) -> Path:
    with pytest.raises(Killed):
        attempted.run(attempted.checkpointing(folder, kill=epoch))
    return attempted.saved[-1][1]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_gone_on_with_it_is_as_in_one_go(attempt: Attempts, tmp_path: Path, variant: str, epoch: int) -> None:
    whole = attempt(variant).run(None)
    file = killed_after(epoch, attempt(variant), tmp_path / "first")
    again = attempt(variant)
    again.run(again.checkpointing(tmp_path / "second", file))
    assert same(again, whole)
    # Five batches an epoch. What is done is told once, and not by `on_epoch` again.
    assert again.resumed == [(tuple(whole.losses[:epoch]), epoch * 5, EPOCHS * 5)]
    assert again.losses == whole.losses[epoch:]
    assert again.batches == list(range(epoch * 5 + 1, EPOCHS * 5 + 1))


def test_twice_killed_is_as_in_one_go(attempt: Attempts, tmp_path: Path) -> None:
    """In one folder, as where the disk outlives the process."""
    whole = attempt().run(None)
    file = killed_after(1, attempt(), tmp_path)
    second = attempt()
    with pytest.raises(Killed):
        second.run(second.checkpointing(tmp_path, file, kill=4))
    assert [epoch for epoch, _ in second.saved] == [2, 3, 4]
    third = attempt()
    third.run(third.checkpointing(tmp_path, second.saved[-1][1]))
    assert same(third, whole)
    assert third.resumed[0][0] == tuple(whole.losses[:4])


@pytest.mark.parametrize("variant", VARIANTS)
def test_saving_changes_nothing(attempt: Attempts, tmp_path: Path, variant: str) -> None:
    silent, saving = attempt(variant).run(None), attempt(variant)
    saving.run(saving.checkpointing(tmp_path))
    assert same(saving, silent)
    assert saving.losses == silent.losses
    # Nobody goes on after the last epoch; and one file is enough.
    assert [epoch for epoch, _ in saving.saved] == [1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["step-2-epoch-4.safetensors"]


def test_what_others_put_there_is_not_deleted(attempt: Attempts, tmp_path: Path) -> None:
    (tmp_path / "step-1-epoch-7.safetensors").write_bytes(b"an older one")
    (tmp_path / "step-2-epoch-3.safetensors.partial").write_bytes(b"killed while it was written")
    (tmp_path / "recordings").mkdir()
    (tmp_path / "notes.txt").touch()
    saving = attempt(epochs=2)
    saving.run(saving.checkpointing(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"recordings", "notes.txt", "step-2-epoch-1.safetensors"}


def test_saved_when_it_is_time(attempt: Attempts, tmp_path: Path) -> None:
    """An epoch takes 40 of the clock's seconds; 60 are to lie between two savings."""
    saving = attempt(epochs=7)
    now = 1000.0

    def on_saved(epoch: int, path: Path) -> None:
        saving.saved.append((epoch, path))

    checkpointing = replace(
        saving.checkpointing(tmp_path), seconds=60.0, on_saved=on_saved, clock=lambda: now + 8.0 * len(saving.batches)
    )
    saving.run(checkpointing)
    assert [epoch for epoch, _ in saving.saved] == [2, 4, 6]


def test_a_weight_without_a_gradient_is_no_hindrance(
    attempt: Attempts, model: ASTForAudioClassification, tmp_path: Path
) -> None:
    """As the masked embedding of a wav2vec2 that classifies: it is one of all weights, and AdamW knows nothing of it."""
    model.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
    whole = attempt("all weights").run(None)
    file = killed_after(2, attempt("all weights"), tmp_path / "first")
    again = attempt("all weights")
    again.run(again.checkpointing(tmp_path / "second", file))
    assert same(again, whole)
    assert again.resumed == [(tuple(whole.losses[:2]), 2 * 5, EPOCHS * 5)]


def _rewritten(file: Path, change: Callable[[dict[str, torch.Tensor]], None], digest: bool) -> None:
    """The file with its tensors changed; with `digest`, as if it had been written so."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["training"])
    tensors = load_file(file)
    change(tensors)
    if digest:
        header["digest"] = digest_of(tensors)
    save_file(tensors, file, metadata={"training": json.dumps(header)})


def _flip(tensors: dict[str, torch.Tensor]) -> None:
    next(value for name, value in tensors.items() if name.startswith("exp_avg.")).view(-1)[0] += 1.0


def _rename(tensors: dict[str, torch.Tensor]) -> None:
    tensors["parameter.elsewhere"] = tensors.pop(next(name for name in tensors if name.startswith("parameter.")))


def _reshape(tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name in tensors if name.startswith("exp_avg_sq.") and tensors[name].ndim == 2)
    tensors[name] = tensors[name][:-1].clone()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "not safetensors": lambda file: file.write_bytes(b"PK" * 5000),
    "no metadata": lambda file: save_file(load_file(file), file),
    "other bytes": lambda file: _rewritten(file, _flip, digest=False),
    "other names": lambda file: _rewritten(file, _rename, digest=True),
    "other shapes": lambda file: _rewritten(file, _reshape, digest=True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_not_used(
    attempt: Attempts, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = attempt().run(None)
    file = killed_after(2, attempt(), tmp_path / "first")
    DAMAGE[damage](file)
    again = attempt()
    again.run(again.checkpointing(tmp_path / "second", file))
    assert not again.resumed
    assert again.losses == whole.losses
    assert same(again, whole)
    assert "starts over" in caplog.text


@pytest.mark.parametrize("other", ["step", "seed", "microbatch", "epochs", "learning_rate", "weights"])
def test_a_file_of_another_training_is_not_used(
    attempt: Attempts, tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = killed_after(2, attempt(), tmp_path / "first")
    changes = {"seed": 5, "microbatch": 4, "epochs": 6, "learning_rate": 1e-3}
    again = attempt(**({other: changes[other]} if other in changes else {}))
    if other == "weights":
        with torch.no_grad():
            again.start.classifier.dense.bias[0] += 1e-6
    whole = copy.deepcopy(again).run(None)
    checkpointing = again.checkpointing(tmp_path / "second", file)
    again.run(replace(checkpointing, step=3) if other == "step" else checkpointing)
    assert not again.resumed
    assert same(again, whole)
    assert "it belongs to another training" in caplog.text


def test_a_disk_that_is_full_costs_the_file_and_not_the_job(
    attempt: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_state, "save_file", full)
    saving = attempt()
    saving.run(saving.checkpointing(tmp_path))
    assert same(saving, attempt().run(None))
    assert not saving.saved
    assert not list(tmp_path.iterdir())
    assert "could not be saved" in caplog.text
