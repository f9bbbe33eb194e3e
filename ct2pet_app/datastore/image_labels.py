"""The labels of images: `final` is the PET paired with a CT, others were uploaded, or are synthetic PETs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ct2pet_app.datastore.ct_resolver import CTResolver
from ct2pet_app.datastore.ct_source import removed_if_refused
from ct2pet_app.datastore.labels.infos import label_info, pet_info
from ct2pet_app.datastore.labels.label_store import FINAL, LabelStore, StoredFile
from ct2pet_app.datastore.study_index import StudyIndex
from ct2pet_app.datastore.volume_exports import VolumeExports
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.json_values import sendable
from ct2pet_app.server.concurrency import IsDisconnected, never
from lib.dicom.read.volume import read_pet
from lib.imaging.files.volume_file import SUFFIXES
from lib.pairing.pairs import PairedSeries


class Labels:
    """The labels of a datastore; a label's id is its image's, that of a final one the PET's UID or its CT's.

    Args:
        listing: Returns the current studies.
        cts: Resolves image ids.
        label_store: Contains the labels that are not PET series.
        volumes: Holds the PET series as volume files.
        where: Name of the place of the studies, for messages.
    """

    def __init__(
        self,
        listing: Callable[[], StudyIndex],
        cts: CTResolver,
        label_store: LabelStore,
        volumes: VolumeExports,
        *,
        where: str,
    ) -> None:
        self._listing = listing
        self._cts = cts
        self._where = where
        self._label_store = label_store
        self._volumes = volumes

    def path_of(self, label_id: str, tag: str) -> Path:
        """Return the current path of a label's file; use `open` to read it. Raises NotFoundError."""
        paired = self._pair_of(label_id, tag)
        return self._label(label_id, tag).path if paired is None else self._volumes.path_of(paired.pet, read_pet)

    def open(self, label_id: str, tag: str, *, is_disconnected: IsDisconnected = never) -> BinaryIO:
        """Return the open file of a label; what is saved or removed meanwhile changes nothing of it.

        Raises:
            NotFoundError: There is no such label.
        """
        paired = self._pair_of(label_id, tag)
        if paired is not None:
            return self._volumes.open(paired.pet, read_pet, is_disconnected=is_disconnected)
        opened = self._label_store.open_file(label_id, tag)
        if opened is None:
            raise _no_label(label_id, tag)
        return opened[1]

    def info(self, label_id: str, tag: str) -> dict[str, Any]:
        """Return the info of a label. Raises NotFoundError."""
        paired = self._pair_of(label_id, tag)
        if paired is not None:
            return pet_info(paired, self._label_store.notes_of(paired.pair.pet.uid))
        return label_info(self._label(label_id, tag))

    def add_note(self, label_id: str, tag: str, note: Mapping[str, Any]) -> None:
        """Add to what clients noted about a label.

        Raises:
            NotFoundError: There is no such label.
            RequestError: The note cannot be kept.
        """
        paired = self._pair_of(label_id, tag)
        if paired is not None:  # the file is not in the label store, and is not changed
            self._label_store.add_note(paired.pair.pet.uid, note)
        else:
            self._label_store.add_label_note(label_id, tag, note)

    def record(self, label_id: str, tag: str, record: Mapping[str, Any]) -> None:
        """Store a record of the server about a label; it is part of its info, and no client can write it.

        Raises:
            NotFoundError: There is no such label.
        """
        paired = self._pair_of(label_id, tag)
        if paired is not None:
            self._label_store.add_record(paired.pair.pet.uid, sendable(record))
        else:
            self._label_store.add_record(self._label(label_id, tag).image, sendable(record), tag=tag)

    def save(
        self,
        image_id: str,
        path: Path,
        tag: str,
        *,
        note: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a file as a label of an image, with the note of a client or the record of the server.

        Raises:
            NotFoundError: There is no such image.
            RequestError: The tag, the file or the note cannot be a label's.
            OutputError: The disk is full; nothing is kept.
        """
        if tag == FINAL:
            raise RequestError(
                "the final label of a CT is the real PET of its study: add that series to "
                f"{self._where}; a synthetic PET is saved under another tag, such as synthetic"
            )
        suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
        if suffix is None:
            raise RequestError(f"a label is a volume file ({', '.join(SUFFIXES)})")
        with removed_if_refused(path):
            self._cts.image(image_id)
            self._label_store.keep_label(image_id, tag, path, suffix, note or {}, record=record)

    def save_synthetic(self, image_id: str, path: Path, tag: str, record: Mapping[str, Any]) -> None:
        """Store a synthetic PET as a label, with its metadata. Raises as `save` and `refuse_to_replace`.

        Args:
            image_id: Of its CT.
            path: Its file, which is copied.
            tag: Any but `final`.
            record: `model` and `params` of the inference.
        """
        self.refuse_to_replace(image_id, tag)
        self.save(image_id, path, tag, record=sendable(record))

    def refuse_to_replace(self, image_id: str, tag: str) -> None:
        """Check that a synthetic PET may be saved under a tag.

        Raises:
            RequestError: A client uploaded a label there.
        """
        there = self._label_store.find(image_id, tag)
        if there is not None and "params" not in there.record:
            raise RequestError(
                f"label_tag {tag!r}: a client uploaded that label of image {image_id!r}, and a synthetic PET does not "
                "replace it; give another label_tag, or remove the label first"
            )

    def _label(self, label_id: str, tag: str) -> StoredFile:
        label = self._label_store.find(label_id, tag) if tag else None
        if label is None:
            raise _no_label(label_id, tag)
        return label

    def _pair_of(self, label_id: str, tag: str) -> PairedSeries | None:
        """Return the pair by the PET's UID, which is the label's id, or by the CT's, which some clients use."""
        if tag != FINAL:
            return None
        listing = self._listing()
        return listing.pairs.get(listing.by_pet.get(label_id, label_id))


def _no_label(label_id: str, tag: str) -> NotFoundError:
    return NotFoundError(
        f"no label {label_id[:80]!r} with tag {tag[:80]!r}", code="label_not_found", label=label_id[:80], tag=tag[:80]
    )


def count_tags(label_store: LabelStore, *, pairs: int) -> dict[str, int]:
    """Return how many labels there are under each tag."""
    return {FINAL: pairs, **Counter(kept.tag for kept in label_store.labels())}
