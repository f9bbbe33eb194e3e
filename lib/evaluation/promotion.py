"""Whether a newly trained model, the challenger, may replace the served one, the champion.

The rule and its limits: docs/decisions/0016. All metrics are of the same patients on the same voxels, in the body
metrics of `COMPARED_METRICS`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.dicom.read.volume import read_pet
from lib.dicom.scan.open_ct import read_ct_series
from lib.errors import InputError
from lib.evaluation.slice_metrics import align, card_baselines, predict_all_methods
from lib.imaging.orientation import to_canonical
from lib.imaging.resample_2d import resample_in_plane
from lib.learning.model_card.card import ModelCard, patient_digest
from lib.metrics.agreement import Interval, bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baseline_comparison import BaselineComparison, compare_with_baselines, not_judged
from lib.metrics.criteria import COMPARED_METRICS, HU_SHARE, Metric
from lib.metrics.hu_lookup import hu_share
from lib.metrics.image import measure_slices
from lib.metrics.verdict import MethodMetrics, join_names, judge_patients
from lib.pairing.pairs import PairedSeries
from lib.synthesis.synthesizer import Synthesizer
from lib.types import LocalFiles, Progress, already_local, finite_or_none, no_progress

logger = logging.getLogger(__name__)

CHAMPION = "champion"
MIN_PATIENTS = 5  # for a sign test at 5 %: the chance that all favour one model is 1 / 2^5 = 3 %
MAX_JUDGED = 32  # patients: enough for narrow intervals; two PETs of each are synthesised

Outcome = Literal["better", "level", "worse", "not measured"]


@dataclass(frozen=True)
class PairedComparison:
    """Challenger and champion in one metric, over the patients that have a value of both.

    Attributes:
        challenger, champion: Mean over patients.
        difference: Challenger - champion, with its 95 % bootstrap interval over patients.
        outcome: `worse` and `better` where the full interval is on that side; with fewer than `MIN_PATIENTS` patients,
            where the mean is. `worse` also where the champion has a value and the challenger none, such as the
            correlation of a constant PET, or an infinite error.
    """

    metric: Metric
    challenger: float
    champion: float
    difference: Interval
    outcome: Outcome

    @property
    def is_behind(self) -> bool:
        """Whether the challenger's mean is worse, significantly or not."""
        return self.outcome == "worse" or _ahead(self.difference.mean, self.metric) < 0

    @property
    def summary(self) -> str:
        """The two means, and the interval of their difference, as text."""
        difference, digits = self.difference, self.metric.digits
        if math.isnan(self.challenger):
            return f"{self.metric.name} (no patient has a value of both)"
        means = f"{self.metric.name} {self.challenger:.{digits}f} against {self.champion:.{digits}f}"
        if math.isnan(difference.low):
            return means
        low, high = (f"{end:+.{digits}f}" for end in (difference.low, difference.high))
        return f"{means} (difference {difference.mean:+.{digits}f}, 95 % {low} to {high})"

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None for NaN."""
        means = finite_or_none({"challenger": self.challenger, "champion": self.champion})
        return {**means, "difference": self.difference.as_json(), "outcome": self.outcome}


@dataclass(frozen=True)
class PromotionResult:
    """The challenger compared with the baselines and the champion.

    Attributes:
        patients: Number of patients evaluated.
        baseline_comparison: The challenger compared with the baselines.
        comparisons: The challenger compared with the champion, one per metric; empty without a champion.
    """

    patients: int
    baseline_comparison: BaselineComparison
    comparisons: tuple[PairedComparison, ...]

    @property
    def leads(self) -> tuple[str, ...]:
        """The metrics in which the challenger significantly beats every baseline that has a value."""
        return tuple(
            name
            for name, outcomes in self.baseline_comparison.outcomes.items()
            if "beaten" in outcomes.values() and set(outcomes.values()) <= {"beaten", "undefined"}
        )

    @property
    def lost(self) -> tuple[PairedComparison, ...]:
        """The metrics in which the challenger is worse than the champion; all, where its mean is worse in all."""
        worse = tuple(comparison for comparison in self.comparisons if comparison.outcome == "worse")
        measured = tuple(comparison for comparison in self.comparisons if comparison.outcome != "not measured")
        return worse or (measured if all(comparison.is_behind for comparison in measured) else ())

    @property
    def is_promotable(self) -> bool:
        """Whether the challenger may be served."""
        return bool(self.leads) and not self.lost

    def sentence(self, champion: str = "the champion") -> str:
        """Return why the challenger may or may not be served.

        Args:
            champion: Name of the champion, such as `version 3`.
        """
        if not self.patients:
            return self.baseline_comparison.sentence
        baselines, patients = self.baseline_comparison.sentence, _patients(self.patients)
        if self.lost:
            how = (
                "is worse than"
                if self.lost[0].outcome == "worse"
                else "is worse on average, but not significantly, than"
            )
            values = "; ".join(comparison.summary for comparison in self.lost)
            return f"It {how} {champion} in {values} ({patients}). {baselines}"
        leads = (
            f"It beats every baseline in {join_names(self.leads)}"
            if self.leads
            else "There is no metric in which it beats every baseline"
        )
        if not self.comparisons:
            return f"{leads}. {baselines}"
        values = "; ".join(comparison.summary for comparison in self.comparisons)
        return f"{leads}, and it is not worse than {champion} in any metric: {values} ({patients}). {baselines}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "patients": self.patients,
            "leads": list(self.leads),
            "lost": [comparison.metric.name for comparison in self.lost],
            "beside_champion": {comparison.metric.name: comparison.as_json() for comparison in self.comparisons},
            "standing": self.baseline_comparison.as_json(),
        }


def compare_with_champion(
    challenger: Synthesizer,
    champion: Synthesizer | None,
    pairs: Sequence[PairedSeries],
    *,
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> PromotionResult:
    """Compare a challenger with the champion, if there is one, and with the baselines.

    A pair that cannot be read is skipped with a warning.

    Args:
        pairs: All there are; `select_pairs` says who of them judges.

    Raises:
        PairingError: The challenger's card has no baselines.
    """
    card_baselines(challenger.card)  # fail early
    selected, description = select_pairs(challenger.card, None if champion is None else champion.card, pairs)
    measured: list[tuple[str, MethodMetrics]] = []
    for number, paired in enumerate(selected):
        progress(number, len(selected), "evaluating")
        try:
            metrics = _measure(challenger, champion, paired, local_files)
        except InputError as error:
            logger.warning("CT %s is excluded from the comparison with the champion: %s", paired.pair.ct.uid, error)
            continue
        if metrics is not None:
            measured.append((patient_digest(paired.pair.ct.patient_id), metrics))
    progress(len(selected), len(selected), "evaluating")
    return promotion_result(measured, description=description)


def select_pairs(
    challenger: ModelCard, champion: ModelCard | None, pairs: Sequence[PairedSeries]
) -> tuple[tuple[PairedSeries, ...], str]:
    """Return the pairs to evaluate, and a description of their patients.

    Selected are patients of the challenger's validation side that neither model was trained on; where these are fewer
    than `MIN_PATIENTS`, all that neither was trained on. At most `MAX_JUDGED` patients, the same ones each time.
    """
    trained_on = {*challenger.fitted_on, *(() if champion is None else champion.fitted_on)}
    unseen = sorted({patient_digest(paired.pair.ct.patient_id) for paired in pairs} - trained_on)
    validation = [digest for digest in unseen if digest in challenger.training.validation_patients]
    few = len(validation) < MIN_PATIENTS
    chosen = set((unseen if few else validation)[:MAX_JUDGED])
    neither = "it was not" if champion is None else "neither was"
    description = f"that {neither} trained on" if few else f"of the validation side that {neither} trained on"
    return tuple(paired for paired in pairs if patient_digest(paired.pair.ct.patient_id) in chosen), description


def promotion_result(measured: Sequence[tuple[str, MethodMetrics]], *, description: str) -> PromotionResult:
    """Return the result over (patient, metrics by method) pairs; pairs of one patient count as their mean.

    Args:
        measured: Metrics of each pair.
        description: Of the patients, follows "5 patients" in the sentences.
    """
    if not measured:
        return PromotionResult(0, not_judged(f"there is no patient {description} with a PET"), ())
    judgement = judge_patients(measured, metrics=COMPARED_METRICS)
    with_baselines = compare_with_baselines(judgement, evaluated_on=f"{_patients(judgement.patients)} {description}")
    if not all(CHAMPION in metrics for _, metrics in measured):
        return PromotionResult(judgement.patients, with_baselines, ())
    patients = [*group_by_patient(measured).values()]
    comparisons = tuple(_compare_metric(patients, metric) for metric in COMPARED_METRICS)
    return PromotionResult(judgement.patients, with_baselines, comparisons)


def _compare_metric(patients: Sequence[Sequence[MethodMetrics]], metric: Metric) -> PairedComparison:
    rows = [tuple(_mean(pairs, method, metric.name) for method in ("model", CHAMPION)) for pairs in patients]
    both = [(model, other) for model, other in rows if math.isfinite(model) and math.isfinite(other)]
    challenger, champion = (finite_mean(row[n] for row in both) for n in (0, 1))
    difference = bootstrap_mean(model - other for model, other in both)
    collapsed = any(
        math.isfinite(other) and not math.isfinite(model) and not _ahead(model, metric) > 0 for model, other in rows
    )
    return PairedComparison(
        metric, challenger, champion, difference, "worse" if collapsed else _outcome(difference, metric)
    )


def _outcome(difference: Interval, metric: Metric) -> Outcome:
    if not difference.count:
        return "not measured"
    few = difference.count < MIN_PATIENTS
    ends = (difference.mean, difference.mean) if few else (difference.low, difference.high)
    ahead = [_ahead(end, metric) for end in ends]
    if max(ahead) < 0:
        return "worse"
    return "better" if min(ahead) > 0 else "level"


def _ahead(difference: float, metric: Metric) -> float:
    """Return a difference with the sign that is positive where the challenger is better."""
    return difference if metric.best == "highest" else -difference


def _mean(pairs: Sequence[MethodMetrics], method: str, name: str) -> float:
    """Return a patient's metric; NaN where it is undefined for a pair, so that a collapsed PET is not averaged out."""
    return sum(metrics[method][name] for metrics in pairs) / len(pairs)


