"""`pair`: list the CT/PET pairs in a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lib.cli.console import add_row, new_table, print_json, print_line, progress_bar, stderr, stdout
from lib.cli.options import AsJson, Register, Studies
from lib.cli.studies import find_pairs, scan_studies

if TYPE_CHECKING:
    from lib.pairing.pairs import PairedSeries, PairRecord
    from lib.pairing.quality_checks.plausibility import PairCheck


def pair(
    studies: Studies,
    tolerance_mm: Annotated[
        float, typer.Option(help="Maximum distance between a CT slice and its PET slice, in mm.", min=0.0)
    ] = 0.2,
    ct: Annotated[list[str] | None, typer.Option(help="SeriesInstanceUID of a preferred CT. May be repeated.")] = None,
    register: Register = False,
    shift: Annotated[
        bool, typer.Option("--shift/--no-shift", help="Measure the misalignment of each PET; reads pixels once.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """List the CT/PET pairs in a folder with the number of matching slices, and why other series are not paired.

    The JSON is a list with one object per pair. `max_offset_mm` is the largest distance from a PET slice to its nearest
    CT slice. `study_instance_uid` is the PET's; `ct_study_instance_uid` differs if the PET's study has no usable CT.
    Registered pairs (`registered`) have `translation_mm`, `rotation_deg` and `registration_quality`.

    `shift_mm` is the offset of the PET's body outline from the CT's (x to the left, y to the back, z to the head; null
    if it cannot be measured to within 2 mm, with the reason in `shift_note`), `shift_sd_mm` its standard deviation,
    and `diaphragm_shift_mm` the offset of the diaphragm along z. They are measured once and cached.
    """
    from lib.pairing.pairs import pair_record

    pairing = find_pairs(scan_studies(studies), register=register, preferred_ct=ct or ())
    records = [pair_record(paired, tolerance_mm=tolerance_mm) for paired in pairing.pairs]
    checks = _check_pairs(pairing.pairs) if shift else ()
    if as_json:
        shifts = [check.shift.as_json() for check in checks] or [{} for _ in records]
        print_json([{**dataclasses.asdict(record), **of} for record, of in zip(records, shifts, strict=True)])
    else:
        _print_table(records, pairing.pairs, checks)
    console = stderr if as_json else stdout
    for record, check in zip(records, checks, strict=False):
        for reason in check.reasons:
            print_line(f"implausible: {record.patient_id}: {reason}", console)
    for series in pairing.unpaired:
        print_line(f"not paired: {series.patient_id} {series.modality} {series.series_uid}: {series.reason}", console)
    if pairing.unpaired and not register:
        print_line("--register also pairs a PET with a CT of another frame of reference, if they fit", console)
    total = sum(record.slice_pairs for record in records)
    print_line(f"{len(records)} pairs, {total} slice pairs within {tolerance_mm:g} mm", console)


def _check_pairs(pairs: Sequence[PairedSeries]) -> tuple[PairCheck, ...]:
    from lib.dicom.scan.header_index import cache_folder
    from lib.pairing.quality_checks.cached_checks import MEMORY_FILE, check_pairs
    from lib.pairing.quality_checks.check_cache import CheckCache

    with progress_bar() as progress:
        return check_pairs(pairs, CheckCache(cache_folder() / MEMORY_FILE), progress=progress)


def _print_table(records: Sequence[PairRecord], pairs: Sequence[PairedSeries], checks: Sequence[PairCheck]) -> None:
    table = new_table(
        "patient", "CT", "PET", ">slices CT/PET", ">slice pairs", ">max offset mm", "shift mm", "reason for pairing"
    )
    shifts = [check.shift.in_words() for check in checks] or ["" for _ in records]
    for record, paired, shift in zip(records, pairs, shifts, strict=True):
        uids = (record.ct_series_instance_uid, record.pet_series_instance_uid)
        slices = (f"{record.ct_slices}/{record.pet_slices}", str(record.slice_pairs), f"{record.max_offset_mm:.2f}")
        add_row(table, record.patient_id, *uids, *slices, shift, paired.reason)
    stdout.print(table)
