"""A deflated file that unpacks to more than memory holds is refused before pydicom opens it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from lib.dicom import deflated
from lib.dicom.read_header import read_header
from lib.errors import DicomError


def deflated_file(path: Path, content: bytes) -> Path:
    """Write a file whose meta information says that what follows is deflated."""
    uid = deflated.DEFLATED
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush()
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(syntax))
    path.write_bytes(bytes(128) + b"DICM" + length + syntax + packed)
    return path


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "MOST_UNPACKED_BYTES", 10**6)
    with pytest.raises(DicomError, match=r"1\.dcm: deflated, unpacks to over 1 MB; export it plain"):
        read_header(deflated_file(tmp_path / "1.dcm", bytes(2 * 10**6)))


def test_what_cannot_be_unpacked_is_damaged(tmp_path: Path) -> None:
    path = deflated_file(tmp_path / "1.dcm", b"x")
    path.write_bytes(path.read_bytes()[:-3] + b"\xff\xff\xff\xff")
    with pytest.raises(DicomError, match=r"1\.dcm: damaged"):
        read_header(path)


def test_a_small_one_is_read_on(tmp_path: Path) -> None:
    with pytest.raises(DicomError, match="without sop class"):  # it holds nothing, which pydicom finds
        read_header(deflated_file(tmp_path / "1.dcm", b""))
