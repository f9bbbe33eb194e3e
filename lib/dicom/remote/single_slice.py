"""One slice of a series of a PACS, for a preview: one instance is fetched, and removed after it has been read."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.dicom.remote.pacs import Pacs
from lib.types import Series, SliceSource, never_cancelled

TIMEOUT_S = 15.0  # a preview that takes longer is of no use
MAX_BYTES = 2**25  # an uncompressed slice of 4,096 x 4,096; a multi-frame instance may hold the whole CT


@contextlib.contextmanager
def fetched_slice(
    pacs: Pacs, series: Series, source: SliceSource, *, cancelled: Callable[[], bool] = never_cancelled
) -> Iterator[SliceSource]:
    """Yield where the file of one slice is on this machine until the context ends. The caller validates it.

    Args:
        pacs: The DICOMweb client.
        series: The series.
        source: The slice, whose file is named after its SOPInstanceUID.
        cancelled: Returns whether the request has been cancelled.

    Raises:
        DicomError: The instance is no longer in the PACS.
        FetchCancelledError: `cancelled` returned True.
        RemoteError: The PACS cannot be reached, or exceeds the limits of a preview.
    """
    with tempfile.TemporaryDirectory(prefix="ct2pet-slice-") as folder:
        path = Path(folder, source.path.name)
        pacs.fetch(
            series.study_uid,
            series.uid,
            source.path.stem,
            path,
            cancelled=cancelled,
            deadline=time.monotonic() + TIMEOUT_S,
            max_bytes=MAX_BYTES,
        )
        yield SliceSource(path, source.frame)
