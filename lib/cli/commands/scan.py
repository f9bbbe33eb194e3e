"""`scan`: list the series in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib.cli.console import add_row, new_table, print_json, print_line, stdout
from lib.cli.options import AsJson, Studies
from lib.cli.studies import scan_studies

if TYPE_CHECKING:
    from lib.pairing.scan_summary import SeriesLine


def scan(studies: Studies, as_json: AsJson = False) -> None:
    """List the series in a folder, and why a series cannot be used.

    Reads headers only and caches them: a second scan of an unchanged folder opens no file.

    The JSON is `{root, series: [...], skipped: [{path, reason}]}`.
    """
    from lib.pairing.scan_summary import series_lines

    report = scan_studies(studies)
    lines = series_lines(report)
    if as_json:
        print_json({"root": str(report.root), "series": lines, "skipped": report.skipped})
        return
    table = new_table("patient", "series", "modality", ">slices", ">size", ">spacing mm", "usable")
    for line in lines:
        add_row(table, *_cells(line))
    stdout.print(table)
    for skipped in report.skipped:
        print_line(f"skipped {skipped.path}: {skipped.reason}")
    usable = sum(line.usable for line in lines)
    print_line(
        f"{len(lines)} series in {len(report.studies)} studies, {usable} usable; {len(report.skipped)} other files"
    )


def _cells(line: SeriesLine) -> tuple[str, ...]:
    series = f"{line.description}\n{line.series_instance_uid}".strip()
    size = f"{line.rows} x {line.columns}" if line.rows else ""
    spacing = " x ".join(f"{mm:.2f}" for mm in line.spacing_mm or ())
    usable = (line.suv or "yes") if line.usable else f"no: {line.reason}"
    notes = "\n".join(note for note in (usable, line.pairing, *line.warnings) if note)
    return line.patient_id, series, line.modality, str(line.slices), size, spacing, notes
