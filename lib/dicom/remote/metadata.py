"""What a PACS lists (QIDO-RS) and tells of its series (WADO-RS metadata), out of DICOM JSON that may hold anything.

A row or an instance that is none costs itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from lib.dicom.instance_header import InstanceHeader
from lib.dicom.remote.bulk_data import left_out
from lib.dicom.remote.json_header import slice_headers_from_json
from lib.dicom.remote.json_items import json_items
from lib.dicom.remote.session import ResponseBody
from lib.errors import DicomError

UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
COUNT = re.compile(r"[0-9]{1,7}")
MAX_SERIES = 100_000  # of one modality: their headers would fill the memory
MAX_INSTANCES = 50_000  # of a series; a gated PET of a whole body has some 10,000
MAX_LEFT_OUT_BYTES = 2**24  # of metadata of a series that is kept until what it leaves out is fetched
SERIES_UID, STUDY_UID, MODALITY, INSTANCES, SOP_UID = "0020000E", "0020000D", "00080060", "00201209", "00080018"
Headers = tuple[InstanceHeader, ...]


@dataclass(frozen=True)
class RemoteSeries:
    """A series as QIDO-RS tells of it; `instances` grows while it arrives, and is 0 where the PACS does not count."""

    uid: str
    study_uid: str
    modality: str
    instances: int


def series_rows(body: ResponseBody) -> list[RemoteSeries | None]:
    """Return the series of each QIDO-RS row; None where it is none."""
    rows = []
    for item in json_items(body.chunks()):
        rows.append(_series(item))
        if len(rows) > MAX_SERIES:
            raise ValueError(f"more than {MAX_SERIES} rows")
    return rows


def headers_of_items(
    items: Iterable[Any], series: RemoteSeries, folder: Path
) -> Iterator[Headers | str | Mapping[str, Any]]:
    """Yield the headers of each instance; its DICOM JSON where that leaves out a value that is wanted."""
    kept = 0
    for number, instance in enumerate(items, start=1):
        if number > MAX_INSTANCES:
            raise ValueError(f"more than {MAX_INSTANCES} instances")
        if isinstance(instance, Mapping) and left_out(instance):
            kept += len(repr(instance))
            if kept > MAX_LEFT_OUT_BYTES:
                raise ValueError(f"more than {MAX_LEFT_OUT_BYTES / 1e6:.0f} MB of instances that leave out values")
            yield instance
        else:
            yield headers_of_instance(instance, series, folder, None)


def headers_of_instance(instance: Any, series: RemoteSeries, folder: Path, whole: Dataset | None) -> Headers | str:
    """Return the headers of an instance's slices, or why it has none; `whole` holds what its DICOM JSON leaves out."""
    uid = first_value(instance, SOP_UID)
    if not UID.fullmatch(uid):
        return "an instance whose SOPInstanceUID is missing or no UID"
    try:
        headers = slice_headers_from_json(instance, str(folder / f"{uid}.dcm"), whole=whole)
    except DicomError as error:
        return str(error)
    other = headers[0].shared.series_instance_uid != series.uid
    return f"{uid}: sent as of series {series.uid}, and is of another" if other else headers


def _series(row: Any) -> RemoteSeries | None:
    """Return the series of a QIDO-RS row; None where it is none."""
    uid, study_uid = first_value(row, SERIES_UID), first_value(row, STUDY_UID)
    if not UID.fullmatch(uid) or not UID.fullmatch(study_uid):
        return None
    count = first_value(row, INSTANCES)
    return RemoteSeries(uid, study_uid, first_value(row, MODALITY)[:16], int(count) if COUNT.fullmatch(count) else 0)


def first_value(elements: Any, tag: str) -> str:
    """Return the first value of an element of DICOM JSON as text; empty where there is none, or no DICOM JSON."""
    element = elements.get(tag) if isinstance(elements, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    value = values[0] if isinstance(values, list) and values else ""
    return str(value) if isinstance(value, (str, int)) else ""
