"""The training of one model: scan, pair, prepare, train, keep, judge. Runs in the child process MONAI Label starts.

It may be killed at any line: each step finds what was finished before, and goes on from there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.models import ModelStore
from ct2pet_app.publish import publish_if_fit
from ct2pet_app.server.task_progress import tell_percent
from ct2pet_app.settings import AppSettings
from ct2pet_app.train_request import TrainRequest, shown_settings
from lib.errors import PreparedDataError, RecipeError, StudiesError, TrainingError
from lib.learning.progress import STATS_FILE
from lib.learning.recipe import Recipe, recipe_from_mapping
from lib.learning.training import MODEL_FILE, RECIPE_FILE, train
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import PreparedSet, write_text

logger = logging.getLogger(__name__)

BEGUN_FILE = "begun.json"  # the first file of a run: from what it starts
VERDICT_FILE = "verdict.json"  # the last file of a run: it was trained, kept, and is served or not


class CascadeTrainTask(TrainTask):
    """The training that a model's name stands for."""

    def __init__(self, name: str, models: ModelStore, settings: AppSettings) -> None:
        super().__init__(f"train {name} on every CT/PET pair of the studies")
        self._name = name
        self._models = models
        self._settings = settings

    def config(self) -> dict[str, Any]:
        """Return what a client may set, with the defaults."""
        return shown_settings(self._settings, self._name)

    def stats(self) -> dict[str, Any]:
        """Return how the newest run does, or did, and what was decided; empty before the first."""
        return newest_stats(self._models.runs(self._name))

    def read_request(self, params: Mapping[str, Any]) -> TrainRequest:
        """Return the training that is asked for; raises InputError on words that are not understood."""
        return TrainRequest.from_params(params, model=self._name, settings=self._settings)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, keep the model, and serve it if it may be; return the statistics.

        Raises:
            StudiesError: There is no pair to train on.
            TrainingError: The disk is full; what is served stays, and the run can go on.
            CT2PETError: As the engine's `train`.
        """
        try:
            return self._train(request, datastore)
        except OSError as error:
            raise TrainingError(
                f"{self._models.folder}: cannot be written ({error}); free space and ask again, finished work is kept"
            ) from error

    def _train(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        asked = self.read_request(request)
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("training needs the datastore of a folder of studies or of a PACS")
        pairs = require_pairs(datastore.training_pairs(), datastore)
        prepared = self._prepare(pairs, asked.recipe, datastore)
        run, begun = self._run_folder(asked)
        result = train(
            prepared,
            asked.recipe,
            run,
            resume=True,  # of a new run there is nothing to go on from
            initial=self._initial(run, begun),
            name=self._name,
            device=asked.device,
            tracking=asked.tracking,
            assigned=datastore.pairs.sides(pairs, asked.recipe.split),
            progress=tell_percent(f"training {self._name}"),
        )
        logger.info("training %s ended after epoch %d: %s", self._name, result.epochs, result.stopped_because)
        version = publish_if_fit(
            self._name,
            result.model,
            self._models,
            pairs,
            origin=f"training run {run.name}",
            parent=begun.parent,
            rule=asked.publish,
            device=asked.device,
            at_hand=datastore.at_hand,
            progress=tell_percent(f"judging {self._name}"),
        )
        told = {} if version.verdict is None else asdict(version.verdict)
        told.pop("figures", None)  # they are in the version's record
        write_text(run / VERDICT_FILE, json.dumps({**told, "version": version.number}))
        logger.info("%s: %s", self._name, told.get("verdict"))
        return self.stats()

    def _prepare(self, pairs: tuple[PairedSeries, ...], recipe: Recipe, datastore: StudiesDatastore) -> PreparedSet:
        folder = self._models.folder / "prepared" / recipe.preparation.digest()
        report = prepare_pairs(
            pairs,
            folder,
            preparation=recipe.preparation,
            at_hand=datastore.at_hand,
            progress=tell_percent(f"preparing {len(pairs)} pairs"),
        )
        for failed in report.failed:
            logger.warning("CT %s is left out: %s", failed.ct_series_instance_uid, failed.reason)
        if not report.prepared.pairs:
            reason = report.failed[0].reason if report.failed else "there were none"
            raise PreparedDataError(f"none of {len(pairs)} pairs could be prepared; the first: {reason}")
        return report.prepared

    def _run_folder(self, asked: TrainRequest) -> tuple[Path, Begun]:
        """Return the unfinished run that is asked for again, or a new one, and what it starts from.

        A run goes on while the weights it started from are the ones served; one that is trained is still judged.
        """
        runs = self._models.runs(self._name)
        starts = Begun(asked.pretrained, self._parent(asked))
        if asked.resume:
            for run in sorted(_runs_in(runs), reverse=True):
                begun = _begun(run)
                same_start = begun == starts or (begun.pretrained == asked.pretrained and (run / MODEL_FILE).is_file())
                if not (run / VERDICT_FILE).is_file() and same_start and _recipe_of(run) == asked.recipe:
                    logger.info("going on with run %s", run.name)
                    return run, begun
        run = _new_run(runs)
        run.mkdir(parents=True)
        write_text(run / BEGUN_FILE, json.dumps(asdict(starts)))
        return run, starts

    def _initial(self, run: Path, begun: Begun) -> Path | None:
        if begun.parent is None or (run / MODEL_FILE).is_file():
            return None
        return self._models.version(self._name, begun.parent).checkpoint

    def _parent(self, asked: TrainRequest) -> int | None:
        """Return the version whose weights to start from; None for fresh ones."""
        published = self._models.published(self._name) if asked.pretrained else None
        if published is None:
            return None
        if published.card.network != asked.recipe.network:
            logger.info("%s starts from fresh weights: what is served has another network", self._name)
            return None
        return published.version


@dataclass(frozen=True)
class Begun:
    """From what a run starts: whether from what is served, and which version that was."""

    pretrained: bool = True
    parent: int | None = None


def require_pairs(pairs: tuple[PairedSeries, ...], datastore: StudiesDatastore) -> tuple[PairedSeries, ...]:
    """Return the pairs.

    Raises:
        StudiesError: There are none.
    """
    if pairs:
        return pairs
    images = len(datastore.list_images())
    raise StudiesError(
        f"nothing to train on: {images} CT series, none with a PET of the same study and frame of reference; "
        "GET /ct2pet/series says why for each series"
    )


def newest_stats(runs: Path) -> dict[str, Any]:
    """Return how the newest run of a folder does, or did, and what was decided about its model; empty without runs."""
    run = newest_run(runs)
    if run is None:
        return {}
    return {**_json_of(run / STATS_FILE), "run": run.name, **_json_of(run / VERDICT_FILE)}


def newest_run(runs: Path) -> Path | None:
    """Return the run that was begun last, or None."""
    return max(_runs_in(runs), default=None)


def _runs_in(runs: Path) -> list[Path]:
    return [run for run in runs.iterdir() if run.is_dir()] if runs.is_dir() else []


def _new_run(runs: Path) -> Path:
    """Return a folder that does not exist yet, later in name order than all that do."""
    name = time.strftime("%Y%m%d-%H%M%S")
    number = sum(run.name.startswith(name) for run in _runs_in(runs))
    return runs / (f"{name}-{number}" if number else name)


def _recipe_of(run: Path) -> Recipe | None:
    try:
        return recipe_from_mapping(json.loads((run / RECIPE_FILE).read_text()))
    except (OSError, ValueError, RecipeError):  # killed before it was written, or of an older version: not that run
        return None


def _begun(run: Path) -> Begun:
    """Return what a run starts from; fresh weights where it was killed before it wrote that down."""
    try:
        return Begun(**json.loads((run / BEGUN_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return Begun()


def _json_of(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
