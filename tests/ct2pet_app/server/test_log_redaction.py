"""What a log may hold: one line a record, and no name that a hospital gave a file."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path

import pytest

from ct2pet_app.datastore.study_index import StudiesFolder, names_in
from ct2pet_app.server.log_redaction import (
    RedactedStream,
    RedactingFilter,
    _print_uncaught,
    uploads_in_progress,
    without_names,
)
from lib.dicom.scan.scan import scan_folder

NAMES = ("/studies/DOE_JANE/CT", "DOE_JANE_0001.dcm", "DOE_JANE")


def said(text: str, *arguments: object, logger: str = "ct2pet_app.x") -> str:
    record = logging.LogRecord(logger, logging.WARNING, "x.py", 1, text, arguments, None)
    assert RedactingFilter(lambda: NAMES).filter(record)
    return record.getMessage()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CT 1.2.3: DOE_JANE_0001.dcm: truncated", "CT 1.2.3: a file: truncated"),
        ("/studies/DOE_JANE/CT/DOE_JANE_0001.dcm is gone", "a file/a file is gone"),
        ("model unet: 49 slices in 2 s", "model unet: 49 slices in 2 s"),
        ("DOE_JANETTE is another name", "DOE_JANETTE is another name"),
    ],
)
def test_names_of_files_are_taken_out(text: str, expected: str) -> None:
    assert without_names(text, NAMES) == expected
    assert said("%s", text) == expected


def test_a_record_is_one_line() -> None:
    assert said("id %r\n[INFO] forged \x1b[2J", "x") == "id 'x'\\n[INFO] forged \\x1b[2J"


def test_of_a_library_s_warning_its_place_is_kept() -> None:
    text = "/lib/pydicom/valuerep.py:290: UserWarning: Invalid value for VR UI: 'Doe'\n  warnings.warn(msg)"
    assert said(text, logger="py.warnings") == "UserWarning at valuerep.py:290"


def test_the_names_are_those_of_the_studies(phantoms: Path, tmp_path: Path) -> None:
    studies = StudiesFolder(phantoms, index=tmp_path / "index.sqlite")
    assert studies.names_on_disk() == ()
    studies.listing()
    names = studies.names_on_disk()
    assert names == names_in(scan_folder(phantoms))
    assert str(phantoms / "PHANTOM_0001" / "CT") in names
    assert len(names[0]) >= len(names[-1])


def formatted(record: logging.LogRecord) -> str:
    """What any handler would write of a record."""
    assert RedactingFilter(lambda: NAMES).filter(record)
    return logging.Formatter("%(message)s").format(record)


def test_an_exception_in_a_record_leaves_its_kind_and_lines_only() -> None:
    try:
        raise ValueError("DOE_JANE_0001.dcm: /uploads/Doe^Jane.dcm is odd")
    except ValueError:
        record = logging.LogRecord("monailabel.x", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info(), "f", "stack")
    record.exc_text = "already formatted: Doe^Jane"
    assert re.fullmatch(r"failed: ValueError at test_log_redaction\.py:\d+", formatted(record))


def test_what_asyncio_says_of_a_task_leaves_its_exceptions_message_out() -> None:
    text = "Task exception was never retrieved\nfuture: <Task finished exception=ValueError('Doe^Jane')>"
    assert said(text, logger="asyncio") == "Task exception was never retrieved"


def test_a_record_with_wrong_arguments_is_named_by_its_place() -> None:
    record = logging.LogRecord("library", logging.ERROR, "/lib/x.py", 7, "%d files", ("Doe^Jane",), None)
    assert formatted(record) == "a record of library that cannot be formatted, at x.py:7"


@pytest.mark.parametrize(
    "name", ["Doe^Jane.nii.gz", "../Doe^Jane.nii.gz", "C:\\scans\\Doe^Jane.nii.gz", "Doe^Jané.zip"]
)
@pytest.mark.parametrize("text", ["reading {}", "{!r}: no such file", "Doe^Jané and Doe^Jane are patients", "{}"])
def test_names_of_uploads_stay_out_until_the_request_is_done(name: str, text: str) -> None:
    with uploads_in_progress() as names:
        names.append(name)
        stem = name.replace("\\", "/").rpartition("/")[2].partition(".")[0]
        assert stem not in said(text.format(name))
    assert said("Doe^Jane") == "Doe^Jane"


def test_short_names_are_not_redacted() -> None:
    with uploads_in_progress() as names:
        names.extend(["a", "CT", "img", ""])
        assert said("CT a img was read") == "CT a img was read"


def test_what_libraries_print_holds_no_names() -> None:
    printed = io.StringIO()
    stream = RedactedStream(printed, lambda: NAMES)
    with uploads_in_progress() as names:
        names.append("Doe^Jane.nrrd")
        print("WARNING: DOE_JANE_0001.dcm, Doe^Jane.nrrd", file=stream, flush=True)
    assert printed.getvalue() == "WARNING: a file, a file\n"


def test_an_uncaught_error_is_printed_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("Doe^Jane")
    except ValueError as error:
        _print_uncaught(ValueError, error, error.__traceback__)
    assert re.fullmatch(r"uncaught ValueError at test_log_redaction\.py:\d+\n", capsys.readouterr().err)
