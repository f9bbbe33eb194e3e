"""Responses of a PACS that it does not have what it listed before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lib.dicom.remote.session import HttpStatusError
from lib.errors import DicomError

NOT_FOUND_STATUSES = frozenset({404, 410})


@contextlib.contextmanager
def removed_is_dicom_error(what: str) -> Iterator[None]:
    """Convert a "not found" response for something listed before to a DicomError."""
    try:
        yield
    except HttpStatusError as error:
        if error.status in NOT_FOUND_STATUSES:
            raise DicomError(f"{what} is no longer in the PACS ({error.status})") from error
        raise
