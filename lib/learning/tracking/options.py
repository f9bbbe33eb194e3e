"""Options of experiment tracking, with the values of MONAI Label."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lib.errors import InputError

RUN_STORE = "mlflow"  # folder in the run, if no other store is given


@dataclass(frozen=True)
class Tracking:
    """Tracking of a run by MLflow.

    Attributes:
        uri: URI of a tracking server or a database, or a folder in which to create one. Empty: MLFLOW_TRACKING_URI,
            else the folder `mlflow` in the run.
        experiment: Name of the experiment.
        run_name: Name of the run; the model's name if empty.
    """

    uri: str = ""
    experiment: str = "ct2pet"
    run_name: str = ""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise InputError(
                "tracking with MLflow is requested, but the package mlflow is not installed; install it, or track none",
                code="mlflow_not_installed",
            )


@dataclass(frozen=True)
class Store:
    """An MLflow store: its URI, the artifact folder of a database, and the URI without password for messages."""

    uri: str
    artifacts: Path | None
    shown: str


def parse_tracking(name: str | None, *, uri: str = "", experiment: str = "", run_name: str = "") -> Tracking | None:
    """Return the tracking options for `mlflow`, in any case; None for `none` or an empty name.

    Raises:
        InputError: Unknown name, or MLflow is not installed.
    """
    if (name or "none").lower() == "none":
        return None
    if str(name).lower() != "mlflow":
        raise InputError(f"tracking {str(name)[:40]!r}: expected mlflow or none")
    return Tracking(uri, experiment or Tracking.experiment, run_name)


def store_of(uri: str, run: Path) -> Store:
    """Return the store of a run, given a URI or an empty string; passwords are not shown."""
    requested = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if requested.startswith("sqlite:///"):
        return Store(requested, Path(requested.removeprefix("sqlite:///")).resolve().parent / "mlruns", requested)
    if "://" in requested and not requested.startswith("file://"):
        parts = urlsplit(requested)
        return Store(requested, None, parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    # MLflow refuses plain folders since 3.13, so create a database in the folder
    folder = (Path(requested.removeprefix("file://")) if requested else run / RUN_STORE).resolve()
    database = f"sqlite:///{folder / 'mlflow.db'}"
    return Store(database, folder / "mlruns", database if requested else "the run's own folder")
