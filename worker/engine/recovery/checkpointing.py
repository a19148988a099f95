"""Saves a recovery, and resumes it from what an earlier attempt saved. Losing such a file never fails a job."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError

from api_schemas.results.metrics import EpochLoss
from worker.engine.recovery.training_state import TrainingIdentity, TrainingState, Unusable

log = logging.getLogger(__name__)

_NAME = "step-{step}-epoch-{epoch}.safetensors"


@dataclass(frozen=True)
class CheckpointSettings:
    """Where and how often a step's recovery is saved, and who is told."""

    folder: Path
    step: int
    seconds: float
    """The least between two saves; 0: after every epoch."""
    earlier: Path | None
    """What another attempt saved, of whatever step."""
    on_saved: Callable[[int, Path], None]
    """Gets the number of epochs done and the file, which is whole and on disk."""
    on_resumed: Callable[[Sequence[EpochLoss], int, int], None]
    """Gets the losses of the epochs that need not be done again, their batches, and those of all epochs."""
    clock: Callable[[], float] = time.monotonic


@dataclass
class RecoveryCheckpointer:
    """Saves one recovery between its epochs. Time counts from here."""

    settings: CheckpointSettings
    identity: TrainingIdentity
    state: TrainingState
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.settings.clock()

    def resumed(self, per_epoch: int) -> tuple[EpochLoss, ...]:
        """Go on from the earlier attempt's file where it is of this recovery; returns the losses of the epochs done.

        `per_epoch` is an epoch's number of batches. Without such a file, or with one that is of no use, nothing is done.
        """
        earlier = self.settings.earlier
        if earlier is None:
            return ()
        try:
            losses = self.state.load(earlier, self.identity)
        except Unusable as error:
            log.warning("recovery of step %d starts over; %s is not used: %s", self.identity.step, earlier.name, error)
            return ()
        log.info("recovery of step %d continues after epoch %d", self.identity.step, len(losses))
        self.settings.on_resumed(losses, len(losses) * per_epoch, self.identity.batches)
        return losses

    def epoch_done(self, losses: Sequence[EpochLoss]) -> None:
        """After an epoch that is not the last: save, where it is time, and delete what was saved before.

        `losses` are of all epochs so far.
        """
        if self.settings.clock() - self._since < self.settings.seconds:
            return
        path = self.settings.folder / _NAME.format(step=self.identity.step, epoch=len(losses))
        try:
            self.state.save(path, self.identity, losses)
            for other in self.settings.folder.glob(f"{_NAME.format(step='*', epoch='*')}*"):
                if other != path:
                    other.unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            log.warning("%s could not be saved: %s", path.name, error)
        else:
            self.settings.on_saved(len(losses), path)
        self._since = self.settings.clock()
