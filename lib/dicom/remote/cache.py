"""Series of a PACS on this machine's disk: fetched when they are needed, whole or not at all, oldest out first.

CACHE/<SeriesInstanceUID>/<SOPInstanceUID>.dcm, each written beside its name and checked before it takes it.
`whole.json` is written last and lists the files with their sizes: without it, or where they differ, the series does not
count and what is missing is fetched. Several processes may share a cache: whoever reads or fetches a series holds a
lock on it, which ends with the process, and what is held is not thrown out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
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

WHOLE, LOCK, UNFINISHED = "whole.json", "lock", ".part"
POLL_INTERVAL_S = 0.2  # between two looks at whether a lock is free, or the fetch is cancelled
SERIES_TIMEOUT_S, SLICE_TIMEOUT_S = 180.0, 2.0  # of a whole series: 300 slices may take 13 minutes
BROKEN_ATTEMPTS = 2  # of an instance that arrives damaged
ANY_DAY_NS = 946684800 * 10**9  # of fetched files: fetched again, a series looks the same to whoever prepared it


class _Kept(NamedTuple):
    used_ns: int
    size: int
    folder: Path


class SeriesCache:
    """The cache of a PACS at most `limit_bytes` large; only series in use at the same time can make it larger."""

    def __init__(self, folder: Path, pacs: Pacs, *, limit_bytes: int) -> None:
        self.folder = folder
        self._pacs = pacs
        self._limit_bytes = limit_bytes

    def folder_of(self, series_uid: str) -> Path:
        """Return where a series lies, or will lie."""
        return self.folder / series_uid

    @contextlib.contextmanager
    def holding(self, *series: Series, cancelled: Callable[[], bool] = never_cancelled) -> Iterator[None]:
        """Keep all files of these series at hand; those that are not there are fetched first.

        Args:
            series: What is needed inside the context.
            cancelled: Whether nobody needs it any more; polled by the calling thread while it waits or fetches.

        Raises:
            FetchCancelledError: `cancelled` returned True; the locks are free again, what was fetched is kept.
            DicomError: The PACS no longer has a series, or what it sends is not what it should be.
            RemoteError: The PACS cannot be asked, or the cache cannot be written. What was fetched is kept.
        """
        with contextlib.ExitStack() as held:
            for one in series:
                held.enter_context(self._holding(one, cancelled))
            yield

    @contextlib.contextmanager
    def _holding(self, series: Series, cancelled: Callable[[], bool]) -> Iterator[None]:
        folder = self.folder_of(series.uid)
        limits = _Limits(series, cancelled)
        fetched = False
        while True:
            with _locked(folder, fcntl.LOCK_SH, limits):
                if _is_whole(folder, series):
                    os.utime(folder / WHOLE)  # used now
                    if fetched:
                        self._throw_out(0)
                    yield
                    return
            # it may be thrown out again before the lock above: hence the loop
            with _locked(folder, fcntl.LOCK_EX, limits):
                if not _is_whole(folder, series):
                    self._fetch(folder, series, limits)
                    fetched = True

    def _fetch(self, folder: Path, series: Series, limits: _Limits) -> None:
        sizes = _sizes(folder)
        missing = [path for path in series.files if not _is_instance(path, series, size=sizes.get(path.name))]
        logger.info("series %s: fetching %d of %d instances", series.uid, len(missing), len(series.files))
        try:
            for stranger in {*folder.iterdir()} - {*series.files, folder / LOCK}:
                stranger.unlink()  # of a killed download, or no longer of the series
            if missing:  # the first one tells how large the others will be
                self._fetch_together(missing[:1], series, limits)
                self._throw_out(missing[0].stat().st_size * len(missing[1:]))
                self._fetch_together(missing[1:], series, limits)
            write_text(folder / WHOLE, json.dumps({path.name: path.stat().st_size for path in series.files}))
        except OSError as error:
            raise RemoteError(
                f"{folder}: cannot be written ({error.strerror}); free space, or choose another place for the cache"
            ) from error

    def _fetch_together(self, paths: list[Path], series: Series, limits: _Limits) -> None:
        """Fetch instances over several connections; this thread alone asks whether it is cancelled."""
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
        beside = path.with_suffix(UNFINISHED)
        for attempt in range(1, BROKEN_ATTEMPTS + 1):
            try:
                self._pacs.fetch(
                    series.study_uid, series.uid, path.stem, beside, cancelled=cancelled, deadline=deadline
                )
                os.utime(beside, ns=(ANY_DAY_NS, ANY_DAY_NS))
                _check(beside, path.stem, series)
                beside.replace(path)
                return
            except (DicomError, InvalidResponseError) as error:  # of other trouble the session has made sure
                if attempt == BROKEN_ATTEMPTS or isinstance(error, ResponseTooLargeError):
                    raise
            finally:
                beside.unlink(missing_ok=True)

    def _throw_out(self, needed_bytes: int) -> None:
        """Throw out the series that were used longest ago until the rest and what is needed fit."""
        kept = sorted(_kept(self.folder))
        size = sum(one.size for one in kept) + needed_bytes
        for one in kept:
            if size <= self._limit_bytes:
                return
            with contextlib.suppress(BlockingIOError), _locked_now(one.folder, fcntl.LOCK_EX):
                (one.folder / WHOLE).unlink(missing_ok=True)  # first: killed here, the rest does not count
                for path in one.folder.iterdir():
                    if path.name != LOCK:
                        path.unlink()
                size -= one.size
                logger.info("series %s: out of the cache, %.0f MB", one.folder.name, one.size / 1e6)


class _Limits:
    """How long a series may be waited for, by one caller; and whether that one still waits."""

    def __init__(self, series: Series, cancelled: Callable[[], bool]) -> None:
        self._uid = series.uid
        self._cancelled = cancelled
        self._timeout_s = SERIES_TIMEOUT_S + SLICE_TIMEOUT_S * series.slice_count
        self.deadline = time.monotonic() + self._timeout_s

    def check(self) -> None:
        """Return while it may still be waited for."""
        if self._cancelled():
            raise FetchCancelledError(f"series {self._uid}: its fetch was cancelled; what arrived is kept")
        if time.monotonic() > self.deadline:
            raise RemoteError(
                f"series {self._uid}: has not come within {self._timeout_s:.0f} s; what arrived is kept, try again. "
                "Is the PACS busy?"
            )


@contextlib.contextmanager
def _locked(folder: Path, how: int, limits: _Limits) -> Iterator[None]:
    """Hold a lock, waited for within limits: whoever holds it may be waiting for the PACS."""
    while True:
        limits.check()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(_locked_now(folder, how))
            except BlockingIOError:
                time.sleep(POLL_INTERVAL_S)
                continue
            yield
            return


@contextlib.contextmanager
def _locked_now(folder: Path, how: int) -> Iterator[None]:
    """Hold a lock; BlockingIOError where another holder excludes it.

    Its file stays, because a lock on a removed file keeps nobody out.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RemoteError(
            f"{folder}: cannot be written ({error.strerror}); choose another place for the cache"
        ) from error
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size of each file of a series that was whole; empty where it was not."""
    try:
        return {str(name): int(size) for name, size in json.loads((folder / WHOLE).read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # not there, torn, or of another version
        return {}


def _is_whole(folder: Path, series: Series) -> bool:
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
    """Refuse a file that is damaged, truncated, or another instance than it is called."""
    header = read_header(path)
    if not header.shared.rows:
        raise DicomError(f"series {series.uid}: instance {sop_uid} is truncated, or no image")
    if not is_plain_encoding(header.shared.transfer_syntax_uid):
        _read_to_the_end(path)
    if (header.sop_instance_uid, header.shared.series_instance_uid) != (sop_uid, series.uid):
        raise DicomError(
            f"series {series.uid}: asked for instance {sop_uid}, the PACS sent {header.sop_instance_uid} of series "
            f"{header.shared.series_instance_uid}"
        )


def _read_to_the_end(path: Path) -> None:
    try:
        read_instance_file(path, with_pixels=True)
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged or truncated ({error})") from error


def _kept(folder: Path) -> Iterator[_Kept]:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # thrown out by another process meanwhile
            files = [path.stat() for path in entry.iterdir() if path.name != LOCK]
            if files:
                whole = entry / WHOLE
                used = whole.stat().st_mtime_ns if whole.exists() else (entry / LOCK).stat().st_mtime_ns
                yield _Kept(used, sum(status.st_size for status in files), entry)
