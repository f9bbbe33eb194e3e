"""Selection of the CT that belongs to a PET when several cover it, from headers or from an archive's index.

Criteria, in this order: nearest in time, acquired for the PET, not a console's resampled copy, without contrast, soft
kernel, most slices. The SeriesInstanceUID decides only between CTs that are equal in all of these.
docs/decisions/0024-which-ct-belongs-to-a-pet.md explains the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib.dicom.series_attributes import Sharpness, has_contrast, is_acquired_for_pet, is_resampled, sharpness

# CTs of one visit (attenuation, contrast) differ by less, an early and a delayed scan by at least 30 min.
SAME_TIME_MIN = 10.0
# Assumed for a CT without a time: ranks after one of the PET's session and before one that is hours away.
UNKNOWN_TIME_MIN = 30.0


@dataclass(frozen=True)
class CtTraits:
    """Properties of a CT by which it is selected.

    Attributes:
        uid: SeriesInstanceUID.
        description: SeriesDescription.
        slices: Number of slices.
        minutes_after: Minutes between the PET and the CT, negative if the CT is earlier; None if a time is unknown.
        kernel: ConvolutionKernel; empty if unknown.
        contrast_agent: ContrastBolusAgent; empty if unknown.
    """

    uid: str
    description: str
    slices: int
    minutes_after: float | None = None
    kernel: str = ""
    contrast_agent: str = ""

    @property
    def minutes_away(self) -> float:
        """Minutes between CT and PET, `UNKNOWN_TIME_MIN` if unknown."""
        return UNKNOWN_TIME_MIN if self.minutes_after is None else abs(self.minutes_after)

    @property
    def when(self) -> str:
        """The time relative to the PET, as text."""
        return when(self.minutes_after)


@dataclass(frozen=True)
class _Criterion:
    """A property of a CT, of which the lowest value is preferred; `reason` compares the best CT with the next one."""

    value: Callable[[CtTraits], float]
    reason: Callable[[CtTraits, CtTraits], str]


def _sharpness(ct: CtTraits) -> Sharpness:
    return sharpness(ct.kernel, ct.description)


CRITERIA = (
    _Criterion(
        lambda ct: not is_acquired_for_pet(ct.description),
        lambda best, other: f"was acquired for the PET by its description, {best.description!r} ({_next(other)})",
    ),
    _Criterion(
        lambda ct: is_resampled(ct.description),
        lambda _, other: f"is not a console's resampled copy ({_next(other)})",
    ),
    _Criterion(
        lambda ct: has_contrast(ct.contrast_agent, ct.description),
        lambda _, other: f"has no contrast (the next: {other.contrast_agent or repr(other.description)})",
    ),
    _Criterion(
        _sharpness,
        lambda best, other: f"has the softer kernel, {_kernel(best)} (the next: {_kernel(other)})",
    ),
    _Criterion(
        lambda ct: -ct.slices,
        lambda best, other: f"has the most slices ({best.slices} against {other.slices})",
    ),
)


def when(minutes_after: float | None) -> str:
    """Return a CT's time relative to the PET as text."""
    if minutes_after is None:
        return "at an unknown time"
    minutes = round(abs(minutes_after))
    if minutes == 0:
        return "with the PET"
    return f"{minutes} min {'after' if minutes_after > 0 else 'before'} the PET"


def choose_ct(cts: Sequence[CtTraits]) -> tuple[int, str]:
    """Return the index of the CT that belongs to the PET, and the property that decided, as text.

    The text is a predicate whose subject is "this CT"; it is empty if there was only one CT.
    """
    chosen = _best(cts)
    others = [index for index in range(len(cts)) if index != chosen]
    if not others:
        return chosen, ""
    best, other = cts[chosen], cts[others[_best([cts[index] for index in others])]]
    if other.minutes_away - best.minutes_away > SAME_TIME_MIN:
        return chosen, f"was acquired {best.when}, the next {other.when}"
    for criterion in CRITERIA:
        if criterion.value(best) < criterion.value(other):
            return chosen, criterion.reason(best, other)
    return chosen, "equals the next in time, purpose, contrast, kernel and slices, and its UID sorts first"


def _best(cts: Sequence[CtTraits]) -> int:
    nearest = min(ct.minutes_away for ct in cts)
    candidates = [index for index, ct in enumerate(cts) if ct.minutes_away <= nearest + SAME_TIME_MIN]
    return min(candidates, key=lambda index: (*(float(one.value(cts[index])) for one in CRITERIA), cts[index].uid))


def _next(ct: CtTraits) -> str:
    return f"the next: {ct.description!r}"


def _kernel(ct: CtTraits) -> str:
    return ct.kernel.replace("\\", "/") or f"by its description {ct.description!r}"
