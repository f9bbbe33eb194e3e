"""A synthetic series on disk: written atomically, reproducible, and never used as a measured one."""

from __future__ import annotations

import errno
import os
import resource
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from lib.dicom.read.volume import read_pet, read_synthetic_pet
from lib.dicom.scan.scan import scan_folder
from lib.dicom.write import files as write_module
from lib.dicom.write.files import write_series, write_zip
from lib.dicom.write.pet_series import SyntheticSeries
from lib.dicom.write.plan import plan_series
from lib.dicom.write.streamed_series import StreamedSeries
from lib.errors import InputError, OperationCancelledError, OutputError, UnsupportedSeriesError
from lib.imaging.volume import Volume
from lib.pairing.pairs import pair_series
from lib.parallel import ahead
from tests.dicom.builders import write_series as write_study
from tests.dicom.write.synthetic_pets import MODEL, ct_in, synthetic_of


@pytest.fixture
def series(tmp_path: Path) -> SyntheticSeries:
    return synthetic_of(ct_in(tmp_path / "study" / "ct"))


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Return a function that limits the size of files of this process, the closest to a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reader_returns_the_written_suv(series: SyntheticSeries, tmp_path: Path) -> None:
    (found,) = scan_folder(write_series(series, tmp_path / "pet")).series
    volume = read_synthetic_pet(found.series)
    assert volume.geometry.same_grid_as(series.pet.geometry)
    for k in range(len(series)):
        original = series.pet.array[k]
        assert np.abs(volume.array[k] - original).max() <= np.ptp(original) / 20_000 + original.max() * 2**-23


def test_writing_twice_changes_nothing(series: SyntheticSeries, tmp_path: Path) -> None:
    first = contents(write_series(series, tmp_path / "pet"))
    assert contents(write_series(series, tmp_path / "pet")) == first
    assert sorted(first) == [f"{k:04d}.dcm" for k in range(1, 6)]


def test_slab_is_completed_by_the_series(series: SyntheticSeries, tmp_path: Path) -> None:
    slab = series.planned.fill(series.pet.slab(slice(2, 4)))
    assert sorted(contents(write_series(slab, tmp_path / "pet"))) == ["0003.dcm", "0004.dcm"]
    full = contents(write_series(series, tmp_path / "elsewhere"))
    assert contents(write_series(series, tmp_path / "pet")) == full


def test_series_is_written_into_an_empty_folder(series: SyntheticSeries, tmp_path: Path) -> None:
    (tmp_path / "pet").mkdir()
    assert len(contents(write_series(series, tmp_path / "pet"))) == 5


