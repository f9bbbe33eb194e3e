"""Scoring: metrics of the served models on every pair, and their expected error on every CT without a PET.

Runs in a task process. Scores are stored case by case: a scoring that was stopped or killed continues with the
remaining cases.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, ClassVar

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from pydantic import BeforeValidator, Field

from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.inference.result_metadata import MEASURED
from ct2pet_app.json_values import require_plain
from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.versions import not_trained
from ct2pet_app.scoring.score_store import (
    ExpectedError,
    expected_error_of,
    keep_expected_error,
    keep_score,
    new_score,
    score_of,
    summary_of,
)
from ct2pet_app.server.tasks.progress import REPORT_KEY, CaseReport, report_file
from ct2pet_app.validation import BoundaryModel, use_default_if_empty, validated
from lib.dicom.read.volume import read_pet
from lib.dicom.scan.open_ct import read_ct_series
from lib.errors import CheckpointError, ModelNotTrainedError, PairingError, StudiesError
from lib.evaluation.slice_metrics import compare_with_real
from lib.files import fingerprint
from lib.pairing.pairs import PairedSeries
from lib.synthesis.uncertainty import card_calibration, mean_expected_error_suv

logger = logging.getLogger(__name__)

Models = Mapping[str, PublishedModel]


class ScoringParams(BoundaryModel):
    """The parameters of a scoring, as a client sends them."""

    subject = "parameter of a scoring"
    ignored_keys: ClassVar[frozenset[str]] = frozenset(  # added by MONAI Label and its clients
        {"method", REPORT_KEY, "gpus", "client_id", "bundle_path", "local_rank"}
    )
    model: Annotated[str, BeforeValidator(use_default_if_empty)] = Field("", description="the name of a model")


class PairScoring(ScoringMethod):
    """`metrics`: metrics of the model and of the baselines on each pair, stored in the info of its label."""

    def __init__(self, models: ModelRegistry) -> None:
        super().__init__("metrics of the synthetic PETs of all pairs, compared with those of the baselines")
        self._models = models

    def read_request(self, request: Mapping[str, Any]) -> Models:
        """Return the models to score; raise InputError for invalid parameters, or if none is trained."""
        return requested_models(self._models, request)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score all pairs and return a summary for each model.

        Raises:
            InputError: As `read_request`; there are no pairs; or all cases failed.
        """
        models, studies = self.read_request(request), _studies(datastore)
        pairs = list(studies.listing().pairs.values())
        if not pairs:
            raise StudiesError("nothing to score: no CT has a PET", code="no_pairs")
        to_do = [
            (name, paired)
            for name, published in models.items()
            for paired in pairs
            if not _is_scored(studies, paired, name, published)
        ]
        report = CaseReport(
            "scoring pairs",
            to_do=len(to_do),
            already=len(models) * len(pairs) - len(to_do),
            file=report_file(self._models.folder, request),
        )
        for name, paired in to_do:
            with report.case(f"{name}, CT {paired.pair.ct.uid}"):
                self._score(name, models[name], paired, studies)
        summaries = {name: asdict(summary_of(studies, name, published)) for name, published in models.items()}
        return _finish(report, summaries)

    def _score(self, name: str, published: PublishedModel, paired: PairedSeries, studies: StudiesDatastore) -> None:
        ct_series, pet_series = paired.pair.ct, paired.pair.pet
        checked = studies.pairs.check(paired)
        if not checked.is_used:
            raise PairingError(
                f"the two do not look like one patient's: {'; '.join(checked.check.reasons)}",
                code="implausible_pair",
                reasons=list(checked.check.reasons),
            )
        with studies.local_files(ct_series, pet_series):
            ct, real, files = read_ct_series(ct_series), read_pet(pet_series), _fingerprint_of(paired)
        now_served, synthesizer = self._models.loaded(name)
        if now_served.checksum != published.checksum:
            raise StudiesError(
                f"another version of {name} is served since this scoring began; score again", code="model_changed"
            )
        with self._models.devices.device() as device:
            judge = synthesizer.on(device).for_patient(ct_series.patient_id)
            pet = judge.apply(ct)
        comparison = compare_with_real(pet, ct=ct, pet=real, card=judge.card, groups=MEASURED)
        score = new_score(name, published, comparison, patient_id=ct_series.patient_id, files=files)
        keep_score(studies, ct_series.uid, score)


