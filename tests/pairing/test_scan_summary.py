"""The summary of a scan has a line for each series: its kind, whether it is usable, and what it is used for."""

from __future__ import annotations

from pathlib import Path

from lib.dicom.scan.scan import scan_folder
from lib.pairing.scan_summary import SeriesLine, series_lines
from tests.dicom.builders import CT, PET, write_series


def lines(root: Path) -> dict[str, SeriesLine]:
    return {line.series_instance_uid: line for line in series_lines(scan_folder(root))}


def test_a_pair_and_an_unpaired_series(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet", modality="PT")
    write_series(tmp_path / "lone", SeriesInstanceUID="5.5", StudyInstanceUID="5")
    write_series(tmp_path / "scout", SeriesInstanceUID="6.6", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "report", count=1, SeriesInstanceUID="7.7", Modality="SR")
    reported = lines(tmp_path)
    assert reported[CT].pairing == f"paired with PET {PET}"
    assert reported[PET].pairing == f"paired with CT {CT}"
    assert reported["5.5"].pairing == "not paired: no PET in the same study"
    assert (reported["6.6"].usable, reported["6.6"].pairing) == (False, None)
    assert (reported["7.7"].usable, reported["7.7"].pairing) == (False, None)


def test_what_a_line_holds(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", PatientWeight=None)
    line = lines(tmp_path)[PET]
    assert (line.patient_id, line.modality, line.study_date, line.description) == (
        "P1",
        "PT",
        "20200102",
        "made for a test",
    )
    assert (line.slices, line.rows, line.columns, line.spacing_mm) == (5, 6, 8, (3.0, 2.0, 1.5))
    assert line.suv == "Bq/mL only: PatientWeight is missing"
