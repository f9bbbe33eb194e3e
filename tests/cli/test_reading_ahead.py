"""A CT is read by another process while torch is imported; whatever happens to that process, it is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lib.cli.reading_ahead import reading_ahead
from lib.errors import CT2PETError
from lib.types import no_progress

pytestmark = pytest.mark.usefixtures("own_cache")

PROGRAM = """
import mmap, os, sys
from pathlib import Path
import numpy as np
from lib.cli import reading_ahead
from lib.dicom.scan.open_ct import find_ct, read_ct_series

BEFORE
reports = []
with reading_ahead.reading_ahead(Path(sys.argv[1]), None) as read:
    volume, series = read(lambda *report: reports.append(report))
expected_series = find_ct(Path(sys.argv[1]))
expected = read_ct_series(expected_series)
assert (series, volume.unit) == (expected_series, expected.unit)
np.testing.assert_array_equal(volume.array, expected.array)
np.testing.assert_array_equal(volume.geometry.affine, expected.geometry.affine)
assert reports[-1] == (len(expected.array), len(expected.array), "reading"), reports
base = volume.array
while isinstance(base, np.ndarray):
    base = base.base
is_shared = isinstance(base, mmap.mmap) or isinstance(getattr(base, "obj", None), mmap.mmap)
print("by the other process" if is_shared else "by this process")
"""


def read_in_new_process(ct: Path, *, before: str = "") -> str:
    program = PROGRAM.replace("BEFORE", before)
    done = subprocess.run(
        [sys.executable, "-c", program, str(ct)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_the_other_process_reads_the_same(studies: Path) -> None:
    assert read_in_new_process(studies / "PHANTOM_0002" / "CT") == "by the other process"


@pytest.mark.parametrize(
    "before",
    [
        "reading_ahead._send = lambda *_: os._exit(1)",
        "reading_ahead.end_with_parent = lambda _: os.kill(os.getpid(), 9)",
        "sys.modules['torch'] = sys",
        "os.__dict__.pop('memfd_create', None)",
    ],
    ids=["the other process fails", "it is killed", "torch is imported", "another system"],
)
def test_otherwise_this_process_reads(studies: Path, before: str) -> None:
    assert read_in_new_process(studies / "PHANTOM_0002" / "CT", before=before) == "by this process"


def test_an_error_is_that_of_the_folder(tmp_path: Path) -> None:
    with reading_ahead(tmp_path, None) as read, pytest.raises(CT2PETError, match="no DICOM"):
        read(no_progress)


def test_an_error_in_the_other_process_is_raised_by_this_one(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom lib.cli.reading_ahead import reading_ahead\n"
        "with reading_ahead(Path(sys.argv[1]), None) as read:\n    read(print)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1, done.stderr
    assert "no DICOM" in done.stderr
