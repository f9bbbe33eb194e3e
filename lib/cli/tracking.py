"""Experiment tracking of the commands that train."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.learning.tracking.options import Tracking


def start_tracking(name: str, *, uri: str, experiment: str) -> Tracking | None:
    """Return the requested tracking, with MLflow configured for this process; None without tracking.

    Raises:
        InputError: Unknown name, or MLflow is not installed.
    """
    from lib.learning.tracking.mlflow_logger import configure_mlflow_process
    from lib.learning.tracking.options import parse_tracking

    tracking = parse_tracking(name, uri=uri, experiment=experiment)
    if tracking is not None:
        configure_mlflow_process()
    return tracking
