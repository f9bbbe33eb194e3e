"""The training that `test_training.py` kills; in a module of its own, so that its process imports no test."""

from __future__ import annotations

from pathlib import Path

from lib.learning.training import train
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import tiny_recipe

EPOCHS = 6


def train_or_resume(prepared: Path, run: Path) -> None:
    """Train on prepared arrays, or continue the run."""
    train(PreparedSet.open(prepared), tiny_recipe(f"epochs={EPOCHS}"), run, resume=True)
