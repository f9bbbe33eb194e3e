"""The decoder process: decoding, crashes, timeouts and memory limits."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.dicom.pixel_data.decoder import Decoder
from lib.dicom.read.volume import MAX_THREADS, decoding_threads, read_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError
from tests.dicom.builders import stored_pixels, write_series

DIES = "import os, signal, sys\nfor line in sys.stdin:\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
SLEEPS = "import sys, time\nfor line in sys.stdin:\n    time.sleep(60)\n"
STOPS_HALFWAY = """
import sys
sys.stdin.readline()
sys.stdout.write('{"shape": [6, 8], "dtype": "<i2"}\\n123')
"""
REFUSES = """
import sys
for line in sys.stdin:
    print('{"error": "RuntimeError: first\\\\nno codec"}', flush=True)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that replaces the decoder's program."""

    def replace(text: str) -> None:
        path = tmp_path / "program.py"
        path.write_text(text)
        monkeypatch.setattr("lib.dicom.pixel_data.decoder.PROGRAM", path)

    return replace


def test_one_decoder_decodes_several_slices(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    with Decoder() as decoder:
        for k, path in enumerate(write_series(tmp_path / "plain", count=3, RescaleIntercept=0)):
            packed = tmp_path / f"{k}.dcm"
            subprocess.run([require_program("dcmcrle"), str(path), str(packed)], check=True)
            np.testing.assert_array_equal(decoder.decode(packed.read_bytes(), pixels=48).squeeze(), stored_pixels(k))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DIES, "is damaged: decoding it ends the decoder"),
        (STOPS_HALFWAY, "is damaged: decoding it ends the decoder"),
        (REFUSES, r"cannot be decoded here \(no codec\)"),
    ],
)
def test_file_that_crashes_the_decoder_is_refused(program: Callable[[str], None], text: str, message: str) -> None:
    program(text)
    with Decoder() as decoder:
        for _ in range(2):  # the second file gets a decoder of its own
            with pytest.raises(DicomError, match=message):
                decoder.decode(b"", pixels=48)


def test_a_file_that_takes_too_long_is_refused(program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    program(SLEEPS)
    monkeypatch.setattr("lib.dicom.pixel_data.decoder.SLICE_TIMEOUT_S", 0.2)
    with Decoder() as decoder, pytest.raises(DicomError, match="is damaged: decoding it takes over 0 s"):
        decoder.decode(b"", pixels=48)


def test_undecodable_file_is_refused_and_the_next_is_read(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    (path, *_) = write_series(tmp_path / "plain", count=1, RescaleIntercept=0)
    packed = tmp_path / "packed.dcm"
    subprocess.run([require_program("dcmcrle"), str(path), str(packed)], check=True)
    (tmp_path / "invalid.dcm").write_bytes(b"invalid")
    with Decoder() as decoder:
        with pytest.raises(DicomError, match="cannot be decoded here"):
            decoder.decode(b"invalid", pixels=48)
        np.testing.assert_array_equal(decoder.decode(packed.read_bytes(), pixels=48).squeeze(), stored_pixels(0))


def test_uncompressed_slices_start_no_process(tmp_path: Path, program: Callable[[str], None]) -> None:
    program("raise SystemExit('never')")
    write_series(tmp_path / "ct")
    assert read_ct(scan_folder(tmp_path / "ct").usable("CT")[0].series).array.shape == (5, 6, 8)


@pytest.fixture
def packed(tmp_path: Path, require_program: Callable[[str], str]) -> Path:
    """Return a folder of seven slices in RLE."""
    (tmp_path / "packed").mkdir()
    for path in write_series(tmp_path / "plain", count=7):
        subprocess.run([require_program("dcmcrle"), str(path), str(tmp_path / "packed" / path.name)], check=True)
    return tmp_path / "packed"


@pytest.mark.parametrize("threads", [1, 3])
def test_several_decoders_read_the_same_volume(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr("lib.dicom.read.volume.decoding_threads", lambda _: threads)
    plain, decoded = (read_ct(scan_folder(folder).usable("CT")[0].series) for folder in (tmp_path / "plain", packed))
    np.testing.assert_array_equal(decoded.array, plain.array)
    assert decoded.geometry.same_grid_as(plain.geometry)


def test_the_first_damaged_slice_is_named_and_all_decoders_end(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.dicom.read.volume.decoding_threads", lambda _: 3)
    series = scan_folder(packed).usable("CT")[0].series
    for path in series.files[3:5]:
        content = path.read_bytes()
        path.write_bytes(content[:-40] + bytes(40))  # the RLE segments run out
    threads = threading.active_count()
    with pytest.raises(DicomError, match=series.files[3].name):
        read_ct(series)
    children = [
        child for of_thread in Path("/proc/self/task").glob("*/children") for child in of_thread.read_text().split()
    ]
    assert not [child for child in children if "decoder_main" in Path(f"/proc/{child}/cmdline").read_text()]
    assert threading.active_count() == threads


def test_few_slices_are_read_by_one_decoder() -> None:
    assert decoding_threads(5) == 1
    assert 1 <= decoding_threads(10**6) <= MAX_THREADS
