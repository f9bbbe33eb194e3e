"""Progress files of a training run: train_stats.json, history.jsonl, TensorBoard."""

from __future__ import annotations

import datetime
import importlib.util
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from lib.files import write_text
from lib.mapping import from_mapping

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")

STATS_FILE = "train_stats.json"
HISTORY_FILE = "history.jsonl"
MEMBERS_FOLDER = "folds"  # of a cross-validated run, a run for each network
TRAINING_LOSS = "train/loss"
KEY_METRIC = "skill_body"  # 1 - MAE / MAE of an all-zero PET, inside the body: 0 is no better than zeros, 1 is perfect


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch.

    Attributes:
        epoch: Counted from 1.
        loss: Mean training loss.
        learning_rate: At the end of the epoch.
        seconds: Training and validation together.
        metrics: On the validation patients; empty without any.
        recorded: Loss and image metrics on the sides `train` and `test`, if the recipe records them.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    metrics: Mapping[str, float | None]
    recorded: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunStatus:
    """Status of a run."""

    epoch: int
    total_epochs: int
    best_epoch: int
    best_metric: float
    started: float  # time.time()
    seconds_left: float
    finished: bool
    stopped_because: str = ""


class RunLog:
    """Writer of the progress files, which can be read at any time."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._tensorboard = _tensorboard(run / "tensorboard")

    def epoch(self, record: EpochRecord, status: RunStatus) -> None:
        """Append an epoch to the history, and replace the statistics."""
        with (self._run / HISTORY_FILE).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        write_text(self._run / STATS_FILE, json.dumps(monai_label_stats(record, status), indent=1))
        if self._tensorboard is not None:
            for name, value in scalars(record).items():
                self._tensorboard.add_scalar(name, value, record.epoch)
            self._tensorboard.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def scalars(record: EpochRecord) -> dict[str, float]:
    """Return the metrics of an epoch by their names in TensorBoard and MLflow."""
    values = {TRAINING_LOSS: record.loss, "train/learning_rate": record.learning_rate, "train/seconds": record.seconds}
    values |= {f"validation/{name}": value for name, value in record.metrics.items() if value is not None}
    for side, metrics in record.recorded.items():  # `train` differs from the mean over the training steps
        values |= {f"recorded_{side}/{name}": value for name, value in metrics.items() if value is not None}
    return values


def monai_label_stats(record: EpochRecord, status: RunStatus) -> dict[str, Any]:
    """Return the statistics in the format of MONAI Label's clients.

    `best_metric` is always a number from 0 to 1: the stock Slicer module shows it as a percentage and fails on None.
    Source: MONAI Label 0.8.5, monailabel/tasks/train/handler.py (`prepare_stats`).
    """
    elapsed = str(datetime.timedelta(seconds=int(time.time() - status.started)))
    shown = min(1.0, max(0.0, status.best_metric))
    return {
        "epoch": status.epoch,
        "total_epochs": status.total_epochs,
        "start_ts": int(status.started),
        "total_time" if status.finished else "current_time": elapsed,
        "time_left": str(datetime.timedelta(seconds=int(status.seconds_left))),
        "best_metric": shown,
        "finished": status.finished,
        "stopped_because": status.stopped_because,
        "train": {
            "metrics": {"loss": record.loss, "learning_rate": record.learning_rate},
            "key_metric_name": "loss",
            "best_metric": shown,
            "best_metric_epoch": status.best_epoch,
        },
        "eval": {
            "metrics": dict(record.metrics),
            "key_metric_name": KEY_METRIC,
            "best_metric": shown,
            "best_metric_epoch": status.best_epoch,
        },
    }


def read_history(run: Path) -> tuple[EpochRecord, ...]:
    """Return the finished epochs of a run; an incomplete line is skipped.

    The epochs of a cross-validated run are those of its networks, one after the other, counted on.
    """
    records: list[EpochRecord] = []
    for history in read_histories(run):
        done = len(records)
        records += [replace(record, epoch=done + record.epoch) if done else record for record in history]
    return tuple(records)


def read_histories(run: Path) -> tuple[tuple[EpochRecord, ...], ...]:
    """Return the finished epochs of each network of a run, one network unless cross-validated; empty before the first.

    An incomplete line is skipped.
    """
    histories = (
        tuple(read_json_lines(folder / HISTORY_FILE, lambda line: from_mapping(EpochRecord, json.loads(line))))
        for folder in (run, *member_runs(run))
    )
    return tuple(history for history in histories if history)


def member_runs(run: Path) -> list[Path]:
    """Return the runs of the networks of a cross-validated run, in order; empty for others and before the first."""
    folder = run / MEMBERS_FOLDER
    found = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def stats_file(run: Path) -> Path:
    """Return the file with the statistics of a run; of a cross-validated one, of the network trained last."""
    written = [path for member in member_runs(run) if (path := member / STATS_FILE).is_file()]
    return written[-1] if written else run / STATS_FILE


def read_json_lines(path: Path, parse: Callable[[str], Parsed]) -> tuple[Parsed, ...]:
    """Parse the lines of an append-only file; empty if the file is missing or cannot be read.

    A line for which `parse` raises ValueError, TypeError or RecursionError is skipped with a warning.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        logger.warning("%s cannot be read (%s)", path, type(error).__name__)
        return ()
    parsed = []
    for line in filter(None, lines):
        try:
            parsed.append(parse(line))
        except (ValueError, TypeError, RecursionError):
            logger.warning("%s: skipped an unreadable line", path)
    return tuple(parsed)


def cut_history(run: Path, *, after_epoch: int) -> None:
    """Drop the epochs that a resumed run will repeat."""
    kept = [record for record in read_history(run) if record.epoch <= after_epoch]
    write_text(run / HISTORY_FILE, "".join(json.dumps(asdict(record)) + "\n" for record in kept))


def _tensorboard(folder: Path) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        logger.warning("tensorboard is not installed: the run writes only train_stats.json and history.jsonl")
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