class UncertaintyScoring(ScoringMethod):
    """`uncertainty`: the expected error of each CT without a PET, stored in the image's info."""

    def __init__(self, models: ModelRegistry) -> None:
        super().__init__("expected error of the synthetic PET of every CT without a real one")
        self._models = models

    def read_request(self, request: Mapping[str, Any]) -> Models:
        """Return the calibrated models; raise InputError as `PairScoring` does, or if no model is calibrated."""
        models = requested_models(self._models, request)
        if request.get("model"):
            for published in models.values():
                card_calibration(published.card)
        calibrated = {name: published for name, published in models.items() if published.card.calibration is not None}
        if not calibrated:
            raise CheckpointError(
                f"no model of this server predicts its error ({', '.join(models)} were trained without validation "
                "patients); train one with validation patients",
                code="no_calibrated_model",
            )
        return calibrated

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Predict the error of all CTs and return their number for each model.

        Raises:
            InputError: As `read_request`; there are no CTs without a PET; or all cases failed.
        """
        models, studies = self.read_request(request), _studies(datastore)
        images = studies.get_unlabeled_images()
        if not images:
            raise StudiesError("nothing to do: every CT has a PET", code="nothing_to_score")
        to_do = [
            (name, image)
            for name, published in models.items()
            for image in images
            if not is_expected(studies, image, name, published)
        ]
        report = CaseReport(
            "predicting expected errors",
            to_do=len(to_do),
            already=len(models) * len(images) - len(to_do),
            file=report_file(self._models.folder, request),
        )
        for name, image in to_do:
            with report.case(f"{name}, CT {image}"):
                self._expect(name, image, studies)
        counts = {name: {"checksum": of.checksum, "cts_without_pet": len(images)} for name, of in models.items()}
        return _finish(report, counts)

    def _expect(self, name: str, image: str, studies: StudiesDatastore) -> None:
        source = studies.cts.image(image)
        ct = source.read()
        synthesizer = self._models.synthesizer(name)
        with self._models.devices.device() as device:
            pet = synthesizer.on(device).apply(ct)
        mean_suv = mean_expected_error_suv(pet, ct, card_calibration(synthesizer.card))
        expected = ExpectedError(name, synthesizer.checksum, mean_suv, fingerprint(source.files))
        keep_expected_error(studies, image, expected)


def is_expected(studies: StudiesDatastore, image: str, name: str, published: PublishedModel) -> bool:
    """Return whether the expected error of the served weights on a CT is stored."""
    known = expected_error_of(studies, image, name)
    return known is not None and known.is_of(published, fingerprint(studies.cts.image(image).files))


def _is_scored(studies: StudiesDatastore, paired: PairedSeries, name: str, published: PublishedModel) -> bool:
    score = score_of(studies, paired.pair.ct.uid, name)
    return score is not None and score.is_of(published, _fingerprint_of(paired))


def scoring_settings(method: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for the scoring's process."""
    return {"method": method, **validated(ScoringParams, request).model_dump(exclude_defaults=True)}


def requested_models(models: ModelRegistry, request: Mapping[str, Any]) -> Models:
    """Return the model that a request names, or every trained one, by name.

    Raises:
        RequestError: Invalid parameters.
        NotFoundError: No such model.
        ModelNotTrainedError: The requested model, or every model, is untrained.
        CheckpointError: Its file is damaged.
    """
    require_plain(request)
    requested = validated(ScoringParams, request).model
    names = (models.known(requested[:100]),) if requested else models.names
    found: dict[str, PublishedModel] = {}
    for name in names:
        try:
            published = models.published(name)
        except CheckpointError as error:
            if requested:
                raise
            logger.warning("%s is left out: %s", name, error)
            continue
        if published is not None:
            found[name] = published
    if not found:
        if request.get("model"):
            raise not_trained(names[0], models.versions(names[0]))
        raise ModelNotTrainedError("no model of this server is trained yet", code="models_not_trained")
    return found


def _finish(report: CaseReport, models: Mapping[str, Any]) -> dict[str, Any]:
    report.finish(models)
    report.require_one_success()
    return {"models": dict(models), "failed": report.reasons}


def _studies(datastore: Datastore) -> StudiesDatastore:
    if not isinstance(datastore, StudiesDatastore):
        raise StudiesError("scoring needs the datastore of a folder of studies or of a PACS")
    return datastore


def _fingerprint_of(paired: PairedSeries) -> str:
    return fingerprint((*paired.pair.ct.files, *paired.pair.pet.files))
