"""Parsing of series lists (QIDO-RS) and instance metadata (WADO-RS) from untrusted DICOM JSON.

An invalid row or instance is skipped or reported; the others are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from lib.dicom.instance_header import InstanceHeader
from lib.dicom.remote.bulk_data import omitted_paths
from lib.dicom.remote.json_header import slice_headers_from_json
from lib.dicom.remote.json_items import json_items
from lib.dicom.remote.session import ResponseBody
from lib.errors import DicomError

UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
COUNT = re.compile(r"[0-9]{1,7}")
MAX_SERIES = 100_000  # of one modality; limits the memory of their headers
MAX_INSTANCES = 50_000  # of a series; a gated whole-body PET has about 10,000
MAX_LEFT_OUT_BYTES = 2**24  # metadata of a series kept until omitted values are fetched
SERIES_UID, STUDY_UID, MODALITY, INSTANCES, SOP_UID = "0020000E", "0020000D", "00080060", "00201209", "00080018"
Headers = tuple[InstanceHeader, ...]


@dataclass(frozen=True)
class RemoteSeries:
    """A series in a QIDO-RS response; `instances` is 0 if unknown and increases while the PACS receives the series."""

    uid: str
    study_uid: str
    modality: str
    instances: int


def series_rows(body: ResponseBody) -> list[RemoteSeries | None]:
    """Return the series of each QIDO-RS row; None for an invalid row."""
    rows = []
    for item in json_items(body.chunks()):
        rows.append(_series(item))
        if len(rows) > MAX_SERIES:
            raise ValueError(f"more than {MAX_SERIES} rows")
    return rows


def instance_rows(body: ResponseBody) -> list[str]:
    """Return the SOPInstanceUID of each QIDO-RS row of instances; rows without a valid one are left out."""
    uids = (first_value(item, SOP_UID) for item in json_items(body.chunks()))
    return [uid for uid in uids if UID.fullmatch(uid)]


def headers_of_items(
    items: Iterable[Any], series: RemoteSeries, folder: Path
) -> Iterator[Headers | str | Mapping[str, Any]]:
    """Yield the headers of each instance, or its DICOM JSON if that omits a selected value."""
    kept = 0
    for number, instance in enumerate(items, start=1):
        if number > MAX_INSTANCES:
            raise ValueError(f"more than {MAX_INSTANCES} instances")
        if isinstance(instance, Mapping) and omitted_paths(instance):
            kept += len(repr(instance))
            if kept > MAX_LEFT_OUT_BYTES:
                raise ValueError(f"more than {MAX_LEFT_OUT_BYTES / 1e6:.0f} MB of instances with omitted values")
            yield instance
        else:
            yield headers_of_instance(instance, series, folder, None)


def headers_of_instance(instance: Any, series: RemoteSeries, folder: Path, full: Dataset | None) -> Headers | str:
    """Return the headers of an instance's slices, or why there are none; `full` has values that its JSON omits."""
    uid = first_value(instance, SOP_UID)
    if not UID.fullmatch(uid):
        return "an instance whose SOPInstanceUID is missing or not a UID"
    try:
        headers = slice_headers_from_json(instance, str(folder / f"{uid}.dcm"), full=full)
    except DicomError as error:
        return str(error)
    other = headers[0].shared.series_instance_uid != series.uid
    return f"{uid}: sent for series {series.uid}, but belongs to another" if other else headers


def _series(row: Any) -> RemoteSeries | None:
    """Return the series of a QIDO-RS row; None for an invalid row."""
    uid, study_uid = first_value(row, SERIES_UID), first_value(row, STUDY_UID)
    if not UID.fullmatch(uid) or not UID.fullmatch(study_uid):
        return None
    count = first_value(row, INSTANCES)
    return RemoteSeries(uid, study_uid, first_value(row, MODALITY)[:16], int(count) if COUNT.fullmatch(count) else 0)


def first_value(elements: Any, tag: str) -> str:
    """Return the first value of an element of DICOM JSON as text; empty if there is none or the JSON is invalid."""
    element = elements.get(tag) if isinstance(elements, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    value = values[0] if isinstance(values, list) and values else ""
    return str(value) if isinstance(value, (str, int)) else ""
