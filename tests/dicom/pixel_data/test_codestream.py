"""Compressed slices whose codestream contradicts the header, and files that crash a decoder."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from lib.dicom.pixel_data.codestream import CodestreamSize, codestream_fault, codestream_size
from lib.dicom.pixel_data.decoder import Decoder
from lib.dicom.read.pixels import read_slice
from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError, UndecodableError
from lib.imaging.files.failed_files import failed_files
from scripts.fuzzing.codestreams import (
    COLUMNS,
    ROWS,
    codestream_of,
    encapsulated,
    segments_of,
    with_pixels,
    with_values,
    write_compressed_series,
)
from tests.dicom.builders import stored_pixels, write_series

CODECS = ["rle", "jpeg-2000", "jpeg-baseline", "jpeg-lossless", "jpeg-ls"]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of five compressed slices for each codec."""
    folder = tmp_path_factory.mktemp("compressed")
    write_series(folder / "plain", RescaleIntercept=-1000)
    return write_compressed_series(folder / "plain", folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for one test."""
    monkeypatch.setenv("CT2PET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("codec", CODECS)
def test_codestream_size(series: dict[str, Path], codec: str) -> None:
    if codec not in series:
        pytest.skip("dcmtk is not installed")
    file = (series[codec] / "000.dcm").read_bytes()
    if codec != "rle":
        assert codestream_size(codestream_of(file)) == CodestreamSize(6, 8, 1)
    values = read_ct(scan_folder(series[codec]).usable("CT")[0].series).array
    tolerance = 16 if codec == "jpeg-baseline" else 0
    np.testing.assert_allclose(values[2], stored_pixels(2) - 1000.0, atol=tolerance)


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("tag", [ROWS, COLUMNS])
def test_a_header_of_another_size_is_refused(series: dict[str, Path], tmp_path: Path, codec: str, tag: int) -> None:
    if codec not in series:
        pytest.skip("dcmtk is not installed")
    file = (series[codec] / "000.dcm").read_bytes()
    for value in (1, 16, 4096):
        path = tmp_path / "1.dcm"
        path.write_bytes(with_values(file, {tag: ("US", struct.pack("<H", value))}))
        with pytest.raises(UndecodableError, match=r"its codestream has 6 x 8 pixels, expected Rows"):
            read_slice(path)


@pytest.mark.parametrize("codec", CODECS)
def test_excessive_matrix_size_is_refused(series: dict[str, Path], tmp_path: Path, codec: str) -> None:
    if codec not in series:
        pytest.skip("dcmtk is not installed")
    huge = struct.pack("<H", 16_000)
    values = {ROWS: ("US", huge), COLUMNS: ("US", huge)}
    for path in sorted(series[codec].iterdir()):
        (tmp_path / path.name).write_bytes(with_values(path.read_bytes(), values))
    with pytest.raises(DicomError, match="Rows 16000 and Columns 16000, expected at most 4096"):
        read_slice(tmp_path / "000.dcm")
    (found,) = scan_folder(tmp_path).series
    assert found.reason == "Rows 16000, expected at most 4096: no CT or PET slice is larger"


@pytest.mark.parametrize(
    ("count", "offsets", "message"),
    [
        (0, (), "has 0 segments, expected 2"),
        (15, (64,), "has 15 segments, expected 2"),
        (0xFFFFFFFF, (64, 70), "has 4294967295 segments, expected 2"),
        (2, (64, 64), "are not consecutive"),
        (2, (80, 64), "are not consecutive"),
        (2, (64, 0xFFFFFFF0), "are not consecutive"),
    ],
)
def test_rle_header_must_have_one_segment_per_byte(count: int, offsets: tuple[int, ...], message: str) -> None:
    codestream = struct.pack("<16I", count, *offsets, *[0] * (15 - len(offsets))) + bytes(64)
    fault = codestream_fault(codestream, "1.2.840.10008.1.2.5", rows=6, columns=8, allocated=16)
    assert message in fault


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (24, 3, "1 tiles, expected 1 x 3"),  # XTsiz
        (28, 5, "1 tiles, expected 2 x 1"),  # YTsiz
        (24, 0, "ends before its tiles"),
        (28, 2**32 - 1, ""),  # a tile may be larger than the picture
    ],
)
def test_a_codestream_without_one_of_its_tiles_is_refused(
    series: dict[str, Path], offset: int, value: int, message: str
) -> None:
    codestream = bytearray(codestream_of((series["jpeg-2000"] / "000.dcm").read_bytes()))
    start = codestream.find(b"\xff\x4f\xff\x51")
    assert not codestream_fault(bytes(codestream), JPEG2000Lossless, rows=6, columns=8, allocated=16)
    struct.pack_into(">I", codestream, start + offset, value)
    fault = codestream_fault(bytes(codestream), JPEG2000Lossless, rows=6, columns=8, allocated=16)
    assert message in fault and bool(message) == bool(fault)


def test_two_frame_headers_have_no_size(series: dict[str, Path]) -> None:
    codestream = codestream_of((series["jpeg-baseline"] / "000.dcm").read_bytes())
    start, end = next((start, end) for marker, start, end in segments_of(codestream) if marker == 0xC0)
    assert codestream_size(codestream[:end] + codestream[start:end] + codestream[end:]) is None


KILLED = "import json, os, signal, sys\nfor line in sys.stdin:\n    os.kill(os.getpid(), signal.{})\n"


@pytest.mark.parametrize(
    ("ending", "is_remembered", "message"),
    [
        ("SIGFPE", True, "is damaged: decoding it ends the decoder"),
        ("SIGSEGV", True, "is damaged: decoding it ends the decoder"),
        ("SIGXCPU", True, "is damaged: decoding it takes more processor time"),
        ("SIGKILL", False, "is damaged: decoding it was broken off"),  # killed by the system, not because of the file
    ],
)
def test_file_that_crashed_a_decoder_is_not_decoded_again(
    series: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    is_remembered: bool,
    message: str,
) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    for path in series["rle"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (found,) = scan_folder(folder).usable("CT")
    program = tmp_path / "program.py"
    program.write_text(KILLED.format(ending))
    monkeypatch.setattr("lib.dicom.pixel_data.decoder.PROGRAM", program)
    with pytest.raises(DicomError, match=rf"000\.dcm: its compression \(RLE Lossless\) {message}") as first:
        read_ct(found.series)
    started: list[object] = []
    monkeypatch.setattr("lib.imaging.files.child_process.subprocess.Popen", lambda *_, **__: started.append(1))
    if not is_remembered:
        assert scan_folder(folder).usable("CT")
        return
    with pytest.raises(UndecodableError) as second:
        read_ct(found.series)
    assert str(second.value) == str(first.value) and not started
    (again,) = scan_folder(folder).series  # what a server does when it starts
    assert again.reason is not None and "000.dcm: " + message in again.reason
    os.utime(folder / "000.dcm")
    assert scan_folder(folder).series[0].reason == again.reason  # the same bytes
    (folder / "000.dcm").write_bytes((folder / "000.dcm").read_bytes().replace(b"Secret^Pat", b"Secret^Mat"))
    assert scan_folder(folder).usable("CT")


def test_non_utf8_file_names_do_not_reach_a_codec(series: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    for k, path in enumerate(sorted(series["rle"].iterdir())):
        (folder / os.fsdecode(b"sch\xe4del%d.dcm" % k)).write_bytes(path.read_bytes())
    (found,) = scan_folder(folder).usable("CT")
    np.testing.assert_array_equal(read_ct(found.series).array[1], stored_pixels(1) - 1000.0)
    damaged = sorted(folder.iterdir())[2]
    damaged.write_bytes(with_pixels(damaged.read_bytes(), encapsulated(bytes(64))))
    with pytest.raises(UndecodableError, match="RLE header has 0 segments"):
        read_ct(found.series)


def test_decoder_memory_is_limited_by_slice_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\nsys.path += json.loads(sys.stdin.buffer.readline())['paths']\n"
        "from lib.imaging.files.child_main import serve\n"
        "def answer(request):\n"
        "    import os, resource, socket\n"
        "    try:\n"
        "        with open('written', 'w') as file:\n"
        "            file.write('x')\n"
        "    except OSError as error:\n"
        "        return {'error': f'{sorted(os.environ)} {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}'}, ()\n"
        "    return bytearray(2**30)\n"
        "serve(lambda request: answer(request) if request['memory_bytes'] < 2**30 else bytearray(2**40))\n"
    )
    monkeypatch.setattr("lib.dicom.pixel_data.decoder.PROGRAM", program)
    with Decoder() as decoder, pytest.raises(UndecodableError) as error:
        decoder.decode(b"", pixels=100)
    assert "HOME" not in str(error.value) and "PATH" not in str(error.value) and " 16" in str(error.value)
    with Decoder() as decoder, pytest.raises(UndecodableError, match="MemoryError"):
        decoder.decode(b"", pixels=2**26)


def test_damaged_or_missing_record_of_failures_is_tolerated(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(b"x" * 100)
    failed_files().remember(path, "ends the decoder")
    memory = next(cache.iterdir())
    memory.write_bytes(b"{torn\n\xff\n[]\n" + memory.read_bytes())
    assert failed_files().outcome_of(path) == "ends the decoder"
    memory.unlink()
    assert failed_files().outcome_of(path) == "" and failed_files().is_empty()
