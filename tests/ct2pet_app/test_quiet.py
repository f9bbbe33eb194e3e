"""What a log may hold: one line a record, and no name that a hospital gave a file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ct2pet_app.datastore.listing import StudiesFolder, names_in
from ct2pet_app.server.log_redaction import Discreet, without_names
from lib.dicom.scan import scan_folder

NAMES = ("/studies/DOE_JANE/CT", "DOE_JANE_0001.dcm", "DOE_JANE")


def said(words: str, *arguments: object, logger: str = "ct2pet_app.x") -> str:
    record = logging.LogRecord(logger, logging.WARNING, "x.py", 1, words, arguments, None)
    assert Discreet(lambda: NAMES).filter(record)
    return record.getMessage()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("CT 1.2.3: DOE_JANE_0001.dcm: truncated", "CT 1.2.3: a file: truncated"),
        ("/studies/DOE_JANE/CT/DOE_JANE_0001.dcm is gone", "a file/a file is gone"),
        ("model unet: 49 slices in 2 s", "model unet: 49 slices in 2 s"),
        ("DOE_JANETTE is another word", "DOE_JANETTE is another word"),
    ],
)
def test_names_of_files_are_taken_out(words: str, expected: str) -> None:
    assert without_names(words, NAMES) == expected
    assert said("%s", words) == expected


def test_a_record_is_one_line() -> None:
    assert said("id %r\n[INFO] forged \x1b[2J", "x") == "id 'x'\\n[INFO] forged \\x1b[2J"


def test_of_a_library_s_warning_its_place_is_kept() -> None:
    words = "/lib/pydicom/valuerep.py:290: UserWarning: Invalid value for VR UI: 'Doe'\n  warnings.warn(msg)"
    assert said(words, logger="py.warnings") == "UserWarning at valuerep.py:290"


def test_the_names_are_those_of_the_studies(phantoms: Path, tmp_path: Path) -> None:
    studies = StudiesFolder(phantoms, index=tmp_path / "index.sqlite")
    assert studies.names_on_disk() == ()
    studies.listing()
    names = studies.names_on_disk()
    assert names == names_in(scan_folder(phantoms))
    assert str(phantoms / "PHANTOM_0001" / "CT") in names
    assert len(names[0]) >= len(names[-1])
