"""DICOM studies as MONAI Label's datastore: an image is a CT series, its `final` label the PET paired with it.

Clients' uploads (CTs, synthetic PETs under other tags, notes) are stored apart from the studies. Every id of a request
is looked up in a listing and never used as a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from monailabel.interfaces.datastore import Datastore

from ct2pet_app.datastore.ct_resolver import CTResolver
from ct2pet_app.datastore.ct_source import opened_upload, removed_if_refused, suffix_of
from ct2pet_app.datastore.image_labels import Labels, count_tags
from ct2pet_app.datastore.labels.infos import all_infos, ct_info, upload_info
from ct2pet_app.datastore.labels.label_store import FINAL as FINAL
from ct2pet_app.datastore.labels.label_store import LabelStore
from ct2pet_app.datastore.pairs.registry import PairRegistry
from ct2pet_app.datastore.serializers import describe_series, no_image
from ct2pet_app.datastore.study_index import Studies, StudyIndex
from ct2pet_app.datastore.volume_exports import VolumeExports
from ct2pet_app.errors import RequestError
from ct2pet_app.json_values import sendable
from ct2pet_app.model_registry.training_patients import TrainingPatients
from ct2pet_app.server.concurrency import IsDisconnected, never, until_disconnected
from lib.dicom.read.volume import read_ct
from lib.dicom.write.pet_series import SyntheticSeries
from lib.errors import PairingError
from lib.memory import MemoryBudget
from lib.pairing.pairs import PairedSeries
from lib.pairing.split import Split
from lib.types import Series


class StudiesDatastore(Datastore):
    """The common part of a folder and a PACS of studies; nothing is read before the first request."""

    def __init__(
        self, studies: Studies, writable: Path, *, split: Split = Split(), budget: MemoryBudget | None = None
    ) -> None:
        self.studies = studies
        self.budget = budget or MemoryBudget(None)
        self.pairs = PairRegistry(
            studies, writable, split=split, trained_on=TrainingPatients(writable), budget=self.budget
        )
        self._label_store = LabelStore(writable / "shelf")
        self._volumes = VolumeExports(writable / "converted", local_files=self.local_files, budget=self.budget)
        self.cts = CTResolver(self.listing, self._label_store, local_files=self.local_files)
        self.labels = Labels(self.listing, self.cts, self._label_store, self._volumes, where=studies.what)

    # -- for the app ---------------------------------------------------------------------------------------------------

    def listing(self) -> StudyIndex:
        """Return the index of the studies, at most some seconds old."""
        listing = self.studies.listing()
        self.pairs.note(listing)
        return listing

    def describe_series(self) -> list[dict[str, Any]]:
        """Return the metadata of every series found, usable or not."""
        listing = self.listing()
        return [sendable(describe_series(found, listing)) for found in listing.report.series]

    def training_pairs(self) -> tuple[PairedSeries, ...]:
        """Scan the studies and return all plausible pairs; read their files inside `local_files`.

        Raises:
            PairingError: There are pairs, but none is plausible.
            RemoteError: The files of an unchecked pair cannot be fetched from the PACS.
        """
        pairs = tuple(self.studies.rescan().pairs.values())
        usable = self.pairs.usable(pairs)
        if pairs and not usable:
            raise PairingError(f"none of {len(pairs)} pairs is plausible", code="no_plausible_pairs", pairs=len(pairs))
        return usable

    def keep_files(self, files: Mapping[str, Sequence[Path]]) -> None:
        """Store DICOM files with the studies, by series UID.

        Raises:
            RequestError: The studies are read-only.
            CT2PETError: They cannot be written, or the PACS refuses them.
        """
        raise RequestError(f"{self.studies.what} is read-only; add the series there yourself")

    def remove_leftovers(self) -> None:
        """Remove unfinished files of killed processes. Called once, when the server starts."""
        self._label_store.remove_leftovers()

    def close(self) -> None:
        """Stop the background thread."""
        self.pairs.close()

    def local_files(self, *series: Series, cancelled: IsDisconnected = never) -> AbstractContextManager[None]:
        """Return a context in which the files of these series are local; see `lib.types.LocalFiles`."""
        return self.studies.local_files(*series, cancelled=cancelled)

    def store_series(self, series: SyntheticSeries) -> None:
        """Store a synthetic PET series in its CT's study; storing the same one again changes nothing.

        Raises:
            RequestError: The studies are read-only.
            CT2PETError: It cannot be written, or the PACS refuses it.
        """
        raise RequestError(f"store: {self.studies.what} is read-only", code="pacs_read_only")

    # -- MONAI Label's interface: images -------------------------------------------------------------------------------

    def name(self) -> str:
        name: str = sendable(self.studies.name)
        return name

    def set_name(self, name: str) -> None:
        raise RequestError("the datastore has the name of its studies folder or PACS; it cannot be changed")

    def description(self) -> str:
        return "DICOM studies: images are CT series, final labels their PET series"

    def set_description(self, description: str) -> None:
        raise RequestError("the description of this datastore is fixed")

    def list_images(self) -> list[str]:
        return [*self.listing().images, *self._label_store.uploads()]

    def get_image_uri(self, image_id: str) -> str:
        found = self.listing().images.get(image_id)
        if found is not None:
            return str(self._volumes.path_of(found, read_ct))
        return str(self.cts.upload(image_id).path)

    def get_image(self, image_id: str, params: Any = None) -> BinaryIO:
        return self.open_image(image_id)

    def open_image(self, image_id: str, *, is_disconnected: IsDisconnected = never) -> BinaryIO:
        """Return the open file of an image, unaffected by what is saved or removed meanwhile.

        Raises:
            NotFoundError: No image has that id.
        """
        found = self.listing().images.get(image_id)
        if found is not None:
            return self._volumes.open(found, read_ct, is_disconnected=is_disconnected)
        opened = self._label_store.open_file(image_id)
        if opened is None:
            raise no_image(image_id, self.listing())
        return opened[1]

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        listing = self.listing()
        found = listing.images.get(image_id)
        if found is not None:
            return ct_info(found, listing, self._label_store.notes_of(image_id))
        return upload_info(self.cts.upload(image_id), self._label_store.notes_of(image_id))

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self.get_image_info(image_id)
        self._label_store.add_note(image_id, info)

    def record_image(self, image_id: str, record: Mapping[str, Any]) -> None:
        """Store a record of the server about an image; it is part of its info, and no client can write it."""
        self.get_image_info(image_id)
        self._label_store.add_record(image_id, sendable(record))

    def add_image(
        self, image_id: str, image_filename: str, image_info: dict[str, Any], *, is_disconnected: IsDisconnected = never
    ) -> str:
        path = Path(image_filename)
        if image_id in self.listing().images:
            raise RequestError(
                f"image {image_id!r} is a series of {self.studies.what}; choose another name for the upload"
            )
        with removed_if_refused(path):
            suffix = suffix_of(path.name)
            with opened_upload(path, f"{image_id}{suffix}") as opened:
                what = f"reading {opened.shape[0]} slices"
                with self.budget.reserve(opened.read_bytes, what, cancelled=is_disconnected):
                    geometry = opened.read(until_disconnected(is_disconnected)).geometry
            measured = {"slices": geometry.shape[0], "spacing_mm": list(geometry.spacing_mm)}
            self._label_store.keep_upload(image_id, path, suffix, image_info, record=measured)
        return image_id

    def remove_image(self, image_id: str) -> None:
        self._label_store.drop(image_id)

    # -- MONAI Label's interface: labels -------------------------------------------------------------------------------

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        labels = dict.fromkeys(self._label_store.labels_of(image_id), image_id)
        paired = self.listing().pairs.get(image_id)
        return labels if paired is None else {FINAL: paired.pair.pet.uid, **labels}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        return str(self.labels.path_of(label_id, label_tag))

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> BinaryIO:
        return self.open_label(label_id, label_tag)

    def open_label(self, label_id: str, label_tag: str, *, is_disconnected: IsDisconnected = never) -> BinaryIO:
        """Return the open file of a label, as `open_image`; raise NotFoundError if there is none."""
        return self.labels.open(label_id, label_tag, is_disconnected=is_disconnected)

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        return self.labels.info(label_id, label_tag)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        self.labels.add_note(label_id, label_tag, info)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        self.labels.save(image_id, Path(label_filename), label_tag, note=label_info)
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        self._label_store.drop(label_id, label_tag)

    # -- MONAI Label's interface: lists --------------------------------------------------------------------------------

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        labeled = self._tagged(label_tag or FINAL)
        return [image for image in self.list_images() if image in labeled]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        labeled = self._tagged(label_tag or FINAL)
        return [image for image in self.list_images() if image not in labeled]

    def datalist(self) -> list[dict[str, Any]]:
        return [{"image": uid, "label": paired.pair.pet.uid} for uid, paired in self.listing().pairs.items()]

    def status(self) -> dict[str, Any]:
        listing = self.studies.known()
        pairs = tuple(listing.pairs.values())
        counts = {name: count for name, count in asdict(self.pairs.counts(pairs)).items() if count != ""}
        total, tags = (
            len({*listing.images, *self._label_store.uploads()}),
            count_tags(self._label_store, pairs=len(pairs)),
        )
        status = {"total": total, "completed": len(pairs), "label_tags": tags, "pairs": counts}
        return {**status, "incomplete": listing.incomplete} if listing.incomplete else status

    def json(self) -> dict[str, Any]:
        objects = all_infos(self.listing(), self._label_store)
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def refresh(self) -> None:
        self.studies.rescan()

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        raise RequestError(f"this server does not export its studies as an archive; copy them from {self.studies.what}")

    def _tagged(self, tag: str) -> set[str]:
        if tag == FINAL:
            return set(self.listing().pairs)
        return {kept.image for kept in self._label_store.labels() if kept.tag == tag}
