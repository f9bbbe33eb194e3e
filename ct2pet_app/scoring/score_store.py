"""What is known of a model's synthetic PETs, case by case, as kept with the images and labels of the datastore.

The figures of a pair lie in the info of its `final` label, the error to expect of a CT without a PET in the info of the
image; clients read both there and write neither. What does not read as ours counts as not there.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import lib
from ct2pet_app.datastore.studies import FINAL, StudiesDatastore
from ct2pet_app.model_registry.model_cache import PublishedModel
from lib.evaluation.slice_metrics import Comparison
from lib.files import same_fingerprint
from lib.learning.model_card.scores import MetricsTable
from lib.pairing.split import Side

SCORES, UNCERTAINTY = "scores", "uncertainty"  # keys of the infos; in each, one entry a model
FIGURES = (
    "mae_suv", "psnr_db", "ssim", "mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "bias_suv_body",
)  # fmt: skip
SEEN, NEVER_SEEN = {Side.TRAIN: "training", Side.VALIDATION: "validation"}, "never"


@dataclass(frozen=True)
class PairScore:
    """How a model did on one pair.

    Attributes:
        model, version, checksum: Which weights drew the PET.
        trained: When they were made, UTC.
        seen: `training` or `validation` where the patient shaped the weights and metrics flatter, else `never`.
        figures: By method (`model` and the trivial baselines), by name of the figure.
        files: Mark of the CT's and the PET's files.
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
        """Return whether scoring these weights on these files again would tell the same."""
        same_weights = self.checksum == published.checksum and self.ct2pet == lib.__version__
        return same_weights and same_fingerprint(self.files, files)


@dataclass(frozen=True)
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
    all_figures = comparison.as_json()
    figures = {method: {figure: values[figure] for figure in FIGURES} for method, values in all_figures.items()}
    return PairScore(
        model=name,
        version=published.version,
        checksum=published.checksum,
        trained=published.card.created,
        seen=SEEN.get(published.card.side_of(patient_id), NEVER_SEEN),
        figures=figures,
        files=files,
        scored=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ct2pet=lib.__version__,
    )


def score_of(datastore: StudiesDatastore, ct_uid: str, model: str) -> PairScore | None:
    """Return a model's score on the pair of a CT."""
    entry = _entry(datastore.get_label_info(ct_uid, FINAL), SCORES, model, of=PairScore)
    return PairScore(**entry) if entry and _are_figures(entry["figures"]) else None


def keep_score(datastore: StudiesDatastore, ct_uid: str, score: PairScore) -> None:
    """Keep a score with its pair, beside those of other models."""
    datastore.labels.record(ct_uid, FINAL, {SCORES: {score.model: asdict(score)}})


def expected_error_of(datastore: StudiesDatastore, image: str, model: str) -> ExpectedError | None:
    """Return the error that a model expects of its synthetic PET of a CT."""
    entry = _entry(datastore.get_image_info(image), UNCERTAINTY, model, of=ExpectedError)
    return ExpectedError(**entry) if entry and isinstance(entry["mean_suv"], float) else None


def keep_expected_error(datastore: StudiesDatastore, image: str, expected: ExpectedError) -> None:
    """Keep an expected error with its CT, beside those of other models."""
    datastore.record_image(image, {UNCERTAINTY: {expected.model: asdict(expected)}})


@dataclass(frozen=True)
class Summary:
    """How a model does over all pairs.

    Attributes:
        pairs: There are, without those that are known not to look like one patient's.
        scored: Of these with the weights served now.
        never_seen: Of the scored, patients who neither trained the weights nor chose them.
        mean: Over the scored, by method and figure.
        mean_never_seen: Over those of patients never seen; the honest one. None where there are none.
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
    """Return how the served weights do over the pairs that were scored with them."""
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
    """Return the mean of each figure over the pairs that have it; None for no pairs."""
    if not scores:
        return None
    return {
        method: {figure: _mean_of(score.get(method, {}).get(figure) for score in scores) for figure in FIGURES}
        for method in scores[0]
    }


def _mean_of(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    return sum(told) / len(told) if told else None


def _entries(info: Mapping[str, Any], key: str) -> dict[str, Any]:
    entries = info.get(key)
    return dict(entries) if isinstance(entries, Mapping) else {}


def _entry(info: Mapping[str, Any], key: str, model: str, *, of: type) -> dict[str, Any] | None:
    """Return a model's entry where it has the fields of ours."""
    entry = _entries(info, key).get(model)
    names = {field.name for field in dataclasses.fields(of)}
    return dict(entry) if isinstance(entry, Mapping) and set(entry) == names else None


def _are_figures(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(isinstance(values, Mapping) for values in entry.values())
