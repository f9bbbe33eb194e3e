"""Which of several CTs that cover a PET alike belongs to it: one policy, for headers and for an archive's list.

In this order: nearest in time, made for the PET, not a console's resampled copy, without contrast, soft kernel, more
slices. The SeriesInstanceUID decides only between CTs that are alike in all of these, and the reason says so.
docs/decisions/0024-which-ct-belongs-to-a-pet.md tells why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib.dicom.series_attributes import Sharpness, has_contrast, is_acquired_for_pet, is_resampled, sharpness

# CTs of one visit (attenuation, contrast) differ by less, an early and a delayed scan by 30 min and more.
SAME_TIME_MIN = 10.0
# A CT that does not tell its time counts as this far away: behind one of the PET's own session, before one hours away.
UNKNOWN_TIME_MIN = 30.0


@dataclass(frozen=True)
class CtTraits:
    """What the choice compares.

    Attributes:
        uid: SeriesInstanceUID.
        description: SeriesDescription.
        slices: How many.
        minutes_after: When it was acquired after the PET, negative before it; None where either time is not known.
        kernel: ConvolutionKernel, empty where it is not known.
        contrast_agent: ContrastBolusAgent, likewise.
    """

    uid: str
    description: str
    slices: int
    minutes_after: float | None = None
    kernel: str = ""
    contrast_agent: str = ""

    @property
    def minutes_away(self) -> float:
        """How far it is from the PET in time, `UNKNOWN_TIME_MIN` where that is not known."""
        return UNKNOWN_TIME_MIN if self.minutes_after is None else abs(self.minutes_after)

    @property
    def when(self) -> str:
        """When it was acquired, in words."""
        return when(self.minutes_after)


@dataclass(frozen=True)
class _Criterion:
    """A property of a CT; the lower is taken, and `reason` tells it of the CT that was taken and of the next one."""

    value: Callable[[CtTraits], float]
    reason: Callable[[CtTraits, CtTraits], str]


def _sharpness(ct: CtTraits) -> Sharpness:
    return sharpness(ct.kernel, ct.description)


CRITERIA = (
    _Criterion(
        lambda ct: not is_acquired_for_pet(ct.description),
        lambda best, other: f"is made for the PET by its description, {best.description!r} ({_next(other)})",
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
    """Return a CT's time against the PET's in words."""
    if minutes_after is None:
        return "at a time that its header does not tell"
    minutes = round(abs(minutes_after))
    if minutes == 0:
        return "with the PET"
    return f"{minutes} min {'after' if minutes_after > 0 else 'before'} the PET"


def choose_ct(cts: Sequence[CtTraits]) -> tuple[int, str]:
    """Return the index of the CT that belongs to the PET, and which of its properties decided, in words.

    The words continue "this CT"; they are empty where there was only one.
    """
    chosen = _best(cts)
    rest = [index for index in range(len(cts)) if index != chosen]
    if not rest:
        return chosen, ""
    best, other = cts[chosen], cts[rest[_best([cts[index] for index in rest])]]
    if other.minutes_away - best.minutes_away > SAME_TIME_MIN:
        return chosen, f"was acquired {best.when}, the next {other.when}"
    for criterion in CRITERIA:
        if criterion.value(best) < criterion.value(other):
            return chosen, criterion.reason(best, other)
    return chosen, "is like the next in time, purpose, contrast, kernel and slices, and its UID comes first"


def _best(cts: Sequence[CtTraits]) -> int:
    nearest = min(ct.minutes_away for ct in cts)
    alike = [index for index, ct in enumerate(cts) if ct.minutes_away <= nearest + SAME_TIME_MIN]
    return min(alike, key=lambda index: (*(float(one.value(cts[index])) for one in CRITERIA), cts[index].uid))


def _next(ct: CtTraits) -> str:
    return f"the next: {ct.description!r}"


def _kernel(ct: CtTraits) -> str:
    return ct.kernel.replace("\\", "/") or f"by its description {ct.description!r}"
