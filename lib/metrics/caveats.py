"""What a reader of a PET sees at once and the error inside the body does not show, as clauses of a verdict.

A model can have a low mean error and yet show organs where there are none, miss what is there, or jump from slice to
slice. Each limit follows from what it means, and none was chosen on results:

* `projection_below_baseline`: a model that sees the anatomy should resemble the real projection more than a lookup
  table that sees one voxel.
* `fabricated_lesions`, `false_hot_volume`, `missed_lesions`: the limit is one to one. Beyond it, a hot spot shown is
  more likely false than true, or a real one more likely missed than shown.
* `rough_along_z`: the noise of a PET grows with the inverse square root of its counts, so twice the roughness is that
  of a PET with a quarter of the dose.

Means are over patients. A metric that was not measured, as in cards of earlier versions, gives no caveat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from lib.metrics.agreement import Interval
from lib.metrics.criteria import METHOD_LABELS

CaveatKey = Literal[
    "projection_below_baseline", "fabricated_lesions", "false_hot_volume", "missed_lesions", "rough_along_z"
]
MAX_ROUGHNESS_RATIO = 2.0
LESIONS = "connected voxels above SUV 2.5"
CAVEAT_METRICS = (
    "mip_correlation", "lesions_found_fixed", "lesions_missed_fixed", "lesions_fabricated_fixed", "hot_found_ml",
    "hot_false_ml", "roughness_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Caveat:
    """One caveat: its stable key, and a clause for a reader."""

    key: CaveatKey
    sentence: str

    def as_json(self) -> dict[str, str]:
        """Return plain values."""
        return asdict(self)


def find_caveats(intervals: Mapping[str, Mapping[str, Interval]]) -> tuple[Caveat, ...]:
    """Return the caveats of a model.

    Args:
        intervals: Means over patients by method (`model` and the baselines) and metric.
    """
    caveats = (
        _projection(intervals),
        _lesions(intervals, "fabricated_lesions", "fabricated", verb="fabricates"),
        _false_volume(intervals),
        _lesions(intervals, "missed_lesions", "missed", verb="misses"),
        _rough(intervals),
    )
    return tuple(caveat for caveat in caveats if caveat is not None)


def _projection(intervals: Mapping[str, Mapping[str, Interval]]) -> Caveat | None:
    """Return the caveat on the projections; a model without a correlation is behind a baseline that has one."""
    correlations = {name: _mean(intervals, name, "mip_correlation") for name in intervals if name != "model"}
    defined = {name: value for name, value in correlations.items() if math.isfinite(value)}
    model = _mean(intervals, "model", "mip_correlation")
    if not defined or model >= max(defined.values()):
        return None
    best = max(defined, key=lambda name: defined[name])
    value = f"{model:.3f}" if math.isfinite(model) else "undefined, as they are flat"
    return Caveat(
        "projection_below_baseline",
        f"its maximum intensity projections resemble the real ones less than those of {METHOD_LABELS[best]} "
        f"(correlation {value} against {defined[best]:.3f})",
    )


def _lesions(intervals: Mapping[str, Mapping[str, Interval]], key: CaveatKey, name: str, *, verb: str) -> Caveat | None:
    """Return the caveat on fabricated or missed lesions that outnumber those found."""
    wrong, found = (_mean(intervals, "model", f"lesions_{which}_fixed") for which in (name, "found"))
    if not wrong > found:
        return None
    counts = f"{wrong:.1f} against {found:.1f} per patient, {LESIONS}"
    return Caveat(key, f"it {verb} more lesions than it finds ({counts})")


def _false_volume(intervals: Mapping[str, Mapping[str, Interval]]) -> Caveat | None:
    false_ml, found_ml = (_mean(intervals, "model", f"hot_{name}_ml") for name in ("false", "found"))
    if not false_ml > found_ml:
        return None
    volumes = f"{false_ml:.0f} mL per patient false, {found_ml:.0f} mL true"
    return Caveat("false_hot_volume", f"most of the volume that it shows above SUV 2.5 is false ({volumes})")


def _rough(intervals: Mapping[str, Mapping[str, Interval]]) -> Caveat | None:
    ratio = _mean(intervals, "model", "roughness_ratio")
    if not ratio > MAX_ROUGHNESS_RATIO:
        return None
    return Caveat("rough_along_z", f"from slice to slice it is {ratio:.1f} times as rough as the real PET")


def _mean(intervals: Mapping[str, Mapping[str, Interval]], method: str, metric: str) -> float:
    interval = intervals.get(method, {}).get(metric)
    return math.nan if interval is None else interval.mean
