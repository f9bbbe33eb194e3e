"""The MONAI Label app: composes settings, models, datastore and tasks.

Its constructor reads neither DICOM nor weights, because every task process creates the app again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from monailabel.config import settings as monailabel_settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.sessions import Sessions

import lib
from ct2pet_app.advice import detail_of
from ct2pet_app.batch.task import BatchSynthesis
from ct2pet_app.datastore.ct_source import CTSource
from ct2pet_app.datastore.open import open_datastore
from ct2pet_app.datastore.sessions import CheckedSessions
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.errors import NotFoundError, RequestError, switched_off
from ct2pet_app.inference.request import FORBIDDEN, InferOptions
from ct2pet_app.inference.task import SynthesisTask
from ct2pet_app.inference.volume_cache import VolumeCache
from ct2pet_app.json_values import sendable
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.scoring.active_learning import DEFAULT, strategies
from ct2pet_app.scoring.task import PairScoring, UncertaintyScoring
from ct2pet_app.server.concurrency import IsDisconnected, never
from ct2pet_app.server.monai_label import running_server, stop_server
from ct2pet_app.server.process_memory import limit_heap, return_free_memory
from ct2pet_app.server.tasks.process import task_process
from ct2pet_app.server.tasks.progress import report_error, report_file
from ct2pet_app.server.tasks.runner import TaskRunner
from ct2pet_app.server.termination import on_termination
from ct2pet_app.server.warm_up import begin_in_background, load_models, scan_studies
from ct2pet_app.server.work_pools import WorkPools
from ct2pet_app.settings import AppSettings
from ct2pet_app.training.task import CascadeTrainTask, require_pairs
from ct2pet_app.validation import did_you_mean
from lib.errors import CT2PETError, InputError, StudiesError
from lib.memory import MemoryBudget

logger = logging.getLogger(__name__)

ALONE_SHARE = 4  # a single series may exceed the budget up to a quarter of the memory, if nothing else runs
DESCRIPTION = "Synthetic PET from CT by a cascade of U-Nets. Research software, NOT FOR DIAGNOSIS."


class CT2PETApp(MONAILabelApp):
    """The app that MONAI Label creates: once in the server, and again in every task process."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None = None) -> None:
        try:
            self.settings = AppSettings.from_conf(conf or {}, app_folder=Path(app_dir))
        except InputError as error:
            stop_server(error)
            raise
        self.budget = _memory_budget(self.settings)
        self.pools = WorkPools()
        self.models = ModelRegistry(self.settings, budget=self.budget)
        self.task_runner = TaskRunner(self.settings.models_folder)
        super().__init__(app_dir, studies, conf or {}, "ct2pet", DESCRIPTION, lib.__version__, ["PET"])
        # MONAI Label's default scores all pairs at every start and for every sample request. An explicit setting cannot
        # be recognised: its command line writes every default into the environment
        self._auto_update_scoring = False

    # -- hooks of MONAI Label's constructor ----------------------------------------------------------------------------

    def init_datastore(self) -> Datastore:
        """Return the datastore of a folder, or of a PACS if `studies` is a URL.

        Raises:
            InputError: Invalid URL or credentials.
        """
        try:
            return open_datastore(self.studies, self.settings, budget=self.budget)
        except InputError as error:
            stop_server(error)
            raise

    def init_infers(self) -> dict[str, InferTask]:
        """Return one inference task per model."""
        self.budget.add_cache(recent := VolumeCache())
        foreground = self.studies_datastore.pairs.foreground
        task = partial(SynthesisTask, models=self.models, budget=self.budget, recent=recent, foreground=foreground)
        return {name: task(name) for name in self.settings.models}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return one training task per model."""
        return {name: CascadeTrainTask(name, self.models, self.settings) for name in self.settings.models}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the active learning strategies."""
        return strategies(self.models)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return the scoring methods."""
        return {"metrics": PairScoring(self.models), "uncertainty": UncertaintyScoring(self.models)}

    def init_batch_infer(self) -> Callable[..., Any]:
        """Return the batch inference task."""
        return BatchSynthesis(self.models)

    def _load_sessions(self, load: bool = False) -> Sessions | None:
        if not load:
            return None
        folder = monailabel_settings.MONAI_LABEL_SESSION_PATH or str(self.settings.models_folder / "sessions")
        return CheckedSessions(folder, monailabel_settings.MONAI_LABEL_SESSION_EXPIRY)

    def info(self) -> dict[str, Any]:
        """Return the response of ``/info/``, with values that JSON cannot represent replaced."""
        return dict(sendable(super().info()))

    # -- requests ------------------------------------------------------------------------------------------------------

    def on_init_complete(self) -> None:
        """Begin what the first requests need."""
        super().on_init_complete()
        if running_server() is not None:
            self.studies_datastore.pairs.watch()
            on_termination(self.studies_datastore.close)
            begin_in_background(load_models, self.models, name="first load")
        begin_in_background(scan_studies, self.studies_datastore.listing, name="first scan")

    @property
    def studies_datastore(self) -> StudiesDatastore:
        """The datastore as a `StudiesDatastore`."""
        datastore = self.datastore()
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("the server's datastore holds no studies")
        return datastore

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Return the result for an image of the datastore; paths in a request are never opened.

        Raises:
            NotFoundError: No such model or image.
            InputError: See `synthesize`.
        """
        params = {key: value for key, value in request.items() if key not in FORBIDDEN}
        image = request.get("image")
        if not isinstance(image, str):
            raise RequestError("image: give the SeriesInstanceUID of a CT in the datastore, or send a file")
        return self.synthesize(str(request.get("model")), self.studies_datastore.cts.image(image), params)

    def synthesize(
        self, model: str, source: CTSource, params: Mapping[str, Any], *, is_disconnected: IsDisconnected = never
    ) -> dict[str, Any]:
        """Return the result in MONAI Label's form: `file`, `label` and `params`.

        Raises:
            NotFoundError: No such model.
            InputError: The source is not a CT, the model is not trained, or a parameter is invalid.
        """
        options = InferOptions.from_params(params)
        if options.save_label and source.image_id is None:
            raise RequestError("save_label: a label belongs to an image of the datastore; add the CT there first")
        if options.save_label:
            self.studies_datastore.labels.refuse_to_replace(source.image_id or "", options.label_tag)
        task = self._infers[self.models.known(model)]
        store = self.studies_datastore.store_series
        path, metadata = task(
            {"source": source, "options": options, "store": store, "is_disconnected": is_disconnected}
        )
        if options.save_label:
            record = {"model": model, "params": metadata}
            self.studies_datastore.labels.save_synthetic(source.image_id or "", Path(path), options.label_tag, record)
        return {"label": path, "tag": options.label_tag, "file": path, "params": metadata}

    @property
    def checked_sessions(self) -> CheckedSessions:
        """The sessions as `CheckedSessions`.

        Raises:
            NotFoundError: Sessions are switched off.
        """
        sessions = self.sessions()
        if not isinstance(sessions, CheckedSessions):
            raise switched_off("storing sessions", "MONAI_LABEL_SESSIONS")
        return sessions

    def check_training(self, model: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Validate a training request and return the request for the training's process.

        Raises:
            NotFoundError: No such model.
            InputError: An invalid parameter, or no pair to train on.
        """
        settings = self._trainer(model).read_request(params).settings
        require_pairs(tuple(self.studies_datastore.listing().pairs.values()), self.studies_datastore)
        return {"model": model, **settings}

    def training_stats(self, model: str) -> dict[str, Any]:
        """Return the state of a model's newest training; empty before the first, and if training is switched off.

        Raises:
            NotFoundError: No such model.
        """
        trainer = self._trainers.get(self.models.known(model))
        return {} if trainer is None else dict(trainer.stats())

    def _trainer(self, model: str) -> CascadeTrainTask:
        trainer = self._trainers.get(self.models.known(model))
        if not isinstance(trainer, CascadeTrainTask):
            raise switched_off("training", "MONAI_LABEL_TASKS_TRAIN")
        return trainer

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Raise NotFoundError: the stock method would open any file of the server as a slide.

        Raises:
            NotFoundError: Always.
        """
        raise NotFoundError("whole-slide images are not supported", code="not_supported")

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the next CT and why it was selected; empty if every CT has a PET.

        Raises:
            NotFoundError: No such strategy.
        """
        strategy = str(request.get("strategy") or DEFAULT)
        if strategy not in self._strategies:
            raise NotFoundError(f"no strategy {strategy[:40]!r}; {did_you_mean(strategy, self._strategies)}")
        sample: dict[str, Any] = super().next_sample(request)
        return sample

    def scoring_method(self, name: str) -> PairScoring | UncertaintyScoring:
        """Return a scoring method.

        Raises:
            NotFoundError: No such scoring method.
        """
        method = self._scoring_methods.get(name)
        if not isinstance(method, PairScoring | UncertaintyScoring):
            raise NotFoundError(f"no scoring {name[:40]!r}; {did_you_mean(name, self._scoring_methods)}")
        return method

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a scoring and return its result; see `scoring/task.py`."""
        name, report = str(request.get("method")), report_file(self.models.folder, request)
        with task_process(f"scoring {name}", report):
            return self.scoring_method(name)(request, datastore or self.datastore())

    def check_batch(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Validate a batch request and return the request for the batch's process.

        Raises:
            InputError: An invalid parameter, an unknown model, or one that is not trained.
        """
        if not isinstance(self._batch_infer, BatchSynthesis):
            raise switched_off("batch inference", "MONAI_LABEL_TASKS_BATCH_INFER")
        return self._batch_infer.read_request(request)[0].settings

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a batch and return the result of each image; see `batch/task.py`."""
        with task_process("batch", report_file(self.models.folder, request)):
            return dict(super().batch_infer(request, datastore))

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train a model; only in the process that the task runner starts for it.

        Raises:
            RequestError: Called in the server, which would block all requests until the training ends.
            SystemExit: The training failed; the last line of the log gives the reason.
        """
        if running_server() is not None:
            raise RequestError("run_sync: a training always runs in a separate process; omit run_sync")
        name = self.models.known(str(request.get("model")))
        try:
            return self._trainer(name)(request, self.datastore())
        except CT2PETError as error:  # one line: the server keeps the last 20 for the client
            logger.error("%s was not trained: %s", name, detail_of(error))
            report_error(report_file(self.models.folder, request), error)
            raise SystemExit(1) from error


def _memory_budget(settings: AppSettings) -> MemoryBudget:
    """Return the server's memory budget; it is unlimited in task processes, which handle one volume at a time."""
    if running_server() is None:
        return MemoryBudget(None)
    limit_heap()
    alone_bytes = psutil.virtual_memory().total // ALONE_SHARE
    return MemoryBudget(settings.memory_bytes, alone_bytes=alone_bytes, after_release=return_free_memory)
