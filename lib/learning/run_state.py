"""What a resumed run must know beside its weights and its optimiser."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

from lib.learning.recipe import ScheduleConfig
from lib.learning.tracking.progress import KEY_METRIC, RunStatus


@dataclass
class RunState:
    """What a resumed run must know beside weights and optimiser; saved by ignite's Checkpoint as a module is."""

    epoch: int = 0  # finished; the trainer counts steps, and the clock may cut an epoch short
    best_epoch: int = 0
    best_metric: float = -math.inf  # stays so where nobody validates
    loss: float = math.nan  # of the newest epoch
    seconds: float = 0.0  # of training so far, earlier sittings included
    stopped_because: str = ""

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what was saved."""
        for name, value in state.items():
            setattr(self, name, value)

    def in_words(self) -> str:
        """Return the best validation figure so far, or, where nobody validates, the newest loss; empty before both."""
        if math.isfinite(self.best_metric):
            return f", best {KEY_METRIC} {self.best_metric:.3f}"
        return f", loss {self.loss:.4f}" if math.isfinite(self.loss) else ""

    def status(self, schedule: ScheduleConfig, *, seconds: float) -> RunStatus:
        """Return where the run stands after `seconds` of training, for those who wait for it."""
        seconds_left = seconds / self.epoch * (schedule.epochs - self.epoch)
        if schedule.max_minutes:
            seconds_left = min(seconds_left, max(0.0, schedule.max_minutes * 60 - seconds))
        finished = self.epoch >= schedule.epochs or bool(self.stopped_because)
        return RunStatus(
            epoch=self.epoch,
            total_epochs=schedule.epochs,
            best_epoch=self.best_epoch,
            best_metric=self.best_metric,
            started=time.time() - seconds,
            seconds_left=0.0 if finished else seconds_left,
            finished=finished,
            stopped_because=self.stopped_because,
        )
