"""The cache of a PACS: complete series, eviction of the least recently used, and killed downloads."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lib.dicom.read.volume import read_ct
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.pacs import Pacs
from lib.errors import CT2PETError, DicomError, FetchCancelledError, RemoteError
from lib.types import Series
from tests.dicom.builders import instance

SLICES = 5


class Archive(Pacs):
    """A PACS that serves the files of a folder by UID, counts requests, and fails on request."""

    def __init__(self, folder: Path) -> None:
        super().__init__("http://pacs.invalid/dicom-web")
        self.folder = folder
        self.fetched: list[str] = []
        self.failure: Mapping[int, CT2PETError | Path] = {}

    def fetch(self, study_uid: str, series_uid: str, sop_uid: str, path: Path, **limits: Any) -> None:
        self.fetched.append(sop_uid)
        failure = self.failure.get(len(self.fetched))
        if isinstance(failure, CT2PETError):
            raise failure
        shutil.copyfile(failure or self.folder / f"{sop_uid}.dcm", path)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    (tmp_path / "archive").mkdir()
    for number in "123":
        for k in range(SLICES):
            dataset = instance(k, SeriesInstanceUID=f"1.2.{number}")
            dataset.save_as(tmp_path / "archive" / f"{dataset.SOPInstanceUID}.dcm", write_like_original=False)
    return Archive(tmp_path / "archive")


def cache_of(archive: Archive, *, limit_bytes: int = 10**9) -> SeriesCache:
    return SeriesCache(archive.folder.parent / "cache", archive, limit_bytes=limit_bytes)


def series(cache: SeriesCache, number: int = 1) -> Series:
    uid = f"1.2.{number}"
    files = tuple(cache.folder_of(uid) / f"{uid}.{k + 1}.dcm" for k in range(SLICES))
    return Series(uid, "1.2.3.1", "P1", "CT", "1.2.3.1.9", "", files)


def series_bytes(archive: Archive) -> int:
    return sum(path.stat().st_size for path in archive.folder.glob("1.2.1.*"))


def lying(cache: SeriesCache) -> list[str]:
    return sorted({path.parent.name for path in cache.folder.glob("*/*.dcm")})


def test_a_series_is_fetched_once(archive: Archive) -> None:
    cache = cache_of(archive)
    for _ in range(2):
        with cache.holding(series(cache)):
            assert read_ct(series(cache)).geometry.shape == (SLICES, 6, 8)
    assert sorted(archive.fetched) == sorted(path.stem for path in series(cache).files)


def test_failed_fetch_keeps_fetched_instances(archive: Archive) -> None:
    archive.failure = {number: RemoteError("gone") for number in range(4, 100)}
    cache = cache_of(archive)
    with pytest.raises(RemoteError, match="gone"), cache.holding(series(cache)):
        pass
    assert len(list(cache.folder.glob("*/*.dcm"))) == 3 and not list(cache.folder.glob("*/*.part"))
    archive.failure, archive.fetched = {}, []
    with cache.holding(series(cache)):
        assert len(archive.fetched) == SLICES - 3


def test_damaged_instance_is_fetched_again(archive: Archive) -> None:
    other = archive.folder / "1.2.2.1.dcm"
    archive.failure = {1: other}
    cache = cache_of(archive)
    with cache.holding(series(cache)):
        assert len(archive.fetched) == SLICES + 1


def test_wrong_instance_is_refused(archive: Archive) -> None:
    archive.failure = dict.fromkeys(range(1, 100), archive.folder / "1.2.2.1.dcm")
    cache = cache_of(archive)
    message = r"requested instance 1.2.1.1, the PACS sent 1.2.2.1 of series 1.2.2"
    with pytest.raises(DicomError, match=message), cache.holding(series(cache)):
        pass
    assert lying(cache) == []


def test_a_truncated_file_on_disk_is_fetched_again(archive: Archive) -> None:
    cache = cache_of(archive)
    with cache.holding(series(cache)):
        broken = series(cache).files[2]
    os.truncate(broken, 500)
    with cache.holding(series(cache)):
        assert len(archive.fetched) == SLICES + 1
        assert broken.stat().st_size == (archive.folder / broken.name).stat().st_size


def test_a_series_that_grew_is_completed(archive: Archive) -> None:
    cache = cache_of(archive)
    complete = series(cache)
    early = Series(complete.uid, complete.study_uid, "P1", "CT", "1.2.3.1.9", "", complete.files[:3])
    with cache.holding(early):
        assert len(archive.fetched) == 3
    with cache.holding(complete):
        assert len(archive.fetched) == SLICES


def test_least_recently_used_series_is_evicted(archive: Archive) -> None:
    cache = cache_of(archive, limit_bytes=int(2.5 * series_bytes(archive)))
    for number in (1, 2, 1, 3):
        with cache.holding(series(cache, number)):
            time.sleep(0.02)  # the clock of the file system is coarse
    assert lying(cache) == ["1.2.1", "1.2.3"]


def test_series_in_use_is_not_evicted(archive: Archive) -> None:
    cache = cache_of(archive, limit_bytes=1)  # too small for any series: only series in use remain
    with cache.holding(series(cache, 1), series(cache, 2)):
        assert lying(cache) == ["1.2.1", "1.2.2"]
        assert read_ct(series(cache, 1)).geometry.shape[0] == SLICES
    with cache.holding(series(cache, 3)):
        assert lying(cache) == ["1.2.3"]


def test_series_fetched_again_is_identical(archive: Archive) -> None:
    """Prepared arrays identify their source by the size and time of its files."""
    cache = cache_of(archive, limit_bytes=1)
    times = []
    for number in (1, 2, 1):
        with cache.holding(series(cache, number)):
            times.append(series(cache, number).files[0].stat().st_mtime_ns)
    assert times[0] == times[2]


def test_full_disk_is_reported(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Archive, "fetch", full)
    cache = cache_of(archive)
    message = r"cannot be written \(No space left on device\); free space"
    with pytest.raises(RemoteError, match=message), cache.holding(series(cache)):
        pass


def download_slowly(archive: Archive) -> None:
    fast = archive.fetch

    def slow(study_uid: str, series_uid: str, sop_uid: str, path: Path, **limits: Any) -> None:
        time.sleep(0.02)
        fast(study_uid, series_uid, sop_uid, path, **limits)

    archive.fetch = slow  # type: ignore[method-assign]
    cache = cache_of(archive)
    with cache.holding(*(series(cache, number) for number in (1, 2, 3))):
        time.sleep(60)


def test_a_download_may_be_killed_at_any_moment(archive: Archive) -> None:
    cache = cache_of(archive)
    for moment in range(12):
        running = multiprocessing.get_context("fork").Process(target=download_slowly, args=(archive,))
        running.start()
        time.sleep(0.015 * moment)
        running.kill()
        running.join()
        for path in cache.folder.glob("*/*.dcm"):  # files with their final name are complete
            assert path.read_bytes() == (archive.folder / path.name).read_bytes()
    with cache.holding(*(series(cache, number) for number in (1, 2, 3))):
        assert len(list(cache.folder.glob("*/*.dcm"))) == 3 * SLICES
        assert not list(cache.folder.glob("*/*.part"))


def test_a_cancelled_fetch_frees_its_locks(archive: Archive) -> None:
    cache = cache_of(archive)
    fetched_before = 2
    with (
        pytest.raises(FetchCancelledError, match=r"series 1\.2\.1: its fetch was cancelled"),
        cache.holding(series(cache), cancelled=lambda: len(archive.fetched) >= fetched_before),
    ):
        pass
    with cache.holding(series(cache)):  # blocks if a lock is still held
        assert read_ct(series(cache)).geometry.shape[0] == SLICES


@pytest.mark.parametrize("held_as", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_waiting_for_a_lock_can_be_cancelled(archive: Archive, held_as: int) -> None:
    cache = cache_of(archive)
    folder = cache.folder_of("1.2.1")
    folder.mkdir(parents=True)
    looks = iter([False, False, True])
    with (folder / "lock").open("w") as other:
        fcntl.flock(other, held_as)
        with pytest.raises(FetchCancelledError), cache.holding(series(cache), cancelled=lambda: next(looks)):
            pass
    assert archive.fetched == []
