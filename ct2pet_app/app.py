"""The MONAI Label app: puts settings, models, datastore and tasks together.

Its constructor reads no DICOM and no weights: the app is built again in every training process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
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
from ct2pet_app.server.work_pools import WorkPools
from ct2pet_app.settings import AppSettings
from ct2pet_app.training.task import CascadeTrainTask, require_pairs
from ct2pet_app.validation import did_you_mean
from lib.errors import CT2PETError, InputError, StudiesError
from lib.memory import MemoryBudget

logger = logging.getLogger(__name__)

ALONE_SHARE = 4  # a series of the studies that passes the budget may take a quarter of the memory, while it is alone
DESCRIPTION = "Synthetic PET from CT by a cascade of U-Nets. Research software, NOT FOR DIAGNOSIS."


class CT2PETApp(MONAILabelApp):
    """What MONAI Label builds: once in the server, and again in every training process."""

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
        # MONAI Label's default would score all pairs at every start, and again whenever a sample is asked for; whether
        # somebody set it cannot be seen: its command line writes every default into the environment
        self._auto_update_scoring = False

    # -- parts MONAI Label's constructor asks for ----------------------------------------------------------------------

    def init_datastore(self) -> Datastore:
        """Return the datastore of a folder, or of a PACS where the studies are an address.

        Raises:
            InputError: An address or credentials that cannot be.
        """
        try:
            return open_datastore(self.studies, self.settings, budget=self.budget)
        except InputError as error:
            stop_server(error)
            raise

    def init_infers(self) -> dict[str, InferTask]:
        """Return one inference for each model."""
        recent = VolumeCache()
        self.budget.add_cache(recent)
        return {
            name: SynthesisTask(name, self.models, budget=self.budget, recent=recent) for name in self.settings.models
        }

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return one training for each model."""
        return {name: CascadeTrainTask(name, self.models, self.settings) for name in self.settings.models}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the ways to pick the next CT."""
        return strategies(self.models)

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return the ways to judge the served models."""
        return {"metrics": PairScoring(self.models), "uncertainty": UncertaintyScoring(self.models)}

    def init_batch_infer(self) -> Callable[..., Any]:
        """Return what draws synthetic PETs for many CTs."""
        return BatchSynthesis(self.models)

    def _load_sessions(self, load: bool = False) -> Sessions | None:
        if not load:
            return None
        folder = monailabel_settings.MONAI_LABEL_SESSION_PATH or str(self.settings.models_folder / "sessions")
        return CheckedSessions(folder, monailabel_settings.MONAI_LABEL_SESSION_EXPIRY)

    def info(self) -> dict[str, Any]:
        """Return what ``/info/`` says; whatever a model card or a run holds, it can be sent."""
        return dict(sendable(super().info()))

    # -- what is asked of the app --------------------------------------------------------------------------------------

    def on_init_complete(self) -> None:
        """Begin the first scan, so that the first question does not wait for all of it."""
        super().on_init_complete()
        if running_server() is not None:
            self.studies_datastore.pairs.watch()
            on_termination(self.studies_datastore.close)
        threading.Thread(target=self._scan_ahead, name="first scan", daemon=True).start()

    def _scan_ahead(self) -> None:
        try:
            self.studies_datastore.listing()
        except CT2PETError as error:
            logger.error("the studies cannot be scanned: %s", error)

    @property
    def studies_datastore(self) -> StudiesDatastore:
        """The datastore, under its own type."""
        datastore = self.datastore()
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("the server's datastore holds no studies")
        return datastore

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Return the result for an image of the datastore; never opens a path that a request names.

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
        self, model: str, source: CTSource, params: Mapping[str, Any], *, gone: IsDisconnected = never
    ) -> dict[str, Any]:
        """Return the result in MONAI Label's form: `file`, `label` and `params`.

        Raises:
            NotFoundError: No such model.
            InputError: The source is no CT, the model is not trained, or a parameter is not understood.
        """
        options = InferOptions.from_params(params)
        if options.save_label and source.image_id is None:
            raise RequestError("save_label: a label belongs to an image of the datastore; add the CT there first")
        if options.save_label:
            self.studies_datastore.labels.refuse_to_replace(source.image_id or "", options.label_tag)
        task = self._infers[self.models.known(model)]
        store = self.studies_datastore.store_series
        path, told = task({"source": source, "options": options, "store": store, "gone": gone})
        if options.save_label:
            record = {"model": model, "params": told}
            self.studies_datastore.labels.save_synthetic(source.image_id or "", Path(path), options.label_tag, record)
        return {"label": path, "tag": options.label_tag, "file": path, "params": told}

    @property
    def checked_sessions(self) -> CheckedSessions:
        """The sessions, under their own type.

        Raises:
            NotFoundError: Sessions are switched off.
        """
        sessions = self.sessions()
        if not isinstance(sessions, CheckedSessions):
            raise switched_off("storing sessions", "MONAI_LABEL_SESSIONS")
        return sessions

    def check_training(self, model: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of the training's process, where a training with these parameters can begin.

        Raises:
            NotFoundError: No such model.
            InputError: A word that is not understood, or no pair to train on.
        """
        settings = self._trainer(model).read_request(params).settings
        require_pairs(tuple(self.studies_datastore.listing().pairs.values()), self.studies_datastore)
        return {"model": model, **settings}

    def training_stats(self, model: str) -> dict[str, Any]:
        """Return how the newest training of a model does, or did; empty before the first, and where nobody may train.

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
        """Refuse: the stock method opens any file of the server as a slide.

        Raises:
            NotFoundError: Always.
        """
        raise NotFoundError("there are no whole-slide images here", code="not_supported")

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the CT to look at next, and why; empty where every CT has a PET.

        Raises:
            NotFoundError: No such strategy.
        """
        strategy = str(request.get("strategy") or DEFAULT)
        if strategy not in self._strategies:
            raise NotFoundError(f"no strategy {strategy[:40]!r}; {did_you_mean(strategy, self._strategies)}")
        sample: dict[str, Any] = super().next_sample(request)
        return sample

    def scoring_method(self, name: str) -> PairScoring | UncertaintyScoring:
        """Return a way to judge the served models.

        Raises:
            NotFoundError: There is none of that name.
        """
        method = self._scoring_methods.get(name)
        if not isinstance(method, PairScoring | UncertaintyScoring):
            raise NotFoundError(f"no scoring {name[:40]!r}; {did_you_mean(name, self._scoring_methods)}")
        return method

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Return what a scoring found; see `task.py`."""
        name, report = str(request.get("method")), report_file(self.models.folder, request)
        with task_process(f"scoring {name}", report):
            return self.scoring_method(name)(request, datastore or self.datastore())

    def check_batch(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of the batch's process, where such a batch can begin.

        Raises:
            InputError: A word that is not understood, no such model, or one that is not trained.
        """
        if not isinstance(self._batch_infer, BatchSynthesis):
            raise switched_off("batch inference", "MONAI_LABEL_TASKS_BATCH_INFER")
        return self._batch_infer.read_request(request)[0].settings

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Return what became of each image; see `task.py`."""
        with task_process("batch", report_file(self.models.folder, request)):
            return dict(super().batch_infer(request, datastore))

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train, in the process that the task runner starts for it.

        Raises:
            RequestError: Asked to train inside the server, which would answer nobody until it is done.
            SystemExit: The training failed; its reason is the last line of the log.
        """
        if running_server() is not None:
            raise RequestError("run_sync: a training runs in a process of its own; leave run_sync out")
        name = self.models.known(str(request.get("model")))
        logging.getLogger("ignite").setLevel(logging.WARNING)  # or each epoch pushes a percent out of the last 20 lines
        try:
            return self._trainer(name)(request, self.datastore())
        except CT2PETError as error:  # one line: the server keeps the last 20 for the client
            logger.error("%s was not trained: %s", name, detail_of(error))
            report_error(report_file(self.models.folder, request), error)
            raise SystemExit(1) from error


def _memory_budget(settings: AppSettings) -> MemoryBudget:
    """Return the server's budget; child processes work on one volume after another, and have none."""
    if running_server() is None:
        return MemoryBudget(None)
    limit_heap()
    alone_bytes = psutil.virtual_memory().total // ALONE_SHARE
    return MemoryBudget(settings.memory_bytes, alone_bytes=alone_bytes, after_release=return_free_memory)
