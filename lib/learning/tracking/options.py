"""Where a run is mirrored to while it trains, in the words that users of MONAI Label know."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lib.errors import InputError

OWN_FOLDER = "mlflow"  # of a run that is mirrored to nowhere else


@dataclass(frozen=True)
class Tracking:
    """A run is to be mirrored to MLflow.

    Attributes:
        uri: Of a tracking server or a database, or a folder to make one in. Empty: what MLFLOW_TRACKING_URI says, or
            else the folder `mlflow` of the run.
        experiment: Under which name runs are listed.
        run_name: Of this run among them; the model's name when empty.
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
    """A tracking URI as MLflow takes it, where a database keeps its artifacts, and how it is shown to a person."""

    uri: str
    artifacts: Path | None
    shown: str


def parse_tracking(word: str | None, *, uri: str = "", experiment: str = "", run_name: str = "") -> Tracking | None:
    """Return the tracking that `mlflow` asks for; None for `none`, whatever its case, or nothing.

    Raises:
        InputError: Another word, or MLflow is asked for and not installed.
    """
    if (word or "none").lower() == "none":
        return None
    if str(word).lower() != "mlflow":
        raise InputError(f"tracking {str(word)[:40]!r}: expected mlflow or none")
    return Tracking(uri, experiment or Tracking.experiment, run_name)


def store_of(uri: str, run: Path) -> Store:
    """Return where a run in a folder is mirrored to, given what was asked for; a password is not shown."""
    asked = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if asked.startswith("sqlite:///"):
        return Store(asked, Path(asked.removeprefix("sqlite:///")).resolve().parent / "mlruns", asked)
    if "://" in asked and not asked.startswith("file://"):
        parts = urlsplit(asked)
        return Store(asked, None, parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    # MLflow refuses plain folders since 3.13, so a database is made in it
    folder = (Path(asked.removeprefix("file://")) if asked else run / OWN_FOLDER).resolve()
    database = f"sqlite:///{folder / 'mlflow.db'}"
    return Store(database, folder / "mlruns", database if asked else "the run's own folder")
