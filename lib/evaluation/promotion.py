"""Whether a newly trained model, the challenger, may replace the served one, the champion.

The rule and its limits: docs/decisions/0016. All metrics are of the same patients on the same voxels, in the body
metrics of `COMPARED_METRICS`. In addition, the challenger must not significantly fabricate more lesions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib.dicom.read.volume import read_pet
from lib.dicom.scan.open_ct import read_ct_series
from lib.errors import InputError
from lib.evaluation.champion_comparison import (
    CHAMPION,
    MIN_PATIENTS,
    PairedComparison,
    compare_fabrication,
    compare_metric,
)
from lib.evaluation.lesions.patient import measure_fixed_lesions
from lib.evaluation.slice_metrics import align, card_baselines, predict_all_methods
from lib.imaging.orientation import to_canonical
from lib.imaging.resample_2d import resample_in_plane
from lib.learning.model_card.card import ModelCard, patient_digest
from lib.metrics.agreement import group_by_patient
from lib.metrics.appearance import measure_appearance
from lib.metrics.baseline_comparison import BaselineComparison, compare_with_baselines, not_judged
from lib.metrics.criteria import COMPARED_METRICS, FABRICATION_METRICS, HU_SHARE, VERDICT_METRICS
from lib.metrics.hu_lookup import hu_share
from lib.metrics.image import measure_slices
from lib.metrics.verdict import MethodMetrics, capitalize, join_names, judge_patients
from lib.pairing.pairs import PairedSeries
from lib.synthesis.synthesizer import Synthesizer
from lib.types import LocalFiles, Progress, already_local, no_progress

logger = logging.getLogger(__name__)

MAX_JUDGED = 32  # patients: enough for narrow intervals; two PETs of each are synthesised


@dataclass(frozen=True)
class PromotionResult:
    """The challenger compared with the baselines and the champion.

    Attributes:
        patients: Number of patients evaluated.
        baseline_comparison: The challenger compared with the baselines.
        comparisons: The challenger compared with the champion, one per metric; empty without a champion.
        fabrication: The same in number and volume of fabricated lesions, where both were measured.
    """

    patients: int
    baseline_comparison: BaselineComparison
    comparisons: tuple[PairedComparison, ...]
    fabrication: tuple[PairedComparison, ...] = ()

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
    def fabricates_more(self) -> tuple[PairedComparison, ...]:
        """Number or volume of fabricated lesions where the challenger has significantly more than the champion."""
        return tuple(comparison for comparison in self.fabrication if comparison.outcome == "worse")

    @property
    def is_promotable(self) -> bool:
        """Whether the challenger may be served."""
        return bool(self.leads) and not self.lost and not self.fabricates_more

    def sentence(self, champion: str = "the champion") -> str:
        """Return why the challenger may or may not be served.

        Args:
            champion: Name of the champion, such as `version 3`.
        """
        if not self.patients:
            return self.baseline_comparison.sentence
        baselines, tested = self.baseline_comparison.sentence, f"tested on {_patients(self.patients)}"
        fabricated = "; ".join(comparison.summary for comparison in self.fabricates_more)
        invents = f"significantly more fabricated lesions than {champion} ({fabricated})" if fabricated else ""
        if self.lost:
            significance = "" if self.lost[0].outcome == "worse" else " on average, but not significantly"
            values = "; ".join(comparison.summary for comparison in self.lost)
            also = f"; {invents}" if invents else ""
            return f"Worse than {champion}{significance}: {values}{also}; {tested}. {baselines}"
        if invents:
            return f"{capitalize(invents)}; {tested}. {baselines}"
        if not self.comparisons:
            return f"{self._leads_sentence}{baselines}"
        values = "; ".join(comparison.summary for comparison in self.comparisons)
        return f"Not worse than {champion} in any metric: {values}; {tested}. {self._leads_sentence}{baselines}"

    @property
    def _leads_sentence(self) -> str:
        """The metrics in which it beats every baseline; empty where the comparison with the baselines says so."""
        if self.baseline_comparison.mark == "beats all":
            return ""
        if not self.leads:
            return "Not better than all baselines in any metric. "
        words = {metric.name: metric.words for metric in COMPARED_METRICS}
        return f"Better than all baselines in {join_names([words[name] for name in self.leads])}. "

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "patients": self.patients,
            "leads": list(self.leads),
            "lost": [comparison.metric.name for comparison in self.lost],
            "beside_champion": {comparison.metric.name: comparison.as_json() for comparison in self.comparisons},
            "fabrication": {comparison.metric.name: comparison.as_json() for comparison in self.fabrication},
            "fabricates_more": [comparison.metric.name for comparison in self.fabricates_more],
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
    than `MIN_PATIENTS`, all that neither was trained on. Patients of a cross-validated ensemble count as such, because
    one of its networks was not trained on them. At most `MAX_JUDGED` patients, the same ones each time.
    """
    trained_on = {digest for card in (challenger, champion) if card is not None for digest in _trained_on(card)}
    unseen = sorted({patient_digest(paired.pair.ct.patient_id) for paired in pairs} - trained_on)
    validation = [digest for digest in unseen if digest in challenger.training.validation_patients]
    few = len(validation) < MIN_PATIENTS
    chosen = set((unseen if few else validation)[:MAX_JUDGED])
    neither = "it was not" if champion is None else "neither was"
    description = f"that {neither} trained on" if few else f"of the validation side that {neither} trained on"
    return tuple(paired for paired in pairs if patient_digest(paired.pair.ct.patient_id) in chosen), description


