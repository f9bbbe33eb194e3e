"""Synthesise the PET of one CT and write it to a file, with metadata for the client."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ct2pet_app.advice import detail_of
from ct2pet_app.inference.ct_reader import CTReader
from ct2pet_app.inference.job import (
    FamiliarityChecks,
    InferenceJob,
    PlannedSeriesCache,
    fetch_real_pet,
    predict,
)
from ct2pet_app.inference.memory import memory_need, metrics_too_large
from ct2pet_app.inference.region import region_metadata
from ct2pet_app.inference.request import DICOM
from ct2pet_app.inference.result_metadata import (
    Stopwatch,
    card_as_json,
    format_slab,
    grid_metadata,
    measure,
    reason_without_metrics,
    seen_in_training,
    series_metadata,
    suv_statistics,
    uncertainty_metadata,
)
from ct2pet_app.inference.volume_cache import VolumeCache, state_of
from ct2pet_app.model_registry.registry import LOADING_COPIES, ModelRegistry
from ct2pet_app.model_registry.versions import not_trained
from ct2pet_app.server.concurrency import ForegroundWork, IsDisconnected, never, until_disconnected
from lib.dicom.write.files import write_zip
from lib.errors import CheckpointError, InputError
from lib.evaluation.slice_metrics import place
from lib.imaging.files.volume_file import FAST, STORED, write_volume_file
from lib.imaging.volume import Volume
from lib.learning.model_card.card import INTENDED_USE
from lib.memory import MemoryBudget

logger = logging.getLogger(__name__)

STALE_AFTER_S = 3600.0  # no client waits for a result that long


class SynthesisTask(InferTask):
    """The inference of one model."""

    def __init__(
        self,
        name: str,
        models: ModelRegistry,
        *,
        budget: MemoryBudget | None = None,
        recent: VolumeCache | None = None,
        foreground: ForegroundWork | None = None,
    ) -> None:
        self._name = name
        self._models = models
        self._budget = budget or MemoryBudget(None)
        self._recent = recent or VolumeCache()
        self._foreground = foreground or ForegroundWork()
        self._checks, self._plans = FamiliarityChecks(), PlannedSeriesCache()
        super().__init__(type=InferType.OTHERS, labels=["PET"], dimension=3, description="")

    @property
    def description(self) -> str:
        """A summary of the model; of an untrained model, how to train it."""
        try:
            published = self._models.published(self._name)
        except CheckpointError as error:
            return f"unusable: {error}"
        if published is None:
            return f"untrained: {detail_of(not_trained(self._name, self._models.versions(self._name)))}"
        card = published.card
        return (
            f"synthetic PET (SUVbw) from CT, {card.network.stages} stage(s), recipe {card.recipe.name}, trained on "
            f"{card.training_summary}. {card.standing.sentence} {INTENDED_USE}"
        )

    @description.setter
    def description(self, _: str) -> None:
        """Ignore the fixed text that MONAI Label's constructor sets."""

    def info(self) -> dict[str, Any]:
        """Return the entry of ``/info/``: MONAI Label's keys, whether it is trained, baseline comparison and card."""
        try:
            published = self._models.published(self._name)
        except CheckpointError:
            published = None
        return {
            **super().info(),
            "trained": published is not None,
            "version": None if published is None else published.version,
            "checksum": None if published is None else published.checksum,
            "uncertainty": published is not None and published.card.calibration is not None,
            "standing": None if published is None else published.card.standing.as_json(),
            "card": None if published is None else card_as_json(published.card),
        }

    def config(self) -> dict[str, Any]:
        """Return the parameters that a client can set, with their defaults."""
        defaults = {"slices": "", "version": "", "metrics": True, "uncertainty": False, "store": False}
        return {**defaults, "allow_unlike": False, "result_extension": ".nrrd", "result_compress": False}

    def get_path(self, validate: bool = True) -> str | None:
        """Return the published checkpoint, for MONAI Label's ``/model/`` endpoints."""
        path = self._models.path(self._name)
        return str(path) if path.is_file() else None

    def is_valid(self) -> bool:
        """Return True: untrained models are listed, too."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the path of the result and its metadata.

        Files are fetched and headers read first. Then the memory for all of the work is reserved at once, and released
        as soon as the result is written.

        Args:
            request: `source`, a CTSource; `options`, InferOptions; `store`, which stores a series in the studies;
                `is_disconnected`, which returns whether the client has disconnected.

        Raises:
            InputError: The source is not a CT, the slices are outside it, or the model has no such version.
            MemoryLimitError: The inference needs more memory than the server may use.
            BusyError: Too many requests wait for memory.
            OperationCancelledError: The client has disconnected.
            OutputError: The disk is full.
            UnlikeTrainingError: The CT is unlike the training CTs, and the options do not allow this.
        """
        source, options = request["source"], request["options"]
        is_disconnected: IsDisconnected = request.get("is_disconnected", never)
        # this request keeps the weights of the served model, even if another one is published meanwhile
        model = self._models.loaded(self._name) if options.version is None else None
        published = model[0] if model else self._models.find(self._name, options.version)
        watch = Stopwatch()
        with ExitStack() as held:
            with watch.step("read"):
                opened = held.enter_context(source.open(is_disconnected))
                why_no_metrics = reason_without_metrics(source, options)
                why_no_metrics = why_no_metrics or fetch_real_pet(source, is_disconnected, held)
            weights_bytes = 0 if model else LOADING_COPIES * published.state.size
            need = partial(memory_need, opened, options, published.card, weights_bytes=weights_bytes)
            needed = need(pet_shape=None if why_no_metrics else source.pet_shape)
            alone = source.ct is not None  # a series of the studies, whose size the user cannot change
            if too_large := metrics_too_large(needed, self._budget, alone=alone):
                needed, why_no_metrics = need(pet_shape=None), too_large
            key = (source.name, state_of(source.files)) if source.files else None
            queued = time.perf_counter()
            with self._budget.reserve(
                needed.peak_bytes, needed.what, cancelled=is_disconnected, keep=key, alone=alone
            ) as memory:
                watch.waited(time.perf_counter() - queued)
                if model is None:  # loaded inside the reservation: requests of many versions would fill the memory
                    model = self._models.loaded(self._name, options.version)
                with ExitStack() as reading:
                    # counted from here, since background work may hold the memory that a request waits for
                    reading.enter_context(self._foreground.request())
                    familiarity = self._checks.known(model[1], key)
                    with watch.step("read"):
                        reader = CTReader(key, opened, self._recent, is_disconnected)
                        whole = familiarity is None or not why_no_metrics
                        ct = reading.enter_context(reader.volume(options.slices, model[1].card.network, whole=whole))
                    if opened.geometry is None:  # known only now; coarse pixels are resampled to many
                        memory.grow(need(geometry=ct.geometry).synthesis_bytes, needed.what)
                    job = InferenceJob(
                        model[1], source, opened, options, request["store"], is_disconnected, watch, why_no_metrics,
                        key, familiarity,
                    )  # fmt: skip
                    path, metadata = self._synthesize(job, ct)
        metadata["model"]["version"] = model[0].version
        metadata["warnings"] = list(dict.fromkeys((*metadata["warnings"], *source.warnings, *opened.warnings)))
        return path, metadata

    @cached_property
    def _results(self) -> Path:
        """The folder of results, without old results of killed servers; MONAI Label removes a result after sending."""
        folder = self._models.folder / "results"
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another request has sent and removed it
                if leftover.stat().st_mtime < time.time() - STALE_AFTER_S:
                    leftover.unlink()
        return folder

    def _synthesize(self, job: InferenceJob, ct: Volume) -> tuple[str, dict[str, Any]]:
        name = f"{self._name}-{uuid.uuid4().hex[:8]}{job.options.extension}"
        path, error_path = self._results / f"synthetic-pet-{name}", self._results / f"uncertainty-{name}"
        try:
            return self._written(job, ct, path, error_path)
        except BaseException:
            for unfinished in (path, error_path):
                unfinished.unlink(missing_ok=True)
            raise

    def _written(self, job: InferenceJob, ct: Volume, path: Path, error_path: Path) -> tuple[str, dict[str, Any]]:
        source, options, watch = job.source, job.options, job.watch
        progress = until_disconnected(job.is_disconnected)
        with watch.step("read"):
            planned = self._plans.planned(job) if options.needs_series else None
        queued = time.perf_counter()
        with self._models.devices.device(job.is_disconnected) as device:
            synthesizer = job.synthesizer.on(device)
            watch.waited(time.perf_counter() - queued)
            with watch.step("check"):
                familiarity = self._checks.check(replace(job, synthesizer=synthesizer), ct)
            with watch.step("synthesise"):
                pet, error = predict(synthesizer, ct, options, progress)
        compression = FAST if options.compress or options.save_label else STORED  # a label is kept on the disk
        with watch.step("write"):
            series = None if planned is None else replace(planned, warning=familiarity.warning).fill(pet)
            if series is not None and options.extension == DICOM:
                write_zip(series, path, compression=compression, progress=progress)
            elif options.uncertainty != "only":
                write_volume_file(pet, path, compression=compression, progress=progress)
            if series is not None and options.store:
                job.store(series)
            if error is not None:
                write_volume_file(error, error_path, compression=compression, progress=progress)
        which = source.image_id or "an upload"  # its file name may contain a patient's name
        metadata: dict[str, Any] = {
            "synthetic": True,
            "notice": INTENDED_USE,
            "standing": synthesizer.card.standing.as_json(),
            "familiarity": familiarity.as_json(),
            "warnings": [familiarity.warning] if familiarity.warning else [],
            "image": source.image_id or source.name,
            **grid_metadata(pet, format_slab(ct, options.slices)),
            "suv": suv_statistics(pet),
            "uncertainty": None if error is None else uncertainty_metadata(error, error_path.name, synthesizer.card),
            "series": None if series is None else series_metadata(series, stored=options.store),
            "region": region_metadata(pet, ct, options.region, slices=options.slices, card=synthesizer.card),
            "metrics": None,
            "why_no_metrics": job.why_no_metrics,
            "seen_in_training": seen_in_training(source, synthesizer.card),
            "runtime": synthesizer.runtime.as_json(),
            "model": {"name": self._name, "checksum": synthesizer.checksum, "card": card_as_json(synthesizer.card)},
            "ignored": list(options.ignored),
        }
        del error, series
        if source.pet is not None and not job.why_no_metrics:
            with watch.step("measure"):
                try:
                    placed = place(pet, ct=ct, grid=synthesizer.card.recipe.grid, progress=progress)
                    del pet  # frees memory: `placed` is smaller
                    metadata["metrics"] = measure(placed, source.pet, synthesizer.card, progress=progress)
                except InputError as problem:  # the synthetic PET is usable without metrics
                    logger.warning("no metrics for %s: %s", source.name, problem)
                    metadata["why_no_metrics"] = str(problem)
        logger.info("%s of %s: %d slices in %.2f s", self._name, which, metadata["shape"][0], watch.total())
        metadata["latencies"] = watch.seconds()
        return str(error_path if options.uncertainty == "only" else path), metadata
