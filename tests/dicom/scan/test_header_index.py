"""The index avoids opening files, never changes the result of a scan, and tolerates damage."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.dicom.scan import scan
from lib.dicom.scan.header_index import HeaderIndex, default_index
from lib.dicom.scan.scan import ScanReport, scan_folder
from tests.dicom.builders import write_series

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    root = tmp_path / "studies"
    write_series(root / "ct")
    write_series(root / "pet", modality="PT")
    (root / "notes.txt").write_text("not DICOM, but indexed too")
    return root


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files opened from now on."""
    names: list[str] = []
    read_header = scan.read_header

    def spy(path: Path | str) -> object:
        names.append(Path(path).name)
        return read_header(path)

    monkeypatch.setattr(scan, "read_header", spy)
    return names


def found(report: ScanReport) -> list[object]:
    """Return the content of a report as comparable values."""
    return [
        *[(s.series, s.positions_mm, s.reason, s.warnings, s.suv, s.matrix, s.spacing_mm) for s in report.series],
        *report.skipped,
    ]


def test_a_second_scan_opens_no_file_and_finds_the_same(tmp_path: Path, studies: Path, opened: list[str]) -> None:
    first = scan_folder(studies, index=HeaderIndex(tmp_path / "index"))
    assert len(opened) == 11
    opened.clear()
    second = scan_folder(studies, index=HeaderIndex(tmp_path / "index"))
    assert opened == []
    assert found(second) == found(first) == found(scan_folder(studies))


def test_only_a_changed_file_is_read_again(tmp_path: Path, studies: Path, opened: list[str]) -> None:
    index = HeaderIndex(tmp_path / "index")
    scan_folder(studies, index=index)
    opened.clear()
    write_series(studies / "ct", count=1, SeriesDescription="changed")
    scan_folder(studies, index=index)
    assert opened == ["000.dcm"]


def test_removed_files_are_forgotten(tmp_path: Path, studies: Path) -> None:
    index = HeaderIndex(tmp_path / "index")
    scan_folder(studies, index=index)
    (studies / "ct" / "004.dcm").unlink()
    for path in (studies / "pet").iterdir():
        path.unlink()
    (studies / "pet").rmdir()
    report = scan_folder(studies, index=index)
    assert [len(series.series.files) for series in report.series] == [4]
    rows = sqlite3.connect(tmp_path / "index").execute("SELECT count(*) FROM file").fetchone()
    assert rows == (5,)  # 4 slices and the notes


def test_another_root_is_left_alone(tmp_path: Path, studies: Path) -> None:
    index = HeaderIndex(tmp_path / "index")
    scan_folder(studies / "ct", index=index)
    scan_folder(studies / "pet", index=index)
    assert len(index.known(os.path.realpath(studies / "ct"))) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is not a database, and never was one" * 40),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\x07" * 20_000),
    ],
)
def test_damaged_index_is_rebuilt(
    tmp_path: Path, studies: Path, caplog: pytest.LogCaptureFixture, damage: object, opened: list[str]
) -> None:
    path = tmp_path / "index"
    full = scan_folder(studies, index=HeaderIndex(path))
    assert callable(damage)
    damage(path)
    with caplog.at_level(logging.WARNING, logger="lib.sqlite_cache"):
        assert found(scan_folder(studies, index=HeaderIndex(path))) == found(full)
    assert "damaged" in caplog.text and "rebuilt" in caplog.text
    scan_folder(studies, index=HeaderIndex(path))  # may still read what the damage had cost
    opened.clear()
    scan_folder(studies, index=HeaderIndex(path))
    assert opened == []


def test_index_of_another_version_is_rebuilt(tmp_path: Path, studies: Path, opened: list[str]) -> None:
    path = tmp_path / "index"
    scan_folder(studies, index=HeaderIndex(path))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    opened.clear()
    scan_folder(studies, index=HeaderIndex(path))
    assert len(opened) == 11


def test_unwritable_index_is_not_used(tmp_path: Path, studies: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    report = scan_folder(studies, index=HeaderIndex(tmp_path / "file" / "index"))
    assert len(report.series) == 2
    assert caplog.text.count("headers are read again") == 1


def test_locked_index_is_not_used(
    tmp_path: Path, studies: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lib.sqlite_cache.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "index"
    scan_folder(studies / "ct", index=HeaderIndex(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert len(scan_folder(studies, index=HeaderIndex(path)).series) == 2
    assert "locked" in caplog.text
    other.close()
    assert path.exists()


def test_an_unreadable_file_is_tried_again(tmp_path: Path, studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path | str) -> object:
        raise PermissionError(13, "Permission denied")

    index = HeaderIndex(tmp_path / "index")
    with monkeypatch.context() as patch:
        patch.setattr(scan, "read_header", closed)
        report = scan_folder(studies, index=index)
        assert report.skipped[0].reason.endswith("cannot be opened (Permission denied)")
    assert len(scan_folder(studies, index=index).series) == 2


def test_non_unicode_file_name_is_read_each_time(tmp_path: Path, studies: Path) -> None:
    odd = os.fsencode(studies / "ct") + b"/caf\xe9.dcm"
    Path(os.fsdecode(odd)).write_bytes((studies / "ct" / "000.dcm").read_bytes())
    index = HeaderIndex(tmp_path / "index")
    for _ in range(2):
        report = scan_folder(studies, index=index)
        assert "1 duplicate file(s)" in report.series[0].warnings[0]


SCAN_FOREVER = """
import sys
from pathlib import Path
from lib.dicom.scan.header_index import HeaderIndex
from lib.dicom.scan.scan import scan_folder
while True:
    report = scan_folder(Path(sys.argv[1]), index=HeaderIndex(Path(sys.argv[2])))
    assert len(report.series) == 2, report
    if sys.argv[3] == "once":
        break
    import os
    for path in Path(sys.argv[1]).rglob("*.dcm"):
        os.utime(path)
"""


def test_killed_scan_leaves_a_valid_index(tmp_path: Path, studies: Path) -> None:
    path = tmp_path / "index"
    for delay_s in (0.35, 0.5, 0.65):
        process = subprocess.Popen([sys.executable, "-c", SCAN_FOREVER, studies, path, "forever"], cwd=REPOSITORY)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        report = scan_folder(studies, index=HeaderIndex(path))
        assert found(report) == found(scan_folder(studies))
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_share_an_index(tmp_path: Path, studies: Path) -> None:
    arguments = [sys.executable, "-c", SCAN_FOREVER, studies, tmp_path / "index", "once"]
    processes = [subprocess.Popen(arguments, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert outcomes == [("", 0)] * 3
    assert len(HeaderIndex(tmp_path / "index").known(os.path.realpath(studies / "ct"))) == 5


def test_default_index_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.delenv("CT2PET_CACHE", raising=False)
    assert default_index().path == Path("/x/ct2pet/headers.sqlite")
    monkeypatch.setenv("CT2PET_CACHE", "/y")
    assert default_index().path == Path("/y/headers.sqlite")


def test_reason_is_stored_unchanged(tmp_path: Path, studies: Path) -> None:
    index = HeaderIndex(tmp_path / "index")
    reasons = [scan_folder(studies, index=index).skipped[0].reason for _ in range(2)]
    assert reasons == ["notes.txt: not a DICOM file"] * 2