def test_foreign_files_are_not_mixed_with_the_series(series: SyntheticSeries, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contains 5 other file\(s\) or folder\(s\) \(000.dcm, ...\)"):
        write_series(series, tmp_path / "study" / "ct")
    other = plan_series(ct_in(tmp_path / "other", SeriesInstanceUID="1.2.3.1.8"), MODEL)
    write_series(series, tmp_path / "pet")
    with pytest.raises(InputError, match="name a new folder"):
        write_series(other.fill(series.pet), tmp_path / "pet")
    with pytest.raises(InputError, match="is a file"):
        write_series(series, tmp_path / "study" / "ct" / "000.dcm")


def test_zip_has_the_same_files_and_is_reproducible(series: SyntheticSeries, tmp_path: Path) -> None:
    archive = write_zip(series, tmp_path / "pet.zip")
    assert archive.read_bytes() == write_zip(series, tmp_path / "again.zip").read_bytes()
    smaller = write_zip(series, tmp_path / "smaller.zip", compression=1)
    assert smaller.stat().st_size < archive.stat().st_size
    for path in (archive, smaller):
        with zipfile.ZipFile(path) as zipped:
            packed = {name: zipped.read(name) for name in zipped.namelist()}
        assert packed == {f"{series.uid}/{name}": file for name, file in series.files()}


def full_disk(self: SyntheticSeries) -> Iterator[tuple[str, bytes]]:
    yield "0001.dcm", b"part"
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_leaves_no_partial_files(
    series: SyntheticSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    before = contents(write_series(series, out / "former"))
    monkeypatch.setattr(SyntheticSeries, "files", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        write_series(series, out / "pet")
    with pytest.raises(OutputError, match="No space left on device"):
        write_series(series, out / "former")
    with pytest.raises(OutputError, match="No space left on device"):
        write_zip(series, out / "pet.zip")
    assert contents(out) == before


def in_slabs(series: SyntheticSeries, taken: list[int]) -> Iterator[Volume]:
    """Yield the pixels slice by slice; `taken` lists the slices that were asked for."""
    for k in range(len(series)):
        taken.append(k)
        yield series.pet.slab(slice(k, k + 1))


def test_a_streamed_series_has_the_same_files(series: SyntheticSeries, tmp_path: Path) -> None:
    with closing(ahead(in_slabs(series, []))) as slabs:
        folder = write_series(StreamedSeries(series.planned, slabs, len(series)), tmp_path / "pet")
    assert contents(folder) == dict(series.files())


def test_an_error_of_the_synthesis_leaves_no_files(series: SyntheticSeries, tmp_path: Path) -> None:
    def cancelled() -> Iterator[Volume]:
        yield series.pet.slab(slice(0, 3))
        raise OperationCancelledError("cancelled")

    out = tmp_path / "out"
    before = contents(write_series(series, out / "former"))
    for folder in (out / "pet", out / "former"):
        with closing(ahead(cancelled())) as slabs, pytest.raises(OperationCancelledError):
            write_series(StreamedSeries(series.planned, slabs, len(series)), folder)
    assert contents(out) == before and [path.name for path in out.iterdir()] == ["former"]


def test_a_full_disk_stops_the_synthesis(
    series: SyntheticSeries, tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    taken: list[int] = []
    limit_file_size(1000)  # less than a header
    with closing(ahead(in_slabs(series, taken))) as slabs, pytest.raises(OutputError, match="no partial files remain"):
        write_series(StreamedSeries(series.planned, slabs, len(series)), tmp_path / "out" / "pet")
    assert len(taken) <= 3  # one was written, one was ready, one waited
    assert list((tmp_path / "out").iterdir()) == []


def test_leftovers_of_a_killed_process_are_ignored_and_removed(series: SyntheticSeries, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    left = studies / f".pet.99999{write_module.UNFINISHED}"
    left.mkdir(parents=True)
    (left / "0001.dcm").write_bytes(next(series.files())[1])
    assert scan_folder(studies).series == ()
    write_series(series, studies / "pet")
    assert [path.name for path in studies.iterdir()] == ["pet"]


def killed_in_the_middle(self: SyntheticSeries) -> Iterator[tuple[str, bytes]]:
    for k in range(3):
        yield f"{k + 1:04d}.dcm", b"complete"
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_while_it_writes_leaves_no_series(
    series: SyntheticSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = tmp_path / "studies"
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticSeries, "files", killed_in_the_middle)
        child = os.fork()
        if child == 0:
            write_series(series, studies / "pet")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not (studies / "pet").exists()
    report = scan_folder(studies)
    assert (report.series, report.skipped) == ((), ())
    assert len(contents(write_series(series, studies / "pet"))) == 5


def test_several_threads_may_write_one_series(series: SyntheticSeries, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write_series(series, tmp_path / "out" / "pet"), range(8)))
    assert len(contents(tmp_path / "out")) == 5


def test_files_of_another_thread_are_not_leftovers(series: SyntheticSeries, tmp_path: Path) -> None:
    dangling = tmp_path / f".pet.1{write_module.UNFINISHED}"
    dangling.symlink_to(tmp_path / "nowhere")  # listed, but missing when it is checked
    assert len(contents(write_series(series, tmp_path / "pet"))) == 5


def test_folder_that_cannot_be_created_is_named(series: SyntheticSeries, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_series(series, tmp_path / "file" / "pet")


def test_written_series_is_never_used_as_a_measured_pet(series: SyntheticSeries, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_series(series, study / "synthetic")
    report = scan_folder(study)
    (found,) = (found for found in report.series if found.series.uid == series.uid)
    assert found.is_synthetic and not found.is_usable and "produced by a model" in str(found.reason)
    assert pair_series(report).pairs == ()
    with pytest.raises(UnsupportedSeriesError, match="synthetic PET"):
        read_pet(found.series)
    write_study(study / "pet", modality="PT")  # the real one of the same study
    (paired,) = pair_series(scan_folder(study)).pairs
    assert paired.pet.series.uid != series.uid


def test_synthetic_series_is_recognised_without_new_attributes(series: SyntheticSeries, tmp_path: Path) -> None:
    folder = write_series(series, tmp_path / "pet")
    for path in folder.iterdir():
        dataset = dcmread(path)
        del dataset[0x0008001C]  # SyntheticData, which older archives may not know
        dataset.save_as(path)
    (found,) = scan_folder(folder).series
    assert found.is_synthetic and not found.is_usable


def test_a_measured_pet_is_not_read_as_a_synthetic_one(tmp_path: Path) -> None:
    write_study(tmp_path, modality="PT")
    with pytest.raises(UnsupportedSeriesError, match="not a synthetic PET"):
        read_synthetic_pet(scan_folder(tmp_path).usable("PT")[0].series)
