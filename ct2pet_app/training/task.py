"""The training of one model: scan, pair, prepare, train, keep, judge. Runs in a task process.

It can be killed at any point: each step finds the results of the steps before and continues from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.versions import how_to_serve
from ct2pet_app.server.tasks.progress import log_percent, report_file, write_report
from ct2pet_app.settings import AppSettings
from ct2pet_app.training.promotion import publish_if_better
from ct2pet_app.training.request import TrainRequest, shown_settings
from ct2pet_app.training.run_folders import (
    START_FILE,
    VERDICT_FILE,
    RunStart,
    make_run,
    newest_stats,
    recipe_of_run,
    runs_in,
    start_of_run,
    stats_of_run,
)
from lib.errors import PreparedDataError, StudiesError, TrainingError
from lib.files import write_text
from lib.learning.cross_validation.training import MIN_FOLDS, MIN_PATIENTS_PER_FOLD, train_cross_validated
from lib.learning.recipe import Recipe
from lib.learning.run_lock import is_in_use
from lib.learning.tracking.mlflow_logger import configure_mlflow_process
from lib.learning.training import MODEL_FILE, train
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import PreparedSet

logger = logging.getLogger(__name__)

RUN = "run"  # key of a training's report: the name of its run


class CascadeTrainTask(TrainTask):
    """The training task of one model."""

    def __init__(self, name: str, models: ModelRegistry, settings: AppSettings) -> None:
        super().__init__(f"train {name} on every CT/PET pair of the studies")
        self._name = name
        self._models = models
        self._settings = settings

    def config(self) -> dict[str, Any]:
        """Return the settings that a client can change, with their defaults."""
        return shown_settings(self._settings, self._name)

    def stats(self) -> dict[str, Any]:
        """Return the statistics and the verdict of the newest run; empty before the first."""
        return newest_stats(self._models.runs(self._name))

    def read_request(self, params: Mapping[str, Any]) -> TrainRequest:
        """Return the validated request; raise InputError for invalid parameters."""
        return TrainRequest.from_params(params, model=self._name, settings=self._settings)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, keep the model, and serve it if the rule allows it; return the statistics.

        Raises:
            StudiesError: There is no pair to train on.
            TrainingError: The disk is full; the served model is unchanged, and the run can be resumed.
            CT2PETError: As the engine's `train`.
        """
        try:
            return self._train(request, datastore)
        except OSError as error:
            raise TrainingError(
                f"{self._models.folder}: cannot be written ({error}); free space and try again, finished work is kept",
                code="write_failed",
            ) from error

    def _train(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        parsed = self.read_request(request)
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("training needs the datastore of a folder of studies or of a PACS")
        pairs = require_pairs(datastore.training_pairs(), datastore)
        prepared = self._prepare(pairs, parsed.recipe, datastore)
        run, begun = self._run_folder(parsed, _folds(parsed, prepared))
        write_report(report_file(self._models.folder, request), {RUN: run.name})
        if parsed.tracking is not None:
            configure_mlflow_process()
        train_model = (
            partial(train_cross_validated, folds=begun.folds)
            if begun.folds
            else partial(train, assigned=datastore.pairs.sides(pairs, parsed.recipe.split))
        )
        result = train_model(
            prepared,
            parsed.recipe,
            run,
            resume=True,  # a new run has nothing to resume
            initial=self._initial(run, begun),
            name=self._name,
            device=parsed.device,
            tracking=parsed.tracking,
            progress=log_percent(f"training {self._name}"),
        )
        logger.info("training %s ended after epoch %d: %s", self._name, result.epochs, result.stopped_because)
        version = publish_if_better(
            self._name,
            result.model,
            self._models,
            pairs,
            origin=f"training run {run.name}",
            parent=begun.parent,
            rule=parsed.publish,
            device=parsed.device,
            local_files=datastore.local_files,
            progress=log_percent(f"judging {self._name}"),
        )
        outcome = {} if version.verdict is None else asdict(version.verdict)
        outcome.pop("figures", None)  # stored in the version's record
        if version.verdict is not None and not version.verdict.published:
            outcome["advice"] = how_to_serve(self._name, version.number)
        write_text(run / VERDICT_FILE, json.dumps({**outcome, "version": version.number}))
        logger.info("%s: %s", self._name, outcome.get("verdict"))
        return stats_of_run(self._models.runs(self._name), run.name)  # another server may have begun a newer run

    def _prepare(self, pairs: tuple[PairedSeries, ...], recipe: Recipe, datastore: StudiesDatastore) -> PreparedSet:
        folder = self._models.folder / "prepared" / recipe.preparation.digest()
        report = prepare_pairs(
            pairs,
            folder,
            preparation=recipe.preparation,
            local_files=datastore.local_files,
            progress=log_percent(f"preparing {len(pairs)} pairs"),
        )
        for failed in report.failed:
            logger.warning("CT %s is left out: %s", failed.ct_series_instance_uid, failed.reason)
        if not report.prepared.pairs:
            reason = report.failed[0].reason if report.failed else "there are none"
            raise PreparedDataError(
                f"none of {len(pairs)} pairs could be prepared; the first: {reason}",
                code="no_prepared_pairs",
                pairs=len(pairs),
            )
        return report.prepared

    def _run_folder(self, parsed: TrainRequest, folds: int) -> tuple[Path, RunStart]:
        """Return the unfinished run of the same recipe, or a new one, and what it starts from.

        A run is resumed only while the weights that it started from are served; a trained run is judged in any case.
        A run that another server, which shares the folder, is training is left to it.
        """
        runs = self._models.runs(self._name)
        starts = RunStart(parsed.pretrained, self._parent(parsed, folds), folds)
        if parsed.resume:
            for run in reversed(runs_in(runs)):
                begun = start_of_run(run)
                is_trained = (run / MODEL_FILE).is_file() and begun.folds == folds
                same_start = begun == starts or (begun.pretrained == parsed.pretrained and is_trained)
                is_unfinished = not (run / VERDICT_FILE).is_file() and not is_in_use(run)
                if is_unfinished and same_start and recipe_of_run(run) == parsed.recipe:
                    logger.info("resuming run %s", run.name)
                    return run, begun
        run = make_run(self._models.folder, runs)
        write_text(run / START_FILE, json.dumps(asdict(starts)))
        return run, starts

    def _initial(self, run: Path, begun: RunStart) -> Path | None:
        if begun.parent is None or (run / MODEL_FILE).is_file():
            return None
        return self._models.version(self._name, begun.parent).checkpoint

    def _parent(self, parsed: TrainRequest, folds: int) -> int | None:
        """Return the version whose weights to start from; None for new ones."""
        published = self._models.published(self._name) if parsed.pretrained else None
        if published is None:
            return None
        network = replace(parsed.recipe.network, members=max(folds, 1))
        if published.card.external is not None or published.card.network != network:
            logger.info("%s starts from new weights: the served model has another network", self._name)
            return None
        return published.version


def _folds(parsed: TrainRequest, prepared: PreparedSet) -> int:
    """Return the folds of a training: fewer than requested for few patients, 0 for too few or a split by slice."""
    if not parsed.folds or parsed.recipe.split.unit != "patient":
        return 0
    patients = len(prepared.patients())
    folds = min(parsed.folds, patients // MIN_PATIENTS_PER_FOLD)
    if folds < min(parsed.folds, MIN_FOLDS):
        logger.info("%d patients are too few for cross-validation; some are set aside instead", patients)
        return 0
    return folds


def require_pairs(pairs: tuple[PairedSeries, ...], datastore: StudiesDatastore) -> tuple[PairedSeries, ...]:
    """Return the pairs.

    Raises:
        StudiesError: There are none.
    """
    if pairs:
        return pairs
    images = len(datastore.list_images())
    raise StudiesError(
        f"nothing to train on: {images} CT series, none with a PET of the same study and frame of reference",
        code="no_pairs",
        images=images,
    )
