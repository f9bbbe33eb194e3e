"""The list of CTs that a page shows: searched, sorted and cut into parts in the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore.studies import FINAL
from ct2pet_app.json_values import sendable
from lib.dicom.scan.scan import ScannedSeries
from lib.errors import CheckpointError
from lib.learning.model_card.card import patient_digest


def list_images(app: CT2PETApp, *, search: str = "", offset: int = 0, limit: int = 50) -> dict[str, Any]:
    """Return a part of the CTs, newest first, with what is known of each from headers alone.

    Args:
        app: Whose datastore and models are described.
        search: Words that all have to be in a CT's ID, patient ID, date or description, in any case.
        offset: Number of matching CTs to leave out.
        limit: Largest number of CTs to return.
    """
    datastore = app.studies_datastore
    listing = datastore.studies.known()
    uploads = [image for image in datastore.list_images() if image not in listing.images]
    words = search.casefold().split()
    found: list[ScannedSeries | str] = [*sorted(listing.images.values(), key=_newest_first), *uploads]
    matching = [one for one in found if _matches(one, words)]
    trained_on = _training_patients(app)
    images = [_described(app, one, trained_on) for one in matching[offset : offset + limit]]
    return {"total": len(found), "matching": len(matching), "images": images, "incomplete": listing.incomplete}


def _newest_first(found: ScannedSeries) -> tuple[int, str, str]:
    date = found.study_date
    return (-int(date) if date.isdecimal() else 0, found.series.patient_id, found.series.uid)


def _matches(one: ScannedSeries | str, words: Iterable[str]) -> bool:
    """Return whether a CT of the studies, or the ID of an upload, holds all words."""
    if isinstance(one, str):
        text = one
    else:
        date, series = one.study_date, one.series
        dates = f"{date} {date[:4]}-{date[4:6]}-{date[6:]}"
        text = f"{series.uid} {series.patient_id} {series.description} {dates}"
    text = text.casefold()
    return all(word in text for word in words)


def _training_patients(app: CT2PETApp) -> Mapping[str, frozenset[str]]:
    """Return the digests of the patients that each served model was trained on."""
    served: dict[str, frozenset[str]] = {}
    for name in app.models.names:
        try:
            published = app.models.published(name)
        except CheckpointError:
            continue
        if published is not None:
            served[name] = frozenset(published.card.training.patients)
    return served


def _described(app: CT2PETApp, one: ScannedSeries | str, trained_on: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    datastore = app.studies_datastore
    image = one if isinstance(one, str) else one.series.uid
    tags = datastore.get_labels_by_image_id(image)
    described: dict[str, Any] = {
        "image": image,
        "has_pet": FINAL in tags,
        "labels": sorted(tag for tag in tags if tag != FINAL),
        "trained_on": [],
    }
    if isinstance(one, str):
        return described | {
            "patient_id": "",
            "study_date": "",
            "description": "uploaded",
            "slices": None,
            "warnings": [],
        }
    digest = patient_digest(one.series.patient_id)
    facts = {
        "patient_id": one.series.patient_id,
        "study_date": one.study_date,
        "description": one.series.description,
        "slices": one.series.slice_count,
        "warnings": list(one.warnings),
        "trained_on": [name for name, patients in trained_on.items() if digest in patients],
    }
    return dict(sendable({**described, **facts}))
