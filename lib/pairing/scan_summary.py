"""Summary of a scan: each series, whether it is usable, and what it is paired with."""

from __future__ import annotations

from dataclasses import dataclass

from lib.dicom.scan.scan import ScannedSeries, ScanReport
from lib.pairing.pairs import pair_series
from lib.types import ListedSeries


@dataclass(frozen=True)
class SeriesLine(ListedSeries):
    """One line of `scan` and of `scan --json`.

    Attributes:
        slices: Number of slices, or of files if unusable.
        spacing_mm: Between (slices, rows, columns); None if unusable.
        reason: Why it is unusable; None if usable.
        suv: How the SUV of a PET is computed.
        pairing: What a usable CT or PET is paired with, or why it is not paired; None for other series.
    """

    slices: int
    rows: int | None
    columns: int | None
    spacing_mm: tuple[float, float, float] | None
    usable: bool
    reason: str | None
    warnings: tuple[str, ...]
    suv: str | None
    pairing: str | None


def series_lines(report: ScanReport) -> tuple[SeriesLine, ...]:
    """Return one line per series, in the order of the scan."""
    pairing = pair_series(report)
    notes = {id(paired.ct): f"paired with PET {paired.pair.pet.uid}" for paired in pairing.pairs}
    notes |= {id(paired.pet): f"paired with CT {paired.pair.ct.uid}" for paired in pairing.pairs}
    unpaired = iter(pairing.unpaired)  # in the order of the scan, like the loop below
    lines = []
    for found in report.series:
        note = notes.get(id(found))
        if note is None and found.series.modality in ("CT", "PT"):
            note = f"not paired: {next(unpaired).reason}"
        lines.append(_line(found, note if found.is_usable else None))
    return tuple(lines)


def _line(found: ScannedSeries, pairing: str | None) -> SeriesLine:
    rows, columns = found.matrix or (None, None)
    return SeriesLine(
        patient_id=found.series.patient_id,
        study_instance_uid=found.series.study_uid,
        study_date=found.study_date,
        series_instance_uid=found.series.uid,
        modality=found.series.modality,
        description=found.series.description,
        slices=found.series.slice_count,
        rows=rows,
        columns=columns,
        spacing_mm=found.spacing_mm,
        usable=found.is_usable,
        reason=found.reason,
        warnings=found.warnings,
        suv=found.suv,
        pairing=pairing,
    )
