"""Reading of DICOM files: duplicate elements, elements after the pixel data, and the limit of inflation."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from lib.dicom.read.header import read_header
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.pixels import read_slice
from lib.errors import DicomError
from tests.dicom.builders import instance, stored_pixels

DEFLATED = b"1.2.840.10008.1.2.1.99"


def written(dataset: FileDataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, write_like_original=False)
    return file.getvalue()


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long_element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value


def end_of_meta(file: bytes) -> int:
    return 144 + struct.unpack_from("<I", file, 140)[0]


def pixels_start(file: bytes) -> int:
    return file.rindex(b"\xe0\x7f\x10\x00O")


INTERCEPT = element(0x00281052, b"DS", b"-7024 ")
FILE = written(instance(0))
META = {
    "as usual": element(0x00020010, b"UI", DEFLATED),
    "behind 4 kB of a private element": (
        long_element(0x00020102, b"OB", bytes(4096)) + element(0x00020010, b"UI", DEFLATED)
    ),
    "with a long representation": long_element(0x00020010, b"UN", DEFLATED),
}


def deflated_file(meta: str, content: bytes, *, group_length: bool = True) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    length = element(0x00020000, b"UL", struct.pack("<I", len(META[meta]))) if group_length else b""
    return bytes(128) + b"DICM" + length + META[meta] + packer.compress(content) + packer.flush()


@pytest.mark.parametrize("group_length", [True, False])
@pytest.mark.parametrize("meta", META)
def test_deflated_slice_is_read_for_any_order_of_meta_elements(tmp_path: Path, meta: str, group_length: bool) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(deflated_file(meta, FILE[end_of_meta(FILE) :], group_length=group_length))
    assert read_header(path).shared.rows == 6
    np.testing.assert_array_equal(read_slice(path).values, stored_pixels(0) - 1000.0)


@pytest.mark.parametrize("meta", ["as usual", "behind 4 kB of a private element"])
def test_zip_bomb_is_refused_early(tmp_path: Path, meta: str) -> None:
    bomb = FILE[end_of_meta(FILE) : pixels_start(FILE)] + long_element(0x7FE00010, b"OW", bytes(400 * 10**6))
    path = tmp_path / "1.dcm"
    path.write_bytes(deflated_file(meta, bomb, group_length=False))
    program = f"""
from pathlib import Path
from lib.dicom.read.header import read_header
from lib.dicom.read.pixels import read_slice
from lib.errors import DicomError
from tests.process_memory import peak_kib
before = peak_kib()
for read in (read_header, read_slice):
    try:
        read(Path({str(path)!r}))
    except DicomError as error:
        print(error)
print(peak_kib() - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *lines, kib = run.stdout.splitlines()
    assert all("1.dcm: deflated, inflates to over" in message for message in lines)
    assert len(lines) == 2 and int(kib) < 200 * 1024  # it would unpack to 400 MB


def test_truncated_deflated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(deflated_file("as usual", FILE[end_of_meta(FILE) :])[:-40])
    with pytest.raises(DicomError, match=r"1\.dcm: damaged, its deflated data"):
        read_header(path)


def before(tag: bytes, more: bytes) -> bytes:
    at = FILE.rindex(tag)
    return FILE[:at] + more + FILE[at:]


SLOPE = b"\x28\x00\x53\x10DS"
ROWS = b"\x28\x00\x10\x00US"
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ENDS = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
DOSE = element(0x00181074, b"DS", b"4e8 ") + element(0x00181074, b"DS", b"1e8 ")
REPEATED: dict[str, tuple[bytes, str]] = {
    "intercept": (before(SLOPE, INTERCEPT), "RescaleIntercept occurs twice in the header"),
    "rows": (before(ROWS, element(0x00280010, b"US", b"\1\0")), "Rows occurs twice in the header"),
    "bits": (before(SLOPE, element(0x00280101, b"US", b"\x08\0")), "BitsStored occurs twice in the header"),
    "sign, out of order": (
        before(ROWS, element(0x00280103, b"US", b"\0\0")),
        "PixelRepresentation occurs twice in the header",
    ),
    "a private element": (
        before(ROWS, element(0x00290010, b"LO", b"A ") * 2),
        r"\(0029,0010\) occurs twice in the header",
    ),
    "after the pixel data": (FILE + INTERCEPT, "RescaleIntercept follows the pixel data"),
    "the pixels": (
        FILE + long_element(0x7FE00010, b"OW", stored_pixels(1).tobytes()),
        "PixelData follows the pixel data",
    ),
    "in the file meta information": (
        FILE[:132] + element(0x00020010, b"UI", b"1.2.840.10008.1.2\0") + FILE[132:],
        r"\(0002,0010\) occurs twice in the file meta information",
    ),
    "in a sequence": (
        before(ROWS, struct.pack("<HH2sHI", 0x54, 0x16, b"SQ", 0, 0xFFFFFFFF) + ITEM + DOSE + ENDS),
        "RadionuclideTotalDose occurs twice in the header",
    ),
    "in a sequence of known length": (
        before(ROWS, long_element(0x00540016, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(DOSE)) + DOSE)),
        "RadionuclideTotalDose occurs twice in the header",
    ),
    "in an item of an item": (
        before(
            ROWS,
            long_element(
                0x52009229,
                b"SQ",
                ITEM
                + struct.pack("<HH2sHI", 0x28, 0x9145, b"SQ", 0, 0xFFFFFFFF)
                + ITEM
                + INTERCEPT * 2
                + ENDS
                + ENDS[:8],
            ),
        ),
        "RescaleIntercept occurs twice in the header",
    ),
}


@pytest.mark.parametrize("what", REPEATED)
def test_duplicate_elements_are_refused(tmp_path: Path, what: str) -> None:
    file, message = REPEATED[what]
    path = tmp_path / "1.dcm"
    path.write_bytes(file)
    with pytest.raises(DicomError, match=rf"1\.dcm: {message}"):
        read_slice(path)
    if "follows" not in message:
        with pytest.raises(DicomError, match=rf"1\.dcm: {message}"):
            read_header(path)


HARMLESS: dict[str, bytes] = {
    "as it is": FILE,
    "zeros after the pixel data": FILE + bytes(512),
    "trailing padding": FILE + long_element(0xFFFCFFFC, b"OB", bytes(64)),
    "a wrong group length": FILE[:140] + struct.pack("<I", 2) + FILE[144:],
    "out of order": before(ROWS, element(0x00290010, b"LO", b"A ")),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_unambiguous_files_are_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(HARMLESS[what])
    np.testing.assert_array_equal(read_slice(path).values, stored_pixels(0) - 1000.0)
    assert read_instance_file(path).Rows == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.replace(b"\x28\x00\x52\x10DS", b"\x28\x00\x52\x10US"),  # a number's representation for text
        lambda file: file.replace(b"\x28\x00\x52\x10DS", b"\x28\x00\x52\x10LO"),
    ],
)
def test_other_value_representation_gives_the_same_value_or_none(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(change(FILE))
    np.testing.assert_array_equal(read_slice(path).values, stored_pixels(0) - 1000.0)
