"""Checks of attributes that must be equal in all slices of a series."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from lib.dicom.instance_header import InstanceHeader, PetHeader, shared_headers
from lib.dicom.read.slice_order import order_stack
from lib.errors import DicomError, SliceOrderError

MAX_LISTED = 4  # values or attributes listed in a message
NOT_COMPARED = frozenset({"malformed", "undelivered"})


def refuse_mixed_series(headers: Sequence[InstanceHeader]) -> None:
    """Raise if the files do not share one modality, study and patient.

    Raises:
        DicomError: They do not; the message does not name the patient.
    """
    distinct = shared_headers(headers)
    modalities = sorted({shared.modality for shared in distinct})
    if len(modalities) > 1:
        raise DicomError(f"its files have several modalities ({', '.join(modalities)}), expected one")
    studies = sorted({shared.study_instance_uid for shared in distinct})
    if len(studies) > 1:
        raise DicomError(f"its files belong to {len(studies)} studies ({_few(studies)}), expected one")
    patients = len({shared.patient_id for shared in distinct})
    if patients > 1:
        raise DicomError(f"its files have {patients} different PatientIDs, expected one")


def refuse_mixed_stack(headers: Sequence[InstanceHeader]) -> None:
    """Raise if slices do not share one frame of reference and one RescaleType.

    Raises:
        SliceOrderError: They do not.
    """
    frames = Counter(header.shared.frame_of_reference_uid for header in headers)
    if len(frames) > 1:
        without = frames.pop("", 0)
        if without:
            raise SliceOrderError(
                f"FrameOfReferenceUID is missing in {without} of {len(headers)} slices: their positions cannot be "
                "compared with those of the others"
            )
        parts = ", ".join(f"{count} slices in {uid}" for uid, count in sorted(frames.items())[:MAX_LISTED])
        raise SliceOrderError(
            f"{len(frames)} frames of reference in one series ({parts}): their positions cannot be compared; send one"
        )
    types = sorted({shared.rescale_type for shared in shared_headers(headers) if shared.modality == "CT"} - {""})
    if len(types) > 1:
        raise SliceOrderError(f"slices of RescaleType {' and '.join(types)} in one stack, expected one")


def rejoin_split_series(groups: Iterable[Sequence[InstanceHeader]]) -> list[Sequence[InstanceHeader]]:
    """Return groups of headers, with groups of one SeriesInstanceUID merged if together they form one stack.

    Otherwise, half of a series under another PatientID would be used as a smaller series. Two complete series that
    share a UID, as some anonymisers leave them, do not form one stack and stay separate.
    """
    by_uid: dict[str, list[Sequence[InstanceHeader]]] = {}
    for group in groups:
        by_uid.setdefault(group[0].shared.series_instance_uid, []).append(group)
    joined: list[Sequence[InstanceHeader]] = []
    for parts in by_uid.values():
        together = [header for part in parts for header in part]
        joined += [together] if len(parts) > 1 and _is_one_stack(together) else parts
    return joined


def _is_one_stack(headers: Sequence[InstanceHeader]) -> bool:
    try:
        refuse_mixed_stack(headers)
        order_stack(headers)
    except SliceOrderError:
        return False
    return True


def differing_attributes(pets: Iterable[PetHeader]) -> str:
    """Return the names of the attributes in which PET headers differ, as text."""
    headers = list(pets)
    names = [
        field.name
        for field in dataclasses.fields(PetHeader)
        if len({getattr(header, field.name) for header in headers}) > 1 and field.name not in NOT_COMPARED
    ]
    return _few(names) or "value representation"


def _few(values: Sequence[str]) -> str:
    return ", ".join(values[:MAX_LISTED]) + (", ..." if len(values) > MAX_LISTED else "")
