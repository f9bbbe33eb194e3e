"""What a resumed run must know beside its weights and its optimiser."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class RunState:
    """What a resumed run must know beside weights and optimiser; saved by ignite's Checkpoint as a module is."""

    epoch: int = 0  # finished; the trainer counts steps, and the clock may cut an epoch short
    best_epoch: int = 0
    best_metric: float = -math.inf
    seconds: float = 0.0  # of training so far, earlier sittings included
    stopped_because: str = ""

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what was saved."""
        for name, value in state.items():
            setattr(self, name, value)
