"""The infos of images and labels: notes of clients, overridden by records of the server, overridden by the headers.

A note never sets a key of the headers or the server, even where they have no value for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ct2pet_app.datastore.labels.label_store import FINAL, LabelStore, Notes, StoredFile
from ct2pet_app.datastore.labels.label_table import SERVER_KEYS
from ct2pet_app.datastore.serializers import describe_ct, describe_pet
from ct2pet_app.datastore.study_index import StudyIndex
from ct2pet_app.json_values import sendable
from lib.dicom.scan.scan import ScannedSeries
from lib.pairing.pairs import PairedSeries

FACTS = frozenset(
    {"patient_id", "study_instance_uid", "series_instance_uid", "study_date", "description", "slices", "matrix",
     "spacing_mm", "warnings", "pet", "why_no_pet", "uploaded", "suv", "paired_because"}
)  # fmt: skip


def ct_info(found: ScannedSeries, listing: StudyIndex, notes: Notes) -> dict[str, Any]:
    """Return the info of a CT of the studies."""
    return _merged(notes.note, notes.record, describe_ct(found, listing))


def upload_info(upload: StoredFile, notes: Notes) -> dict[str, Any]:
    """Return the info of an uploaded CT."""
    return _merged({**upload.note, **notes.note}, {**upload.record, **notes.record}, {"uploaded": True})


def pet_info(paired: PairedSeries, notes: Notes) -> dict[str, Any]:
    """Return the info of a final label: the PET of a pair."""
    return _merged(notes.note, notes.record, describe_pet(paired))


def label_info(label: StoredFile) -> dict[str, Any]:
    """Return the info of any other label."""
    own = {key: value for key, value in label.note.items() if key not in SERVER_KEYS}
    return {**own, **label.record}


def _merged(note: Mapping[str, Any], record: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in note.items() if key not in FACTS | SERVER_KEYS}
    merged: dict[str, Any] = sendable({**own, **record, **facts})
    return merged


def all_infos(listing: StudyIndex, label_store: LabelStore) -> dict[str, Any]:
    """Return every image and label with its info, in MONAI Label's form, of one moment."""
    notes = label_store.all_notes()
    infos = {uid: ct_info(found, listing, notes.get(uid, Notes())) for uid, found in listing.images.items()}
    for uid, upload in label_store.uploads().items():
        infos.setdefault(uid, upload_info(upload, notes.get(uid, Notes())))
    labels: dict[str, dict[str, Any]] = {uid: {} for uid in infos}
    for uid, paired in listing.pairs.items():
        labels[uid][FINAL] = pet_info(paired, notes.get(paired.pair.pet.uid, Notes()))
    for label in label_store.labels():
        labels.get(label.image, {})[label.tag] = label_info(label)
    return {
        uid: {
            "image": {"ext": "", "info": info},
            "labels": {tag: {"ext": "", "info": of_label} for tag, of_label in labels[uid].items()},
        }
        for uid, info in infos.items()
    }
