"""Promised against reached coverage of a model's intervals, on patients that the model has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lib.errors import CheckpointError
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.learning.model_card.card import ModelCard
from lib.metrics.agreement import group_by_patient
from lib.metrics.conformal.band import LEVELS, Numbers, Observed, PerLevel, coverage_over_patients, covered_shares
from lib.metrics.conformal.intervals import DEFAULT_LEVEL, WITHOUT, IntervalSample, bands_with_names, observe
from lib.metrics.uptake import HOT_SUV
from lib.synthesis.uncertainty import card_intervals

HOT_VOXELS = f"SUV of a voxel, where the real one is above {HOT_SUV:g}"
Shares = Mapping[str, Numbers]  # by name of a band: share of one volume's observations in the interval, by level


@dataclass(frozen=True)
class CoverageRow:
    """Coverage of one band over patients, by level of `LEVELS`; None where there is no interval.

    Attributes:
        name: What the intervals are for.
        patients: Number of patients with such observations.
        reached: Share of the observations in the interval, mean over patients.
        below: Share of patients of whose observations fewer than promised are in the interval.
    """

    name: str
    patients: int
    reached: PerLevel
    below: PerLevel


def interval_shares(volumes: AlignedVolumes, card: ModelCard, patient: str) -> Shares | None:
    """Return the share of one volume's observations in the intervals of a model card; None without intervals.

    Args:
        volumes: Of one pair.
        card: Of the model.
        patient: Decides which voxels and regions are sampled.
    """
    try:
        intervals = card_intervals(card)
    except CheckpointError:  # the other metrics do not need them; the report states that there are none
        return None
    if intervals is None:
        return None
    tumour = np.zeros(volumes.body.shape, np.bool_) if volumes.tumour is None else volumes.tumour
    observed = observe(
        IntervalSample(
            patient, volumes.synthetic_suv, volumes.real_suv, volumes.body, volumes.measured, tumour,
            volumes.geometry.spacing_mm,
        )
    )  # fmt: skip
    shares: dict[str, Numbers] = {}
    for name, kind, size, band in bands_with_names(intervals):
        found = observed.get((kind, size))
        if found is None:
            continue
        shares[name] = covered_shares(band, found)
        hot = found.real_suv > HOT_SUV
        if kind == "voxel" and hot.any():
            shares[HOT_VOXELS] = covered_shares(band, Observed(found.synthetic_suv[hot], found.real_suv[hot]))
    return shares


def interval_coverage(pairs: Sequence[tuple[str, Shares | None]]) -> tuple[CoverageRow, ...]:
    """Return the coverage over patients of (patient, shares) pairs; empty without any.

    Pairs of one patient count as their mean.
    """
    patients = group_by_patient((patient, shares) for patient, shares in pairs if shares is not None)
    names = dict.fromkeys(name for volumes in patients.values() for shares in volumes for name in shares)
    rows = []
    for name in names:
        own = [[shares[name] for shares in volumes if name in shares] for volumes in patients.values()]
        means = [np.mean(shares, axis=0) for shares in own if shares]
        rows.append(CoverageRow(name, len(means), *coverage_over_patients(means)))
    return tuple(rows)


def coverage_as_json(rows: Sequence[CoverageRow]) -> dict[str, Any] | None:
    """Return plain values; None without rows."""
    return {"levels": list(LEVELS), "rows": [asdict(row) for row in rows]} if rows else None


def coverage_cells(rows: Sequence[CoverageRow]) -> list[list[str]]:
    """Return the rows of a table: name, patients, reached coverage by level, and patients below at the usual level."""
    usual = LEVELS.index(DEFAULT_LEVEL)
    return [[row.name, str(row.patients), *map(_percent, row.reached), _percent(row.below[usual])] for row in rows]


def coverage_sentence(rows: Sequence[CoverageRow], card: ModelCard) -> str:
    """Return what the table of coverage shows, as text."""
    if not rows:
        return WITHOUT
    calibrated = card.intervals["patients"] if card.intervals else 0
    return (
        f"The model's intervals were calibrated on {calibrated} patients. A promise of 90 % is kept where, averaged "
        "over patients, the interval holds the real value in 85 to 95 % of the cases; a dash means that the "
        "calibration had too few patients. No promise is made for voxels chosen by their real uptake: of those above "
        f"{HOT_SUV:g} SUV usually fewer are in the interval."
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
