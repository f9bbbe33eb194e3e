"""Judge a CT by a model's reference: like its training CTs, unusual, or unlike them, with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lib.learning.familiarity.numbers import NUMBERS, VALUES
from lib.learning.familiarity.profile import CTProfile
from lib.learning.familiarity.reference import MAX_FLAGGED, MIN_PATIENTS, MIN_UNUSUAL, Reference
from lib.learning.familiarity.statistics import distances

UNLIKE = 2.0  # times the limit of a number
MAX_SHOWN = 3  # values of a header fact in a reason


class Level(StrEnum):
    """How much a CT resembles the training CTs."""

    UNKNOWN = "unknown"  # cannot be judged
    FAMILIAR = "familiar"
    UNUSUAL = "unusual"  # differs from most; the PET is worth a closer look
    UNLIKE = "unlike"  # the model was not trained for such a CT


@dataclass(frozen=True)
class Familiarity:
    """How much a CT resembles the CTs a model was trained on.

    Attributes:
        level: The judgement.
        score: Largest distance outside the training CTs' range of a number, divided by its limit: unusual above 1,
            unlike above `UNLIKE`; None if unknown.
        reasons: What differs, with numbers, most different first; why the CT cannot be judged if unknown.
        patients: Number of training patients; None if the model card does not contain what is needed.
    """

    level: Level
    reasons: tuple[str, ...] = ()
    score: float | None = None
    patients: int | None = None

    @property
    def sentence(self) -> str:
        """The judgement and its reasons in one line; empty if familiar."""
        match self.level:
            case Level.FAMILIAR:
                return ""
            case Level.UNKNOWN:
                return f"Whether this CT resembles the training CTs is unknown: {'; '.join(self.reasons)}."
            case Level.UNUSUAL:
                return f"This CT is unusual compared with the training CTs: {'; '.join(self.reasons)}."
            case _:
                return f"This CT is unlike the training CTs: {'; '.join(self.reasons)}."

    @property
    def warning(self) -> str:
        """The sentence about a CT that is unusual or unlike the training CTs; otherwise empty."""
        return self.sentence if self.level in (Level.UNUSUAL, Level.UNLIKE) else ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "level": self.level.value,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "score": self.score,
            "patients": self.patients,
        }


NOT_RECORDED = Familiarity(
    Level.UNKNOWN, ("the model card does not describe them: an earlier version trained the model, or it was imported",)
)


def too_few_patients(patients: int) -> Familiarity:
    """Return the result for a model with too few training patients to judge a CT."""
    trained = f"trained on {patients} {'patient' if patients == 1 else 'patients'}"
    return Familiarity(Level.UNKNOWN, (f"{trained}, too few to judge (at least {MIN_PATIENTS})",), patients=patients)


def assess(profile: CTProfile, reference: Reference) -> Familiarity:
    """Return how much a CT resembles the training CTs; numbers and facts that are unknown are not judged.

    A CT is `unlike` by what the network sees or by its extent. Header facts, pixel and slice spacing, and age can only
    make it `unusual`.
    """
    if not reference.judges:
        return too_few_patients(reference.patients)
    numbers = {**profile.numbers, **distances(profile, reference.statistics())}
    found: list[tuple[float, str]] = []
    score = 0.0
    for name, value in numbers.items():
        if name not in NUMBERS or name not in reference.ranges:
            continue
        kind, (low, high) = NUMBERS[name], reference.ranges[name]
        exceeded = kind.distance(value, low, high) / reference.limits.get(name, MIN_UNUSUAL)
        if not kind.refuses:
            exceeded = min(exceeded, UNLIKE)
        score = max(score, exceeded)
        if exceeded > 1:
            found.append((exceeded, kind.reason(value, low, high)))
    reasons = [reason for _, reason in sorted(found, reverse=True)] + _new_values(profile, reference)
    level = Level.UNLIKE if score > UNLIKE else Level.UNUSUAL if reasons else Level.FAMILIAR
    return Familiarity(level, tuple(reasons), score=round(score, 2), patients=reference.patients)


def _new_values(profile: CTProfile, reference: Reference) -> list[str]:
    """Return what the header states that no training CT's did, where a new value is improbable.

    By Good and Turing, the probability of a new value is the share of patients whose value no other patient has.
    """
    reasons = []
    for name, label in VALUES.items():
        counts, value = reference.values.get(name, {}), profile.values.get(name)
        known = sum(counts.values())
        if name == "contrast_agent" and value and not counts:
            reasons.append("the header names a contrast agent; that of no training CT does")
        elif value and value not in counts and known:
            single = sum(count == 1 for count in counts.values())
            if known >= MIN_PATIENTS and single <= MAX_FLAGGED * known:
                shown = ", ".join(list(counts)[:MAX_SHOWN]) + (", ..." if len(counts) > MAX_SHOWN else "")
                reasons.append(f"{label} {value} (training CTs: {shown})")
    return reasons