def _trained_on(card: ModelCard) -> set[str]:
    """Return the digests of the patients that cannot be evaluated: no network of the model is unaware of them."""
    return set(card.fitted_on) - set(card.training.folds)


def promotion_result(measured: Sequence[tuple[str, MethodMetrics]], *, description: str) -> PromotionResult:
    """Return the result over (patient, metrics by method) pairs; pairs of one patient count as their mean.

    Args:
        measured: Metrics of each pair.
        description: Of the patients, follows "5 patients" in the sentences.
    """
    if not measured:
        return PromotionResult(0, not_judged(f"there is no patient {description} with a PET"), ())
    judgement = judge_patients(measured, metrics=VERDICT_METRICS)
    with_baselines = compare_with_baselines(judgement, evaluated_on=f"{_patients(judgement.patients)} {description}")
    if not all(CHAMPION in metrics for _, metrics in measured):
        return PromotionResult(judgement.patients, with_baselines, ())
    patients = [*group_by_patient(measured).values()]
    comparisons = tuple(compare_metric(patients, metric) for metric in COMPARED_METRICS)
    fabrication = tuple(compare_fabrication(patients, metric) for metric in FABRICATION_METRICS)
    return PromotionResult(judgement.patients, with_baselines, comparisons, fabrication)


def _measure(
    challenger: Synthesizer, champion: Synthesizer | None, paired: PairedSeries, local_files: LocalFiles
) -> MethodMetrics | None:
    """Return the metrics of every method on the challenger's grid; None where no voxel of the body was measured."""
    with local_files(paired.pair.ct, paired.pair.pet):
        ct, pet = read_ct_series(paired.pair.ct), paired.pet_volume(read_pet(paired.pair.pet))
    patient_id = paired.pair.ct.patient_id
    challenger = challenger.for_patient(patient_id)
    volumes = align(challenger.apply(ct), ct=ct, pet=pet, grid=challenger.card.recipe.grid)
    if not volumes.body.any():
        logger.warning("CT %s is excluded: no voxel inside its body was measured", paired.pair.ct.uid)
        return None
    predictions = predict_all_methods(volumes, card_baselines(challenger.card))
    if champion is not None:
        predictions[CHAMPION] = resample_in_plane(
            to_canonical(champion.for_patient(patient_id).apply(ct)).array, *volumes.geometry.shape[1:]
        )
    metrics: dict[str, dict[str, float]] = {}
    for method, suv_bw in predictions.items():
        measured = measure_slices(
            suv_bw, volumes.real_suv, volumes.body, measured=volumes.measured,
            groups=frozenset({"ssim"}), device=challenger.device,
        )  # fmt: skip
        metrics[method] = {metric.name: float(getattr(measured, metric.name)) for metric in COMPARED_METRICS}
        metrics[method] |= vars(
            measure_appearance(suv_bw, volumes.real_suv, volumes.body, spacing_mm=volumes.geometry.spacing_mm)
        )
    networks = {method: predictions[method] for method in ("model", CHAMPION) if method in predictions}
    for method, detection in measure_fixed_lesions(volumes, networks).items():
        metrics[method] |= detection.metrics("fixed")
    metrics["model"][HU_SHARE] = hu_share(volumes.ct_hu, volumes.synthetic_suv, volumes.body)
    return metrics


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count} patients"
