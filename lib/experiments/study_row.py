"""One row of the study's table."""

from __future__ import annotations

from dataclasses import dataclass

from lib.learning.model_card.scores import Scores


@dataclass(frozen=True)
class StudyRow:
    """One number of stages: what it costs and how it does on the test side.

    Attributes:
        parameters: Trainable numbers.
        gflop: Of one 256 x 256 slice through the network.
        epoch: Whose weights were kept.
        scores: Of the model and the trivial baselines.
    """

    stages: int
    base_channels: int
    parameters: int
    gflop: float
    epochs: int
    epoch: int
    scores: Scores