def _measure(
    challenger: Synthesizer, champion: Synthesizer | None, paired: PairedSeries, local_files: LocalFiles
) -> MethodMetrics | None:
    """Return the metrics of every method on the challenger's grid; None where no voxel of the body was measured."""
    with local_files(paired.pair.ct, paired.pair.pet):
        ct, pet = read_ct_series(paired.pair.ct), paired.pet_volume(read_pet(paired.pair.pet))
    volumes = align(challenger.apply(ct), ct=ct, pet=pet, grid=challenger.card.recipe.grid)
    if not volumes.body.any():
        logger.warning("CT %s is excluded: no voxel inside its body was measured", paired.pair.ct.uid)
        return None
    predictions = predict_all_methods(volumes, card_baselines(challenger.card))
    if champion is not None:
        predictions[CHAMPION] = resample_in_plane(to_canonical(champion.apply(ct)).array, *volumes.geometry.shape[1:])
    metrics: dict[str, dict[str, float]] = {}
    for method, suv_bw in predictions.items():
        measured = measure_slices(
            suv_bw, volumes.real_suv, volumes.body, measured=volumes.measured,
            groups=frozenset({"ssim"}), device=challenger.device,
        )  # fmt: skip
        metrics[method] = {metric.name: float(getattr(measured, metric.name)) for metric in COMPARED_METRICS}
    metrics["model"][HU_SHARE] = hu_share(volumes.ct_hu, volumes.synthetic_suv, volumes.body)
    return metrics


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count} patients"
