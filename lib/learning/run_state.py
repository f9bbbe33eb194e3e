"""State of a training run that is saved with weights and optimiser."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

from lib.learning.recipe import ScheduleConfig
from lib.learning.tracking.progress import RunStatus


@dataclass(frozen=True)
class Outcome:
    """Result of the training loop."""

    epochs: int
    best_epoch: int
    stopped_because: str


@dataclass
class RunState:
    """State of a training run; ignite's Checkpoint saves it through `state_dict`."""

    epoch: int = 0  # finished epochs; the trainer counts steps, and a time limit may shorten an epoch
    best_epoch: int = 0
    best_metric: float = -math.inf  # without validation patients it stays so
    loss: float = math.nan  # of the latest epoch
    seconds: float = 0.0  # of training, including earlier processes
    stopped_because: str = ""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        for name, value in state.items():
            setattr(self, name, value)

    def summary(self) -> str:
        """Return the best validation metric, else the latest loss, as text; empty before the first epoch."""
        if math.isfinite(self.best_metric):
            side = "below" if self.best_metric >= 0 else "above"
            return f", body MAE at best {100 * abs(self.best_metric):.1f} % {side} that of zero uptake"
        return f", loss {self.loss:.4f}" if math.isfinite(self.loss) else ""

    def status(self, schedule: ScheduleConfig, *, seconds: float) -> RunStatus:
        """Return the status after `seconds` of training, with the estimated remaining time."""
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
