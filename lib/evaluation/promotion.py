"""Whether a newly trained model, the challenger, may take the place of the one that is served, the champion.

The rule and what it gives up: docs/decisions/0016. All figures are of the same patients on the same voxels, in the
body measures that a standing is made of (`STANDING_MEASURES`).
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
from lib.evaluation.slice_metrics import align, card_baselines, drawn_by_all
from lib.imaging.orientation import to_canonical
from lib.imaging.resample_2d import resample_in_plane
from lib.learning.model_card.card import ModelCard, patient_digest
from lib.metrics.agreement import Interval, bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baseline_comparison import Standing, not_judged, stand
from lib.metrics.criteria import HU_SHARE, STANDING_MEASURES, Measure
from lib.metrics.hu_lookup import hu_share
from lib.metrics.image import measure_slices
from lib.metrics.verdict import MethodMetrics, judge_patients, listed
from lib.pairing.pairs import PairedSeries
from lib.synthesis.synthesizer import Synthesizer
from lib.types import LocalFiles, Progress, already_local, finite_or_none, no_progress

logger = logging.getLogger(__name__)

CHAMPION = "champion"
ENOUGH = 5  # patients: with fewer, even all of them on one side are no sign at 5 % (1 / 2^5 = 3 %)
MAX_JUDGED = 32  # patients: their intervals are narrow enough, and two PETs of each are drawn

Outcome = Literal["better", "level", "worse", "not measured"]


@dataclass(frozen=True)
class PairedComparison:
    """Challenger and champion in one measure, over the patients that have a value of both.

    Attributes:
        challenger, champion: Mean over patients.
        difference: Challenger - champion, with its 95 % bootstrap interval over patients.
        outcome: `worse` and `better` where the whole interval is on that side; with fewer than `ENOUGH` patients, whose
            interval says little, where the mean is. `worse` also where the champion has a value and the challenger
            none, as the correlation of a PET that is flat, or an infinitely bad one.
    """

    measure: Measure
    challenger: float
    champion: float
    difference: Interval
    outcome: Outcome

    @property
    def is_behind(self) -> bool:
        """Whether the challenger's mean is the worse one, surely or not."""
        return self.outcome == "worse" or _ahead(self.difference.mean, self.measure) < 0

    @property
    def words(self) -> str:
        """The two means, and the interval of their difference."""
        of, digits = self.difference, self.measure.digits
        if math.isnan(self.challenger):
            return f"{self.measure.name} (no patient has a value of both)"
        told = f"{self.measure.name} {self.challenger:.{digits}f} against {self.champion:.{digits}f}"
        if math.isnan(of.low):
            return told
        return f"{told} (difference {of.mean:+.{digits}f}, 95 % {of.low:+.{digits}f} to {of.high:+.{digits}f})"

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None for NaN."""
        means = finite_or_none({"challenger": self.challenger, "champion": self.champion})
        return {**means, "difference": self.difference.as_json(), "outcome": self.outcome}


@dataclass(frozen=True)
class Contest:
    """How a challenger did.

    Attributes:
        patients: On how many it was judged.
        standing: The challenger beside the trivial predictors.
        duels: Beside the champion, one a measure; empty where there is none.
    """

    patients: int
    standing: Standing
    duels: tuple[PairedComparison, ...]

    @property
    def leads(self) -> tuple[str, ...]:
        """The measures in which the challenger surely beats every trivial predictor that has a value."""
        return tuple(
            name
            for name, outcomes in self.standing.outcomes.items()
            if "beaten" in outcomes.values() and set(outcomes.values()) <= {"beaten", "undefined"}
        )

    @property
    def lost(self) -> tuple[PairedComparison, ...]:
        """Where the challenger is worse than the champion; every measure where its mean is behind in each of them."""
        worse = tuple(duel for duel in self.duels if duel.outcome == "worse")
        measured = tuple(duel for duel in self.duels if duel.outcome != "not measured")
        return worse or (measured if all(duel.is_behind for duel in measured) else ())

    @property
    def won(self) -> bool:
        """Whether the challenger may be served."""
        return bool(self.leads) and not self.lost

    def sentence(self, champion: str = "the champion") -> str:
        """Return why the challenger may be served, or may not.

        Args:
            champion: What to call the champion, such as `version 3`.
        """
        if not self.patients:
            return self.standing.sentence
        if self.lost:
            sure = self.lost[0].outcome == "worse"
            how = "is worse than" if sure else "is behind, if not surely,"
            told = f"It {how} {champion} in {'; '.join(duel.words for duel in self.lost)}"
            return f"{told} ({_patients(self.patients)}). {self.standing.sentence}"
        beside = f"It beats every trivial predictor in {listed(self.leads)}" if self.leads else ""
        nothing = "It beats all trivial predictors in no measure"
        if not self.duels:
            return f"{beside or nothing}. {self.standing.sentence}"
        equal = f"is in no measure worse than {champion}: {'; '.join(duel.words for duel in self.duels)}"
        return f"{beside or nothing}, and {equal} ({_patients(self.patients)}). {self.standing.sentence}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "patients": self.patients,
            "leads": list(self.leads),
            "lost": [duel.measure.name for duel in self.lost],
            "beside_champion": {duel.measure.name: duel.as_json() for duel in self.duels},
            "standing": self.standing.as_json(),
        }


def hold_contest(
    challenger: Synthesizer,
    champion: Synthesizer | None,
    pairs: Sequence[PairedSeries],
    *,
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> Contest:
    """Return how a challenger does beside the champion, where there is one, and the trivial predictors.

    A pair that cannot be read is left out with a warning.

    Args:
        pairs: All there are; `judges` says who of them judges.

    Raises:
        PairingError: The challenger's card carries no trivial predictors.
    """
    card_baselines(challenger.card)  # refused before the work
    chosen, whose = judges(challenger.card, None if champion is None else champion.card, pairs)
    measured: list[tuple[str, MethodMetrics]] = []
    for number, paired in enumerate(chosen):
        progress(number, len(chosen), "judging")
        try:
            figures = _figures(challenger, champion, paired, local_files)
        except InputError as error:
            logger.warning("CT %s is left out of the contest: %s", paired.pair.ct.uid, error)
            continue
        if figures is not None:
            measured.append((patient_digest(paired.pair.ct.patient_id), figures))
    progress(len(chosen), len(chosen), "judging")
    return contest_of(measured, whose=whose)


def judges(
    challenger: ModelCard, champion: ModelCard | None, pairs: Sequence[PairedSeries]
) -> tuple[tuple[PairedSeries, ...], str]:
    """Return the pairs to judge by, and in words whose they are.

    Patients of the challenger's validation side that neither model was trained on; where these are fewer than `ENOUGH`,
    all that neither was trained on. At most `MAX_JUDGED` patients, the same ones each time.
    """
    seen = {*challenger.training.patients, *(() if champion is None else champion.training.patients)}
    unseen = sorted({patient_digest(paired.pair.ct.patient_id) for paired in pairs} - seen)
    validating = [digest for digest in unseen if digest in challenger.training.validation_patients]
    few = len(validating) < ENOUGH
    chosen = set((unseen if few else validating)[:MAX_JUDGED])
    neither = "it was not" if champion is None else "neither was"
    whose = f"that {neither} trained on" if few else f"of the validation side that {neither} trained on"
    return tuple(paired for paired in pairs if patient_digest(paired.pair.ct.patient_id) in chosen), whose


def contest_of(measured: Sequence[tuple[str, MethodMetrics]], *, whose: str) -> Contest:
    """Return the contest of figures, given each pair's patient; pairs of one patient count as their mean.

    Args:
        whose: What follows "5 patients" in the sentences.
    """
    if not measured:
        return Contest(0, not_judged(f"there is no patient {whose} with a PET to judge it by"), ())
    judgement = judge_patients(measured, measures=STANDING_MEASURES)
    standing = stand(judgement, on_whom=f"{_patients(judgement.patients)} {whose}")
    if not all(CHAMPION in figures for _, figures in measured):
        return Contest(judgement.patients, standing, ())
    of_patients = [*group_by_patient(measured).values()]
    return Contest(judgement.patients, standing, tuple(_duel(of_patients, measure) for measure in STANDING_MEASURES))


def _duel(patients: Sequence[Sequence[MethodMetrics]], measure: Measure) -> PairedComparison:
    rows = [tuple(_mean(pairs, method, measure.name) for method in ("model", CHAMPION)) for pairs in patients]
    both = [(model, other) for model, other in rows if math.isfinite(model) and math.isfinite(other)]
    challenger, champion = (finite_mean(row[n] for row in both) for n in (0, 1))
    difference = bootstrap_mean(model - other for model, other in both)
    collapsed = any(
        math.isfinite(other) and not math.isfinite(model) and not _ahead(model, measure) > 0 for model, other in rows
    )
    return PairedComparison(
        measure, challenger, champion, difference, "worse" if collapsed else _outcome(difference, measure)
    )


def _outcome(difference: Interval, measure: Measure) -> Outcome:
    if not difference.count:
        return "not measured"
    few = difference.count < ENOUGH
    ends = (difference.mean, difference.mean) if few else (difference.low, difference.high)
    ahead = [_ahead(end, measure) for end in ends]
    if max(ahead) < 0:
        return "worse"
    return "better" if min(ahead) > 0 else "level"


def _ahead(difference: float, measure: Measure) -> float:
    """Return a difference with the sign that is above 0 where the challenger is the better one."""
    return difference if measure.best == "highest" else -difference


def _mean(pairs: Sequence[MethodMetrics], method: str, name: str) -> float:
    """Return a patient's figure; NaN where one of the pairs has none, so that a collapsed PET is not averaged away."""
    return sum(figures[method][name] for figures in pairs) / len(pairs)


