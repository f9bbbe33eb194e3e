"""Folders of the training runs of a model, ordered by age.

A run is named `0012-20261128-190000`: a number and its start time. Runs are ordered by number, which does not depend on
the clock. Runs of earlier versions are named by the time only and sort before all others.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct2pet_app.json_values import read_json_object
from lib.errors import RecipeError
from lib.learning.recipe import Recipe, recipe_from_mapping
from lib.learning.tracking.progress import stats_file
from lib.learning.training import RECIPE_FILE

START_FILE = "begun.json"  # the first file of a run: its RunStart
VERDICT_FILE = "verdict.json"  # the last file of a run: whether its model is served
NUMBERED = re.compile(r"([0-9]{4,7})-[0-9]{8}-[0-9]{6}")
NAMED_BY_TIME = re.compile(r"([0-9]{8}-[0-9]{6})(?:-([0-9]{1,6}))?")


@dataclass(frozen=True)
class RunStart:
    """What a run starts from.

    Attributes:
        pretrained: Whether the served weights were requested.
        parent: Version of the weights; None for new ones.
        folds: Of a cross-validated training; 0 for one on the training side of the split.
    """

    pretrained: bool = True
    parent: int | None = None
    folds: int = 0


def runs_in(runs: Path) -> list[Path]:
    """Return the runs of a model, oldest first."""
    found = [run for run in runs.iterdir() if run.is_dir()] if runs.is_dir() else []
    return sorted(found, key=lambda run: run_order(run.name))


def run_order(name: str) -> tuple[int, int, str]:
    """Return a sort key for names of runs, oldest first; other folders come first."""
    numbered, by_time = NUMBERED.fullmatch(name), NAMED_BY_TIME.fullmatch(name)
    if numbered:
        return 2, int(numbered[1]), name
    return (1, int(by_time[1].replace("-", "")) * 10**6 + int(by_time[2] or 0), name) if by_time else (0, 0, name)


def newest_run(runs: Path) -> Path | None:
    """Return the newest run, or None."""
    found = runs_in(runs)
    return found[-1] if found else None


def make_run(models_folder: Path, runs: Path) -> Path:
    """Create the folder of a new run, with a higher number than all runs of all models, and return it."""
    while True:
        known = [run_order(run.name) for run in models_folder.glob("*/runs/*")]
        number = 1 + max((order[1] for order in known if order[0] == 2), default=0)
        run = runs / f"{number:04d}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            run.mkdir(parents=True)
        except FileExistsError:  # created by another server that shares the folder
            continue
        return run


def newest_stats(runs: Path) -> dict[str, Any]:
    """Return the statistics and the verdict of the newest run; empty without runs."""
    run = newest_run(runs)
    return {} if run is None else stats_of_run(runs, run.name)


def stats_of_run(runs: Path, name: str) -> dict[str, Any]:
    """Return the statistics and the verdict of a run; empty if there is no such run."""
    if name not in {run.name for run in runs_in(runs)}:
        return {}
    stats, verdict = (read_json_object(file) or {} for file in (stats_file(runs / name), runs / name / VERDICT_FILE))
    return {**stats, "run": name, **verdict}


def recipe_of_run(run: Path) -> Recipe | None:
    """Return the recipe of a run; None if it was not written, or by an incompatible version."""
    written = read_json_object(run / RECIPE_FILE)
    try:
        return None if written is None else recipe_from_mapping(written)
    except RecipeError:
        return None


def start_of_run(run: Path) -> RunStart:
    """Return what a run starts from; the default if that was not written or is not readable."""
    written = read_json_object(run / START_FILE) or {}
    pretrained, parent, folds = (written.get(name) for name in ("pretrained", "parent", "folds"))
    if not isinstance(pretrained, bool) or not (parent is None or type(parent) is int):
        return RunStart()
    return RunStart(pretrained, parent, folds if type(folds) is int else 0)
