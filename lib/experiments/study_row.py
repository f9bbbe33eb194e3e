"""A row of the study's table."""

from __future__ import annotations

from dataclasses import dataclass

from lib.learning.model_card.scores import Scores


@dataclass(frozen=True)
class StudyRow:
    """The cost and the test scores of one number of stages.

    Attributes:
        parameters: Number of trainable parameters.
        gflop: Of one 256 x 256 slice.
        epoch: Epoch of the selected weights.
        scores: Of the model and the baselines.
    """

    stages: int
    base_channels: int
    parameters: int
    gflop: float
    epochs: int
    epoch: int
    scores: Scores
