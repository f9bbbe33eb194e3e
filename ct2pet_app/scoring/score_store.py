"""Scores of a model's synthetic PETs, one per case, stored with the images and labels of the datastore.

The metrics of a pair are in the info of its `final` label, the expected error of a CT without a PET in the info of the
image; clients read both there and write neither. An entry that does not validate counts as missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeVar

from pydantic import ValidationError
from pydantic.dataclasses import dataclass

import lib
from ct2pet_app.datastore.studies import FINAL, StudiesDatastore
from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.validation import STORED
from lib.evaluation.slice_metrics import Comparison
from lib.files import same_fingerprint
from lib.learning.model_card.scores import MetricsTable
from lib.pairing.split import Side

SCORES, UNCERTAINTY = "scores", "uncertainty"  # keys of the infos; in each, one entry a model
METRICS = (
    "mae_suv", "psnr_db", "ssim", "mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "bias_suv_body",
)  # fmt: skip
Seen = Literal["training", "validation", "never"]
SEEN: dict[Side, Seen] = {Side.TRAIN: "training", Side.VALIDATION: "validation"}
NEVER_SEEN: Seen = "never"
Stored = TypeVar("Stored")


@dataclass(frozen=True, config=STORED)
class PairScore:
    """Metrics of a model on one pair.

    Attributes:
        model, version, checksum: Of the weights that synthesised the PET.
        trained: When they were made, UTC.
        seen: Whether the patient was used for the weights: metrics of training patients are too optimistic, those of
            validation patients slightly. A training patient of a cross-validated ensemble is scored with the one
            network that was not trained on them, which counts as never.
        figures: By method (`model` and the baselines), by name of the metric.
        files: Fingerprint of the CT's and the PET's files.
        scored: When, UTC.
        ct2pet: Version that measured.
    """

    model: str
    version: int | None
    checksum: str
    trained: str
    seen: str
    figures: MetricsTable
    files: str
    scored: str
    ct2pet: str

    def is_of(self, published: PublishedModel, files: str) -> bool:
        """Return whether scoring these weights on these files again would give the same."""
        same_weights = self.checksum == published.checksum and self.ct2pet == lib.__version__
        return same_weights and same_fingerprint(self.files, files)


@dataclass(frozen=True, config=STORED)
class ExpectedError:
    """The absolute error that a model expects of its synthetic PET of one CT: mean over the body's voxels, SUVbw."""

    model: str
    checksum: str
    mean_suv: float
    files: str

    def is_of(self, published: PublishedModel, files: str) -> bool:
        """Return whether these weights would expect the same of these files again."""
        return self.checksum == published.checksum and same_fingerprint(self.files, files)


def new_score(
    name: str, published: PublishedModel, comparison: Comparison, *, patient_id: str, files: str
) -> PairScore:
    """Return the score of a comparison that was made now."""
    all_metrics = comparison.as_json()
    metrics = {method: {metric: values[metric] for metric in METRICS} for method, values in all_metrics.items()}
    return PairScore(
        model=name,
        version=published.version,
        checksum=published.checksum,
        trained=published.card.created,
        seen=SEEN.get(published.card.side_of(patient_id), NEVER_SEEN),
        figures=metrics,
        files=files,
        scored=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ct2pet=lib.__version__,
    )


def score_of(datastore: StudiesDatastore, ct_uid: str, model: str) -> PairScore | None:
    """Return a model's score on the pair of a CT."""
    return _read(PairScore, datastore.get_label_info(ct_uid, FINAL), SCORES, model)


def keep_score(datastore: StudiesDatastore, ct_uid: str, score: PairScore) -> None:
    """Keep a score with its pair, in addition to those of other models."""
    datastore.labels.record(ct_uid, FINAL, {SCORES: {score.model: asdict(score)}})


def expected_error_of(datastore: StudiesDatastore, image: str, model: str) -> ExpectedError | None:
    """Return the error that a model expects of its synthetic PET of a CT."""
    return _read(ExpectedError, datastore.get_image_info(image), UNCERTAINTY, model)


def keep_expected_error(datastore: StudiesDatastore, image: str, expected: ExpectedError) -> None:
    """Keep an expected error with its CT, in addition to those of other models."""
    datastore.record_image(image, {UNCERTAINTY: {expected.model: asdict(expected)}})


@dataclass(frozen=True, config=STORED)
class Summary:
    """Mean metrics of a model over all pairs.

    Attributes:
        pairs: Number of pairs, without those whose check failed.
        scored: How many of them were scored with the weights served now.
        never_seen: How many of those are of patients used neither to train nor to choose the weights.
        mean: Over the scored pairs, by method and metric.
        mean_never_seen: Over the pairs of patients never seen: the unbiased one. None if there are none.
    """

    model: str
    version: int | None
    checksum: str
    pairs: int
    scored: int
    never_seen: int
    mean: MetricsTable | None
    mean_never_seen: MetricsTable | None


def summary_of(datastore: StudiesDatastore, name: str, published: PublishedModel) -> Summary:
    """Return the mean metrics of the served weights over the pairs that were scored with them."""
    listed = datastore.listing().pairs
    checks = {ct_uid: datastore.pairs.known(paired) for ct_uid, paired in listed.items()}
    cts = [ct_uid for ct_uid, checked in checks.items() if checked is None or checked.is_used]
    found = (score_of(datastore, ct_uid, name) for ct_uid in cts)
    scores = [score for score in found if score is not None and score.checksum == published.checksum]
    unseen = [score.figures for score in scores if score.seen == NEVER_SEEN]
    return Summary(
        model=name,
        version=published.version,
        checksum=published.checksum,
        pairs=len(cts),
        scored=len(scores),
        never_seen=len(unseen),
        mean=_mean([score.figures for score in scores]),
        mean_never_seen=_mean(unseen),
    )


def _mean(scores: list[MetricsTable]) -> MetricsTable | None:
    """Return the mean of each metric over the pairs that have it; None for no pairs."""
    if not scores:
        return None
    return {
        method: {metric: _mean_of(score.get(method, {}).get(metric) for score in scores) for metric in METRICS}
        for method in scores[0]
    }


def _mean_of(values: Iterable[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _read(kind: type[Stored], info: Mapping[str, Any], key: str, model: str) -> Stored | None:
    """Return a model's entry; None if it is missing or invalid."""
    try:
        return kind(**info[key][model])
    except (KeyError, TypeError, ValidationError):
        return None
