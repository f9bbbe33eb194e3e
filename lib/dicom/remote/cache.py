"""Local cache of series of a PACS: fetched on demand, complete or not used, least recently used evicted first.

Files are CACHE/<SeriesInstanceUID>/<SOPInstanceUID>.dcm, each written under a temporary name and validated before it
is renamed. `whole.json` is written last and lists the files with their sizes: without it, or if sizes differ, the
series is incomplete and missing instances are fetched. Several processes may share a cache: readers and fetchers of a
series hold a lock on it, which ends with the process, and locked series are not evicted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path
from typing import NamedTuple

from lib.dicom.attributes.transfer_syntax import is_plain_encoding
from lib.dicom.read.header import read_header
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.remote.budget import InvalidResponseError, ResponseTooLargeError
from lib.dicom.remote.daemon_pool import DaemonPool
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import CONNECTIONS
from lib.errors import DicomError, FetchCancelledError, RemoteError
from lib.files import write_text
from lib.types import Series, never_cancelled

logger = logging.getLogger(__name__)

COMPLETE, LOCK, UNFINISHED = "whole.json", "lock", ".part"
POLL_INTERVAL_S = 0.2  # between two checks of a lock or of cancellation
SERIES_TIMEOUT_S, SLICE_TIMEOUT_S = 180.0, 2.0  # of an entire series: 300 slices may take 13 minutes
MAX_ATTEMPTS = 2  # of a damaged instance
FILE_TIME_NS = (
    946684800 * 10**9
)  # modification time of fetched files, constant so that prepared arrays recognise a series fetched again


class _CachedSeries(NamedTuple):
    used_ns: int
    size: int
    folder: Path


class SeriesCache:
    """The cache of a PACS of at most `limit_bytes`; only series in use at the same time can exceed it."""

    def __init__(self, folder: Path, pacs: Pacs, *, limit_bytes: int) -> None:
        self.folder = folder
        self._pacs = pacs
        self._limit_bytes = limit_bytes

    def folder_of(self, series_uid: str) -> Path:
        """Return the folder of a series, whether it exists or not."""
        return self.folder / series_uid

    @contextlib.contextmanager
    def holding(self, *series: Series, cancelled: Callable[[], bool] = never_cancelled) -> Iterator[None]:
        """Keep all files of series in the cache during the context, after fetching missing ones.

        Args:
            series: The series needed in the context.
            cancelled: Returns whether the request has been cancelled; polled by the calling thread while it waits.

        Raises:
            FetchCancelledError: `cancelled` returned True; locks are released, fetched instances are kept.
            DicomError: The PACS no longer has a series, or sends other instances.
            RemoteError: The PACS cannot be reached, or the cache cannot be written. Fetched instances are kept.
        """
        with contextlib.ExitStack() as locks:
            for one in series:
                locks.enter_context(self._holding(one, cancelled))
            yield

    @contextlib.contextmanager
    def _holding(self, series: Series, cancelled: Callable[[], bool]) -> Iterator[None]:
        folder = self.folder_of(series.uid)
        limits = _Limits(series, cancelled)
        fetched = False
        while True:
            with _locked(folder, limits, is_shared=True):
                if _is_complete(folder, series):
                    os.utime(folder / COMPLETE)  # time of last use
                    if fetched:
                        self._evict(0)
                    yield
                    return
            # it may be evicted before the lock above: hence the loop
            with _locked(folder, limits, is_shared=False):
                if not _is_complete(folder, series):
                    self._fetch(folder, series, limits)
                    fetched = True

    def _fetch(self, folder: Path, series: Series, limits: _Limits) -> None:
        sizes = _sizes(folder)
        missing = [path for path in series.files if not _is_instance(path, series, size=sizes.get(path.name))]
        logger.info("series %s: fetching %d of %d instances", series.uid, len(missing), len(series.files))
        try:
            for other in {*folder.iterdir()} - {*series.files, folder / LOCK}:
                other.unlink()  # of a killed download, or no longer in the series
            if missing:  # the first one indicates the size of the others
                self._fetch_together(missing[:1], series, limits)
                self._evict(missing[0].stat().st_size * len(missing[1:]))
                self._fetch_together(missing[1:], series, limits)
            write_text(folder / COMPLETE, json.dumps({path.name: path.stat().st_size for path in series.files}))
        except OSError as error:
            raise RemoteError(
                f"{folder}: cannot be written ({error.strerror}); free space, or choose another place for the cache"
            ) from error

    def _fetch_together(self, paths: list[Path], series: Series, limits: _Limits) -> None:
        """Fetch instances over several connections; only this thread polls `cancelled`."""
        ended = threading.Event()
        with DaemonPool(min(CONNECTIONS, len(paths)), "wado") as pool:
            pending = {pool.submit(self._fetch_instance, path, series, limits.deadline, ended.is_set) for path in paths}
            try:
                while pending:
                    done, pending = wait(pending, timeout=POLL_INTERVAL_S, return_when=FIRST_EXCEPTION)
                    for fetched in done:
                        fetched.result()
                    limits.check()
            except BaseException:
                ended.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch_instance(self, path: Path, series: Series, deadline: float, cancelled: Callable[[], bool]) -> None:
        partial_path = path.with_suffix(UNFINISHED)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                self._pacs.fetch(
                    series.study_uid, series.uid, path.stem, partial_path, cancelled=cancelled, deadline=deadline
                )
                os.utime(partial_path, ns=(FILE_TIME_NS, FILE_TIME_NS))
                _check(partial_path, path.stem, series)
                partial_path.replace(path)
                return
            except (DicomError, InvalidResponseError) as error:  # the session has retried other errors
                if attempt == MAX_ATTEMPTS or isinstance(error, ResponseTooLargeError):
                    raise
            finally:
                partial_path.unlink(missing_ok=True)

    def _evict(self, needed_bytes: int) -> None:
        """Evict the least recently used series until the others and the needed bytes fit."""
        cached = sorted(_cached_series(self.folder))
        size = sum(one.size for one in cached) + needed_bytes
        for one in cached:
            if size <= self._limit_bytes:
                return
            with contextlib.suppress(BlockingIOError), _locked_now(one.folder, is_shared=False):
                (one.folder / COMPLETE).unlink(
                    missing_ok=True
                )  # first, so that a series is incomplete if the process is killed here
                for path in one.folder.iterdir():
                    if path.name != LOCK:
                        path.unlink()
                size -= one.size
                logger.info("series %s: evicted from the cache, %.0f MB", one.folder.name, one.size / 1e6)


class _Limits:
    """The time limit and the cancellation of one caller that waits for a series."""

    def __init__(self, series: Series, cancelled: Callable[[], bool]) -> None:
        self._uid = series.uid
        self._cancelled = cancelled
        self._timeout_s = SERIES_TIMEOUT_S + SLICE_TIMEOUT_S * series.slice_count
        self.deadline = time.monotonic() + self._timeout_s

    def check(self) -> None:
        """Raise FetchCancelledError or RemoteError if the caller has cancelled or the time is over."""
        if self._cancelled():
            raise FetchCancelledError(f"series {self._uid}: its fetch was cancelled; what arrived is kept")
        if time.monotonic() > self.deadline:
            raise RemoteError(
                f"series {self._uid}: has not come within {self._timeout_s:.0f} s; what arrived is kept, try again. "
                "Is the PACS busy?"
            )


@contextlib.contextmanager
def _locked(folder: Path, limits: _Limits, *, is_shared: bool) -> Iterator[None]:
    """Hold a lock, waiting for it within limits, since its holder may wait for the PACS."""
    while True:
        limits.check()
        with contextlib.ExitStack() as locks:
            try:
                locks.enter_context(_locked_now(folder, is_shared=is_shared))
            except BlockingIOError:
                time.sleep(POLL_INTERVAL_S)
                continue
            yield
            return


@contextlib.contextmanager
def _locked_now(folder: Path, *, is_shared: bool) -> Iterator[None]:
    """Hold a lock without waiting.

    The lock file is not removed, because a lock on a removed file has no effect.

    Raises:
        BlockingIOError: Another holder excludes it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RemoteError(
            f"{folder}: cannot be written ({error.strerror}); choose another place for the cache"
        ) from error
    try:
        _lock(handle, is_shared=is_shared)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, *, is_shared: bool) -> None:
    if sys.platform == "win32":  # readers of a series wait for each other there
        from filelock import lock_descriptor

        if not lock_descriptor(handle, blocking=False):
            raise BlockingIOError
    else:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file of a series that was complete; empty if it was not."""
    try:
        return {str(name): int(size) for name, size in json.loads((folder / COMPLETE).read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # missing, damaged, or of another version
        return {}


def _is_complete(folder: Path, series: Series) -> bool:
    sizes = _sizes(folder)
    if set(sizes) != {path.name for path in series.files}:
        return False
    try:
        return all(path.stat().st_size == sizes[path.name] for path in series.files)
    except OSError:
        return False


def _is_instance(path: Path, series: Series, *, size: int | None) -> bool:
    try:
        _check(path, path.stem, series)
        return size is None or path.stat().st_size == size
    except (OSError, DicomError):
        return False


def _check(path: Path, sop_uid: str, series: Series) -> None:
    """Raise DicomError if a file is damaged, truncated, or another instance than its name."""
    header = read_header(path)
    if not header.shared.rows:
        raise DicomError(f"series {series.uid}: instance {sop_uid} is truncated or not an image")
    if not is_plain_encoding(header.shared.transfer_syntax_uid):
        _refuse_truncated(path)
    if (header.sop_instance_uid, header.shared.series_instance_uid) != (sop_uid, series.uid):
        raise DicomError(
            f"series {series.uid}: requested instance {sop_uid}, the PACS sent {header.sop_instance_uid} of series "
            f"{header.shared.series_instance_uid}"
        )


def _refuse_truncated(path: Path) -> None:
    try:
        read_instance_file(path, with_pixels=True)
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged or truncated ({error})") from error


def _cached_series(folder: Path) -> Iterator[_CachedSeries]:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # evicted by another process
            files = [path.stat() for path in entry.iterdir() if path.name != LOCK]
            if files:
                complete = entry / COMPLETE
                used = complete.stat().st_mtime_ns if complete.exists() else (entry / LOCK).stat().st_mtime_ns
                yield _CachedSeries(used, sum(status.st_size for status in files), entry)
