"""Metadata of series and pairs for clients: IDs and numbers, never a patient's name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ct2pet_app.datastore.study_index import StudyIndex
from ct2pet_app.errors import NotFoundError
from lib.dicom.scan.scan import ScannedSeries
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.check_cache import Checked
from lib.pairing.split_file import Assignment


def describe_ct(found: ScannedSeries, listing: StudyIndex) -> dict[str, Any]:
    """Return the metadata of a CT series."""
    series = found.series
    paired = listing.pairs.get(series.uid)
    return {
        "patient_id": series.patient_id,
        "study_instance_uid": series.study_uid,
        "series_instance_uid": series.uid,
        "study_date": found.study_date,
        "description": series.description,
        "slices": series.slice_count,
        "matrix": found.matrix,
        "spacing_mm": found.spacing_mm,
        "warnings": list(found.warnings),
        "pet": None if paired is None else describe_pet(paired),
        "why_no_pet": None if paired is not None else listing.why_unpaired.get(series.uid, "no PET in its study"),
    }


def describe_pet(paired: PairedSeries) -> dict[str, Any]:
    """Return the metadata of the PET of a pair."""
    pet = paired.pet
    return {
        "study_instance_uid": pet.series.study_uid,
        "series_instance_uid": pet.series.uid,
        "description": pet.series.description,
        "slices": pet.series.slice_count,
        "matrix": pet.matrix,
        "spacing_mm": pet.spacing_mm,
        "suv": pet.suv,
        "paired_because": paired.reason,
    }


def describe_pair(
    paired: PairedSeries, checked: Checked | None, assignment: Assignment | None, warning: str | None
) -> dict[str, Any]:
    """Return the metadata of a pair: its patient, its side of the split, and its check."""
    pair = paired.pair
    if checked is None:
        result: dict[str, Any] = {"result": "unchecked"}
    else:
        verdict = "plausible" if checked.check.ok else "accepted" if checked.accepted else "implausible"
        details = {name: value for name, value in asdict(checked.check).items() if name not in ("ok", "shift")}
        result = {"result": verdict, **details, "reasons": list(checked.check.reasons), **checked.check.shift.as_json()}
    return {
        "patient_id": pair.ct.patient_id,
        "study_instance_uid": pair.pet.study_uid,
        "ct_study_instance_uid": pair.ct.study_uid,
        "ct_series_instance_uid": pair.ct.uid,
        "pet_series_instance_uid": pair.pet.uid,
        "paired_because": paired.reason,
        "ct_minutes_after_pet": paired.ct_minutes_after_pet,
        "side": None if assignment is None else assignment.side,
        "side_since": None if assignment is None else assignment.assigned_utc,
        "side_decided_by": None if assignment is None else assignment.decided_by,
        "check": result,
        "warning": warning,
    }


def describe_series(found: ScannedSeries, listing: StudyIndex) -> dict[str, Any]:
    """Return the metadata of any series: whether it is usable, and why it is not paired."""
    series = found.series
    return {
        "patient_id": series.patient_id,
        "study_instance_uid": series.study_uid,
        "series_instance_uid": series.uid,
        "modality": series.modality,
        "description": series.description,
        "files": len(series.files),
        "usable": found.is_usable,
        "why_not": found.reason,
        "why_unpaired": listing.why_unpaired.get(series.uid),
        "warnings": list(found.warnings),
    }


def no_image(image_id: str, listing: StudyIndex) -> NotFoundError:
    """Return the error of an id that is not one of the images."""
    found = listing.report.find(image_id)
    if found is None:
        message = f"no image {image_id[:80]!r} in the datastore"
        return NotFoundError(message, code="image_not_found", image=image_id[:80])
    reason = found.reason or f"it is {found.series.modality}, and an image is a CT"
    return NotFoundError(
        f"series {image_id} cannot be used as an image: {reason}",
        code="series_not_usable",
        series_instance_uid=found.series.uid,
    )