def _figures(
    challenger: Synthesizer, champion: Synthesizer | None, paired: PairedSeries, local_files: LocalFiles
) -> MethodMetrics | None:
    """Return the figures of every method on the challenger's grid; None where no voxel of a body was measured."""
    with local_files(paired.pair.ct, paired.pair.pet):
        ct, pet = read_ct_series(paired.pair.ct), paired.pet_volume(read_pet(paired.pair.pet))
    volumes = align(challenger.apply(ct), ct=ct, pet=pet, grid=challenger.card.recipe.grid)
    if not volumes.body.any():
        logger.warning("CT %s is left out of the contest: no voxel inside its body was measured", paired.pair.ct.uid)
        return None
    drawn = drawn_by_all(volumes, card_baselines(challenger.card))
    if champion is not None:
        drawn[CHAMPION] = resample_in_plane(to_canonical(champion.apply(ct)).array, *volumes.geometry.shape[1:])
    figures: dict[str, dict[str, float]] = {}
    for method, suv_bw in drawn.items():
        metrics = measure_slices(
            suv_bw, volumes.real_suv, volumes.body, measured=volumes.measured,
            groups=frozenset({"ssim"}), device=challenger.device,
        )  # fmt: skip
        figures[method] = {measure.name: float(getattr(metrics, measure.name)) for measure in STANDING_MEASURES}
    figures["model"][HU_SHARE] = hu_share(volumes.ct_hu, volumes.synthetic_suv, volumes.body)
    return figures


def _patients(count: int) -> str:
    return "1 patient" if count == 1 else f"{count} patients"
