"""One CT to one synthetic PET file, with all that a client is told about it."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ct2pet_app.errors import RequestError
from ct2pet_app.infer_request import DICOM, InferOptions
from ct2pet_app.models import ModelStore
from ct2pet_app.told import (
    UNIT,
    Stopwatch,
    card_as_json,
    figures,
    seen_in_training,
    slab_in_words,
    suv_statistics,
    told_of_uncertainty,
)
from ct2pet_app.told_of_models import how_to_train
from ct2pet_app.turns import Gone, Turns, never, until_gone, waited_for
from ct2pet_app.uploads import CTSource
from lib.dicom.synthetic import PlannedSeries, SyntheticSeries
from lib.dicom.write import write_zip
from lib.errors import CheckpointError
from lib.imaging.files import write_volume_file
from lib.imaging.volume import Volume
from lib.learning.card import INTENDED_USE
from lib.synthesis.dicom_out import plan_pet_series
from lib.synthesis.synthesizer import Synthesizer
from lib.synthesis.uncertainty import apply_with_uncertainty
from lib.types import Progress

logger = logging.getLogger(__name__)

LEFT_BEHIND_S = 3600.0  # nobody waits for a result that long
Store = Callable[[SyntheticSeries], None]


class SynthesisTask(InferTask):
    """The inference of one model."""

    def __init__(self, name: str, models: ModelStore, turns: Turns | None = None) -> None:
        self._name = name
        self._models = models
        self._turns = turns or Turns()
        super().__init__(type=InferType.OTHERS, labels=["PET"], dimension=3, description="")

    @property
    def description(self) -> str:
        """What the model is, or that nobody has trained it and how that is done."""
        try:
            published = self._models.published(self._name)
        except CheckpointError as error:
            return f"unusable: {error}"
        if published is None:
            return f"untrained: {how_to_train(self._name, self._models.versions(self._name))}"
        card = published.card
        return (
            f"synthetic PET (SUVbw) from CT, {card.network.stages} stage(s), recipe {card.recipe.name}, trained on "
            f"{len(card.training.patients)} patients. {card.standing.sentence} {INTENDED_USE}"
        )

    @description.setter
    def description(self, _: str) -> None:
        """Take no notice: MONAI Label's constructor sets a fixed text."""

    def info(self) -> dict[str, Any]:
        """Return what ``/info/`` says about the model: MONAI Label's keys, is it trained, its standing and card."""
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
        """Return what a client may set."""
        what = {"slices": "", "version": "", "metrics": True, "uncertainty": False, "store": False}
        return {**what, "result_extension": ".nrrd"}

    def get_path(self, validate: bool = True) -> str | None:
        """Return the published checkpoint, for MONAI Label's ``/model/`` addresses."""
        path = self._models.path(self._name)
        return str(path) if path.is_file() else None

    def is_valid(self) -> bool:
        """Return True: an untrained model is listed too, and says how it is trained."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the path of the result and what is told about it.

        Args:
            request: `source`, a CTSource; `options`, InferOptions; `store`, what puts a series into the studies;
                `gone`, whether the client has gone away.

        Raises:
            InputError: The source is no CT, the slices leave it, the model is not trained or has no such version.
            BusyError: As many requests as the server takes are being worked on.
            ClientGoneError: Nobody waits for the result any more.
            OutputError: The disk is full.
        """
        source, options, store = request["source"], request["options"], request["store"]
        gone: Gone = request.get("gone", never)
        if options.version is None:
            # this request keeps them, whatever is published meanwhile
            model = self._models.loaded(self._name)
        else:
            # a wrong number is told before others' work is waited for
            self._models.version(self._name, options.version)
        with self._turns.taken(gone):
            if options.version is not None:  # loaded in turn: many requests of as many versions would fill the memory
                model = self._models.loaded(self._name, options.version)
            path, told = self._synthesize(model[1], source, options, store, gone)
            told["model"]["version"] = model[0].version
            return path, told

    @cached_property
    def _results(self) -> Path:
        """Where results wait to be sent; MONAI Label removes each one then, and this what a killed server left."""
        folder = self._models.folder / "results"
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # of another request, which has sent it meanwhile
                if leftover.stat().st_mtime < time.time() - LEFT_BEHIND_S:
                    leftover.unlink()
        return folder

    def _synthesize(
        self, synthesizer: Synthesizer, source: CTSource, options: InferOptions, store: Store, gone: Gone
    ) -> tuple[str, dict[str, Any]]:
        watch = Stopwatch()
        with watch.step("read"):
            ct = source.read()
            planned = _planned(synthesizer, source) if options.needs_series else None
        asked = time.perf_counter()
        with waited_for(self._models.in_use, gone):
            watch.waited(time.perf_counter() - asked)
            with watch.step("synthesise"):
                pet, error = _drawn(synthesizer, ct, options, until_gone(gone))
        with watch.step("measure"):
            metrics, why_no_metrics = figures(pet, ct, source, options, synthesizer.card)
        with watch.step("write"):
            name = f"{self._name}-{uuid.uuid4().hex[:8]}{options.extension}"
            path, error_path = self._results / f"synthetic-pet-{name}", self._results / f"uncertainty-{name}"
            series = None if planned is None else planned.fill(pet)
            if series is not None and options.extension == DICOM:
                write_zip(series, path)
            elif options.uncertainty != "only":
                write_volume_file(pet, path)
            if series is not None and options.store:
                store(series)
            if error is not None:
                write_volume_file(error, error_path)
        which = source.image_id or "an upload"  # whose file name may be a patient's
        logger.info("%s of %s: %d slices in %.2f s", self._name, which, pet.geometry.shape[0], watch.total())
        return str(error_path if options.uncertainty == "only" else path), {
            "synthetic": True,
            "notice": INTENDED_USE,
            "standing": synthesizer.card.standing.as_json(),
            "image": source.image_id or source.name,
            "unit": UNIT,
            "shape": list(pet.geometry.shape),
            "spacing_mm": list(pet.geometry.spacing_mm),
            "slices": slab_in_words(ct, options.slices),
            "suv": suv_statistics(pet),
            "uncertainty": None if error is None else told_of_uncertainty(error, error_path.name, synthesizer.card),
            "series": None if series is None else _told_of_series(series, stored=options.store),
            "metrics": metrics,
            "why_no_metrics": why_no_metrics,
            "seen_in_training": seen_in_training(source, synthesizer.card),
            "latencies": watch.seconds(),
            "model": {
                "name": self._name,
                "checksum": synthesizer.checksum,
                "card": card_as_json(synthesizer.card),
            },
            "ignored": list(options.ignored),
            "warnings": list(source.warnings),
        }


def _planned(synthesizer: Synthesizer, source: CTSource) -> PlannedSeries:
    """Return the series that the PET will be; what the CT lacks for it is told before the work."""
    if source.ct is None:
        raise RequestError(
            "a DICOM series is made of a CT series in the datastore: an upload has no study it could belong to; "
            "add the study there, or ask for .nrrd"
        )
    with source.at_hand(source.ct):
        return plan_pet_series(synthesizer, source.ct)


def _told_of_series(series: SyntheticSeries, *, stored: bool) -> dict[str, Any]:
    return {
        "study_instance_uid": series.study_uid,
        "series_instance_uid": series.uid,
        "instances": len(series),
        "stored": stored,
    }


def _drawn(
    synthesizer: Synthesizer, ct: Volume, options: InferOptions, progress: Progress
) -> tuple[Volume, Volume | None]:
    """Return the synthetic PET, and the map of errors to expect where it is wanted."""
    if options.uncertainty == "no":
        return synthesizer.apply(ct, options.slices, progress=progress), None
    return apply_with_uncertainty(synthesizer, ct, options.slices, progress=progress)
