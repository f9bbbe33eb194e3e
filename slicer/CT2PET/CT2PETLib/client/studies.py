"""The CTs that a server has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.json_fields import count, mapping, must, plain, word


@dataclass(frozen=True)
class Study:
    """A CT that the server has.

    Attributes:
        image_id: SeriesInstanceUID, or the id under which it was sent.
        date: YYYYMMDD, or empty.
        slices, matrix, spacing_mm: (rows, columns); (slices, rows, columns).
        has_real_pet: Whether it is paired; else `why_no_pet`.
        uploaded: Sent by a client, rather than found among the studies.
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
    """Return what ``GET /datastore/?output=all`` tells, newest first.

    Raises:
        AnswerError: It is not understood.
    """
    objects = mapping(must(plain(content), "objects"))
    studies = [read_study(name, mapping(mapping(of).get("image")).get("info")) for name, of in objects.items()]
    return tuple(sorted(studies, key=lambda study: (study.date, study.patient_id), reverse=True))


def read_study(image_id: str, info: Any) -> Study:
    """Return what the server tells of one CT."""
    told = mapping(info)
    return Study(
        image_id=image_id,
        patient_id=word(told.get("patient_id")),
        date=word(told.get("study_date")),
        description=word(told.get("description")),
        study_instance_uid=word(told.get("study_instance_uid")),
        slices=count(told.get("slices")),
        matrix=tuple(int(size) for size in told.get("matrix") or ()),
        spacing_mm=tuple(float(size) for size in told.get("spacing_mm") or ()),
        has_real_pet=bool(told.get("pet")),
        why_no_pet=word(told.get("why_no_pet")),
        uploaded=bool(told.get("uploaded")),
        warnings=tuple(word(warning) for warning in told.get("warnings") or ()),
    )
