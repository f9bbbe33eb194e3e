"""The CTs of a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.json_fields import as_int, as_mapping, as_str, parse_json, require


@dataclass(frozen=True)
class Study:
    """A CT of the server.

    Attributes:
        image_id: SeriesInstanceUID, or the id of an uploaded CT.
        date: YYYYMMDD, or empty.
        matrix: (rows, columns).
        spacing_mm: (slices, rows, columns).
        has_real_pet: Whether the CT is paired with a measured PET; if not, `why_no_pet` gives the reason.
        uploaded: Whether a client uploaded the CT; otherwise it is one of the server's studies.
    """

    image_id: str
    patient_id: str = ""
    date: str = ""
    description: str = ""
    study_instance_uid: str = ""
    slices: int = 0
    matrix: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    has_real_pet: bool = False
    why_no_pet: str = ""
    uploaded: bool = False
    warnings: tuple[str, ...] = ()


def read_studies(content: bytes) -> tuple[Study, ...]:
    """Return the studies in the response of ``GET /datastore/?output=all``, newest first.

    Raises:
        InvalidResponseError: The response has another structure.
    """
    objects = as_mapping(require(parse_json(content), "objects"))
    studies = [read_study(name, as_mapping(as_mapping(of).get("image")).get("info")) for name, of in objects.items()]
    return tuple(sorted(studies, key=lambda study: (study.date, study.patient_id), reverse=True))


def read_study(image_id: str, info: Any) -> Study:
    """Return a study from the server's information on a CT."""
    data = as_mapping(info)
    return Study(
        image_id=image_id,
        patient_id=as_str(data.get("patient_id")),
        date=as_str(data.get("study_date")),
        description=as_str(data.get("description")),
        study_instance_uid=as_str(data.get("study_instance_uid")),
        slices=as_int(data.get("slices")),
        matrix=tuple(int(size) for size in data.get("matrix") or ()),
        spacing_mm=tuple(float(size) for size in data.get("spacing_mm") or ()),
        has_real_pet=bool(data.get("pet")),
        why_no_pet=as_str(data.get("why_no_pet")),
        uploaded=bool(data.get("uploaded")),
        warnings=tuple(as_str(warning) for warning in data.get("warnings") or ()),
    )
