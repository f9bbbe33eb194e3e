"""Volume files in a process of their own: what a file that ends, stalls or swamps its reader costs."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.dicom.scan.open_ct import read_ct_file
from lib.errors import ImageFileError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from tests.imaging.files.test_header_check import META, NRRD, nifti

NUMBERS = np.linspace(-1000, 200, 512, dtype="<i2").tobytes()  # 8 x 8 x 8
FILES = {
    "a.nrrd": (NRRD + "\n").encode() + NUMBERS,
    "a.mha": f"{META}LOCAL\n".encode() + NUMBERS,
    "a.nii": nifti(8, 8, 8) + NUMBERS,
    "a.nii.gz": gzip.compress(nifti(8, 8, 8) + NUMBERS),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own."""
    monkeypatch.setenv("CT2PET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", FILES)
def test_a_name_that_is_no_utf8_does_not_reach_a_reader(tmp_path: Path, name: str) -> None:
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    path = folder / os.fsdecode(b"sch\xe4del" + os.fsencode(name[1:]))
    path.write_bytes(FILES[name])
    assert read_volume_file(path, unit=Unit.HU).array[0, 0, 0] == -1000


def test_no_library_that_reads_foreign_bytes_is_loaded_here(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    program = (
        "import sys\nfrom pathlib import Path\nfrom lib.imaging.files.reader_process import read_volume\n"
        "from lib.imaging.files.header_check import refuse_unless_alone\n"
        "for name in sys.argv[1:]:\n"
        "    path = Path(name)\n"
        "    suffix = '.nii.gz' if name.endswith('.gz') else path.suffix\n"
        "    array, _ = read_volume(path, suffix, refuse_unless_alone(path), check=lambda *_: None)\n"
        "    print(array[0, 0, 0])\n"
        "assert 'SimpleITK' not in sys.modules and 'nibabel' not in sys.modules\n"
    )
    paths = [str(tmp_path / name) for name in FILES]
    run = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["-1000.0"] * 4


@pytest.mark.parametrize(
    ("ending", "is_remembered", "message"),
    [
        ("SIGSEGV", True, "ends the decoder"),
        ("SIGXCPU", True, "takes more processor time than any such file needs"),
        ("SIGKILL", False, "was broken off"),
    ],
)
def test_a_file_that_ended_its_reader_is_given_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, is_remembered: bool, message: str
) -> None:
    path, program = tmp_path / "a.nrrd", tmp_path / "program.py"
    path.write_bytes(FILES["a.nrrd"])
    program.write_text(f"import os, signal, sys\nsys.stdin.readline()\nos.kill(os.getpid(), signal.{ending})\n")
    with monkeypatch.context() as patch:
        patch.setattr("lib.imaging.files.reader_process.PROGRAM", program)
        with pytest.raises(ImageFileError, match=rf"a\.nrrd: damaged: reading it {message}; export it again"):
            read_volume_file(path, unit=Unit.HU)
    copy = tmp_path / "b.nrrd"  # another name, another time, the same bytes
    copy.write_bytes(FILES["a.nrrd"])
    if not is_remembered:
        assert read_volume_file(copy, unit=Unit.HU).geometry.shape == (8, 8, 8)
        return
    with pytest.raises(ImageFileError, match=rf"b\.nrrd: damaged: reading it {message}; export it again"):
        read_volume_file(copy, unit=Unit.HU)
    copy.write_bytes(FILES["a.nrrd"][:-2] + b"\0\0")
    assert read_volume_file(copy, unit=Unit.HU).geometry.shape == (8, 8, 8)


def test_a_reader_response_of_another_shape_allocates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, program = tmp_path / "a.nrrd", tmp_path / "program.py"
    path.write_bytes(FILES["a.nrrd"])
    answer = '{"shape": [90000, 90000, 90000], "affine": [], "bytes": 1}'
    program.write_text(f"import sys\nsys.stdin.readline()\nsys.stdin.readline()\nprint({answer!r})\n")
    monkeypatch.setattr("lib.imaging.files.reader_process.PROGRAM", program)
    with pytest.raises(ImageFileError, match=r"a\.nrrd: read as \(90000, 90000, 90000\), its header announces \(8, 8"):
        read_volume_file(path, unit=Unit.HU)


def test_an_error_while_voxels_are_read_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti(8, 8, 8) + NUMBERS[:600]))
    with pytest.raises(ImageFileError, match=r"a\.nii\.gz: cannot be read as a volume; .* ends before its voxels do"):
        read_volume_file(path, unit=Unit.HU)


def test_a_packed_file_takes_the_memory_of_its_voxels_here_and_no_more(tmp_path: Path) -> None:
    """7 MB of float64 unpack to 480 MB: 240 MB of float32 are held, and what stood in memory before."""
    shape = (60, 1000, 1000)
    header = bytearray(nifti(*reversed(shape), datatype=64))
    struct.pack_into("<12f", header, 280, 0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 1, 0)
    rng = np.random.default_rng(0)
    path = tmp_path / "a.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(shape[0]):
            slice_ = np.zeros(shape[1:])
            slice_[:120] = rng.integers(-1000, 1000, (120, shape[2]))
            file.write(slice_.tobytes())
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom lib.imaging.files.volume_file import read_volume_file\n"
        "from lib.imaging.volume import Unit\n"
        "from tests.process_memory import peak_kib\nbefore = peak_kib()\n"
        "volume = read_volume_file(Path(sys.argv[1]), unit=Unit.HU)\n"
        "print(peak_kib() - before, volume.array.nbytes // 1024,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    here_kib, voxels_kib, child_kib = map(int, run.stdout.split())
    assert here_kib < voxels_kib * 1.2
    assert child_kib < 400 * 1024  # its libraries and some slices


def test_a_ct_is_read_as_before(tmp_path: Path) -> None:
    """The voxel values of each format, through the validation of uploads."""
    hu = np.full((8, 8, 8), -1000, "<i2")
    hu[2:6, 2:6, 2:6] = 40
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(
            gzip.compress(nifti(8, 8, 8) + hu.tobytes())
            if name.endswith(".gz")
            else content.replace(NUMBERS, hu.tobytes())
        )
        np.testing.assert_array_equal(read_ct_file(tmp_path / name).array, hu.astype(np.float32))
