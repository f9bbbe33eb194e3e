"""Volume files that name another file, or announce what no file holds: refused before a reader believes them."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import ImageFileError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit

NUMBERS = np.linspace(-1000, 200, 512, dtype="<i2").tobytes()  # 8 x 8 x 8
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 8 8 8\nendian: little\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementType = MET_SHORT\nElementDataFile = "


def nifti(*sizes: int, datatype: int = 4, magic: bytes = b"n+1\0") -> bytes:
    """Return a header of NIfTI-1 with this shape; 4 is int16."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<2h", header, 70, datatype, 16)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    struct.pack_into("<h", header, 254, 1)  # sform: scanner
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = magic
    return bytes(header)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A data file of the right size that no client uploaded."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "numbers.raw"
    path.write_bytes(NUMBERS)
    return path


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ImageFileError) as refusal:
        read_volume_file(path, unit=Unit.HU)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nrrd", (NRRD + "\n").encode() + NUMBERS),
        ("a.nrrd", NRRD.replace("raw", "gzip").encode() + b"\n" + gzip.compress(NUMBERS)),
        ("a.mha", f"{META}LOCAL\n".encode() + NUMBERS),
        ("a.nii", nifti(8, 8, 8) + NUMBERS),
        ("a.nii.gz", gzip.compress(nifti(8, 8, 8) + NUMBERS)),
    ],
)
def test_a_file_that_holds_its_own_numbers_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_volume_file(tmp_path / name, unit=Unit.HU).geometry.shape == (8, 8, 8)


@pytest.mark.parametrize(
    "line", ["data file: {}", "datafile: {}", "Data File: {}", "data file:={}", "data  file: {}", "data file: LIST\n{}"]
)
def test_a_nrrd_that_names_another_file_is_refused(tmp_path: Path, elsewhere: Path, line: str) -> None:
    text = refused(tmp_path / "a.nrrd", f"{NRRD}{line.format(elsewhere)}\n\n".encode())
    assert "a.nrrd: its voxels are in another file" in text


@pytest.mark.parametrize("end", ["\r\n", "\n \n", "\r"])
def test_a_nrrd_whose_end_readers_see_in_different_places_is_refused(tmp_path: Path, elsewhere: Path, end: str) -> None:
    content = f"{NRRD.rstrip()}{end}data file: {elsewhere}\n\n".encode()
    assert "a.nrrd" in refused(tmp_path / "a.nrrd", content)


@pytest.mark.parametrize(
    "where", ["{}", "LIST\n{}", "{}.%d 1 8 1", "LOCALE", "LOCAL\nElementDataFile = {}", "../elsewhere/numbers.raw"]
)
def test_a_mha_that_names_another_file_is_refused(tmp_path: Path, elsewhere: Path, where: str) -> None:
    text = refused(tmp_path / "a.mha", f"{META}{where.format(elsewhere)}\n".encode() + NUMBERS)
    assert "a.mha: its voxels are in another file" in text


def test_half_of_a_nifti_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(NUMBERS)
    assert "pairs of .hdr and .img are not supported" in refused(tmp_path / "a.nii", nifti(8, 8, 8, magic=b"ni1\0"))


HUGE = {
    "nifti": ("a.nii", nifti(32767, 32767, 32767)),
    "nifti packed": ("a.nii.gz", gzip.compress(nifti(32767, 32767, 32767))),
    "nrrd": ("a.nrrd", NRRD.replace("8 8 8", "99999 99999 99999").encode() + b"\n"),
    "mha": ("a.mha", f"{META.replace('8 8 8', '99999 99999 99999')}LOCAL\n".encode()),
}


@pytest.mark.parametrize(("name", "content"), HUGE.values(), ids=HUGE)
def test_more_voxels_than_a_ct_has_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert re.search("GB to read, expected at most 10 GB|Its header announces", refused(tmp_path / name, content))


ABSENT = {
    "nifti": ("a.nii", nifti(512, 512, 999)),
    "nrrd": ("a.nrrd", NRRD.replace("8 8 8", "512 512 999").encode() + b"\n"),
    "mha": ("a.mha", f"{META.replace('8 8 8', '512 512 999')}LOCAL\n".encode()),
}


@pytest.mark.parametrize(("name", "content"), ABSENT.values(), ids=ABSENT)
def test_numbers_that_are_not_in_the_file_are_not_waited_for(tmp_path: Path, name: str, content: bytes) -> None:
    assert "is the file complete? Its header announces 523763712 bytes" in refused(tmp_path / name, content)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    text = refused(tmp_path / "a.nii.gz", gzip.compress(nifti(512, 512, 999) + bytes(2**20)))
    assert "over 100 times as many" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii.gz", b""),
        ("a.nii", b"\x5c\x01\0\0"),
        ("a.nii.gz", b"\x1f\x8bjunk"),
        ("a.nii", nifti(8, -8, 8)),
        ("a.nii", nifti(8, 8, 8, datatype=999)),
        ("a.nrrd", b"NRRD0004\n\n"),
        ("a.nrrd", b"junk\n\n"),
        ("a.nrrd", NRRD.replace("8 8 8", "8 -8 8").encode() + b"\n"),
        ("a.mha", b""),
        ("a.mha", b"junk"),
        ("a.mha", f"{META.replace('8 8 8', '8 8')}LOCAL\n".encode()),
        ("a.mha", f"CompressedData = True\nCompressedDataSize = {10**15}\n{META}LOCAL\n".encode()),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert "is the file complete?" in refused(tmp_path / name, content)


def test_a_file_with_patient_metadata_written_by_simpleitk_is_read(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.linspace(-1000, 200, 512).reshape(8, 8, 8).astype(np.float32))
    image.SetMetaData("0010|0010", "Yamada^Tarou=a:b")
    for name in ("a.nrrd", "a.mha", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
        assert read_volume_file(tmp_path / name, unit=Unit.HU).geometry.shape == (8, 8, 8)


PASSED_OVER = {
    "MHA slope": ("a.mha", f"ElementToIntensityFunctionSlope = 2\n{META}LOCAL\n", "FunctionSlope = 2"),
    "MHA offset": ("a.mha", f"ElementToIntensityFunctionOffset = -9\n{META}LOCAL\n", "FunctionOffset = -9"),
    "MHA lengths": ("a.mha", f"DistanceUnits = um\n{META}LOCAL\n", "DistanceUnits = um"),
    "NRRD lengths": ("a.nrrd", f'{NRRD}space units: "m" "m" "m"\n\n', "spaceunits = m m m"),
    "NRRD range": ("a.nrrd", f"{NRRD}old min: -1000\n\n", "oldmin = -1000"),
}


@pytest.mark.parametrize(("name", "header", "text"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_what_itk_would_pass_over_is_refused(tmp_path: Path, name: str, header: str, text: str) -> None:
    message = refused(tmp_path / name, header.encode() + NUMBERS)
    assert text in message and "which is not supported; export it in HU" in message


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mha", f"ElementToIntensityFunctionSlope = 1\nDistanceUnits = mm\n{META}LOCAL\n"),
        ("a.nrrd", f'{NRRD}space units: "mm" "mm" "mm"\n\n'),
    ],
)
def test_fields_with_neutral_values_are_accepted(tmp_path: Path, name: str, header: str) -> None:
    header = header.replace("\nspace units", "\nspace: left-posterior-superior\nspace units")
    (tmp_path / name).write_bytes(header.encode() + NUMBERS)
    assert read_volume_file(tmp_path / name, unit=Unit.HU).array[0, 0, 0] == -1000
