"""Prediction intervals of regions that were measured in a synthetic PET."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.json_fields import as_float, as_int, as_mapping, as_str, parse_json, require


@dataclass(frozen=True)
class MeasuredRegion:
    """Uptake of a region: volume [mL], mean and maximum [SUVbw], and whether it is a tumour."""

    volume_ml: float
    suv_mean: float
    suv_max: float
    is_lesion: bool = False


@dataclass(frozen=True)
class Interval:
    """An interval [SUVbw]; `low` and `high` are None where there is none, and `sentence` says why.

    Attributes:
        level: Probability that it holds the real value.
        patients: Number of patients that it was calibrated on.
    """

    low: float | None
    high: float | None
    level: float
    patients: int
    sentence: str


@dataclass(frozen=True)
class RegionIntervals:
    """The intervals of a region's mean and maximum."""

    mean: Interval
    max: Interval


def intervals_body(regions: Sequence[MeasuredRegion], version: int | None) -> dict[str, Any]:
    """Return the body of the request."""
    sent = [
        {
            "volume_ml": region.volume_ml,
            "suv_mean": max(region.suv_mean, 0.0),
            "suv_max": max(region.suv_max, 0.0),
            "kind": "lesion" if region.is_lesion else "region",
        }
        for region in regions
    ]
    return {"regions": sent, "version": version}


def read_intervals(content: bytes) -> tuple[RegionIntervals, ...]:
    """Return the intervals of a response, in the order of the request."""
    entries = [as_mapping(as_mapping(entry).get("interval")) for entry in require(parse_json(content), "regions")]
    return tuple(RegionIntervals(_interval(entry.get("mean")), _interval(entry.get("max"))) for entry in entries)


def _interval(value: Any) -> Interval:
    data = as_mapping(value)
    return Interval(
        low=as_float(data.get("low")),
        high=as_float(data.get("high")),
        level=as_float(data.get("level")) or 0.0,
        patients=as_int(data.get("patients")),
        sentence=as_str(data.get("sentence")),
    )
