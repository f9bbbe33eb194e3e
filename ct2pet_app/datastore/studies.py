"""DICOM studies as MONAI Label's datastore: an image is a CT series, its `final` label the PET paired with it.

What clients bring (uploaded CTs, synthetic PETs under other tags, notes) lies on a shelf beside the studies. Every id
of a request is looked up in a listing; none becomes a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from monailabel.interfaces.datastore import Datastore

from ct2pet_app.datastore.converted import ConvertedVolumes, ReadSeries
from ct2pet_app.datastore.describe import describe_ct, describe_pet, describe_series, why_no_image
from ct2pet_app.datastore.listing import Listing, Studies
from ct2pet_app.datastore.pairs import PairBook
from ct2pet_app.datastore.shelf import Kept, Shelf
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.trained_on import TrainedOn
from ct2pet_app.turns import Gone, never, until_gone
from ct2pet_app.uploads import (
    CTSource,
    opened_upload,
    removed_if_refused,
    source_of_file,
    source_of_series,
    suffix_of,
)
from lib.dicom.read import read_ct, read_pet
from lib.dicom.scan import ScannedSeries
from lib.dicom.synthetic import SyntheticSeries
from lib.errors import PairingError
from lib.imaging.files import SUFFIXES
from lib.memory import MemoryBudget
from lib.pairing.pairs import PairedSeries
from lib.pairing.split import Split
from lib.types import Series

FINAL = "final"  # MONAI Label's word for the label that counts


class StudiesDatastore(Datastore):
    """What a folder and a PACS of studies have in common; nothing is looked at before the first question."""

    def __init__(
        self, studies: Studies, writable: Path, *, split: Split = Split(), budget: MemoryBudget | None = None
    ) -> None:
        self.studies = studies
        self.budget = budget or MemoryBudget(None)
        self.pairs = PairBook(studies, writable, split=split, trained_on=TrainedOn(writable), budget=self.budget)
        self._shelf = Shelf(writable / "shelf")
        self._converted = ConvertedVolumes(writable / "converted", self.budget)

    # -- what the app asks ---------------------------------------------------------------------------------------------

    def listing(self) -> Listing:
        """Return which studies there are, at most some seconds old."""
        listing = self.studies.listing()
        self.pairs.note(listing)
        return listing

    def ct_source(self, image_id: str) -> CTSource:
        """Return the CT of an image id.

        Raises:
            NotFoundError: No image has that id; where it is a series that cannot be used, the reason is named.
        """
        listing = self.listing()
        found = listing.images.get(image_id)
        if found is not None:
            paired = listing.pairs.get(image_id)
            return source_of_series(found, None if paired is None else paired.pet, at_hand=self.at_hand)
        upload = self._upload(image_id)
        name = f"{image_id}{suffix_of(upload.path.name)}"
        return source_of_file(upload.path, name, image_id=image_id, kept=True)

    def describe_series(self) -> list[dict[str, Any]]:
        """Return every series found, usable or not, and why not."""
        listing = self.listing()
        return [describe_series(found, listing) for found in listing.report.series]

    def training_pairs(self) -> tuple[PairedSeries, ...]:
        """Return all plausible pairs, looked for now; read their files inside `at_hand`.

        Raises:
            PairingError: There are pairs, and none is plausible.
            RemoteError: The PACS cannot be asked for the files of one that was not checked yet.
        """
        pairs = tuple(self.studies.look_again().pairs.values())
        usable = self.pairs.usable(pairs)
        if pairs and not usable:
            raise PairingError(f"none of {len(pairs)} pairs is plausible; GET /ct2pet/pairs says why for each")
        return usable

    def keep_files(self, files: Mapping[str, Sequence[Path]]) -> None:
        """Put DICOM files where the studies are, by series UID.

        Raises:
            RequestError: The place takes none.
            CT2PETError: They cannot be written, or the PACS refuses them.
        """
        raise RequestError(f"{self.studies.what} takes no series; add them there yourself")

    def close(self) -> None:
        """Look for new pairs no more."""
        self.pairs.close()

    def at_hand(self, *series: Series, cancelled: Gone = never) -> AbstractContextManager[None]:
        """Return a context in which the files of these series lie where `Series.files` says; see `lib.types.AtHand`."""
        return self.studies.at_hand(*series, cancelled=cancelled)

    def store_series(self, series: SyntheticSeries) -> None:
        """Put a synthetic PET series where its CT's study is; the same one again changes nothing.

        Raises:
            RequestError: The place takes none.
            CT2PETError: It cannot be written, or the PACS refuses it.
        """
        raise RequestError(f"store: {self.studies.what} takes no series; ask for the .zip and store it there yourself")

    # -- MONAI Label's interface: images -------------------------------------------------------------------------------

    def name(self) -> str:
        return self.studies.name

    def set_name(self, name: str) -> None:
        raise RequestError("the datastore is named after where its studies are")

    def description(self) -> str:
        return "DICOM studies: images are CT series, final labels their PET series"

    def set_description(self, description: str) -> None:
        raise RequestError("the description of this datastore is fixed")

    def list_images(self) -> list[str]:
        return [*self.listing().images, *self._shelf.uploads()]

    def get_image_uri(self, image_id: str) -> str:
        return str(self.image_file(image_id))

    def image_file(self, image_id: str, *, gone: Gone = never) -> Path:
        """Return the volume file of an image; a series is converted, unless the client disconnects."""
        found = self.listing().images.get(image_id)
        return self._upload(image_id).path if found is None else self._as_file(found, read_ct, gone)

    def get_image(self, image_id: str, params: Any = None) -> BinaryIO:
        return self.image_file(image_id).open("rb")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        listing = self.listing()
        found = listing.images.get(image_id)
        noted = self._shelf.note_of(image_id)
        if found is not None:
            return {**describe_ct(found, listing), **noted}
        return {**self._upload(image_id).note, "uploaded": True, **noted}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self.get_image_info(image_id)
        self._shelf.add_note(image_id, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any], *, gone: Gone = never) -> str:
        path = Path(image_filename)
        if image_id in self.listing().images:
            raise RequestError(f"image {image_id!r} is a series of {self.studies.what}; give the upload another name")
        with removed_if_refused(path):
            suffix = suffix_of(path.name)
            with opened_upload(path, f"{image_id}{suffix}") as opened:
                what = f"reading {opened.shape[0]} slices"
                with self.budget.reserve(opened.read_bytes, what, cancelled=gone):
                    geometry = opened.read(until_gone(gone)).geometry
            measured = {"slices": geometry.shape[0], "spacing_mm": list(geometry.spacing_mm)}
            self._shelf.keep_upload(image_id, path, suffix, {**image_info, **measured})
        return image_id

    def remove_image(self, image_id: str) -> None:
        self._shelf.drop(image_id)

    # -- MONAI Label's interface: labels -------------------------------------------------------------------------------

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        labels = dict.fromkeys(self._shelf.labels_of(image_id), image_id)
        paired = self.listing().pairs.get(image_id)
        return labels if paired is None else {FINAL: paired.pair.pet.uid, **labels}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        return str(self.label_file(label_id, label_tag))

    def label_file(self, label_id: str, label_tag: str, *, gone: Gone = never) -> Path:
        """Return the volume file of a label; a series is converted, unless the client disconnects."""
        paired = self._pair_of(label_id) if label_tag == FINAL else None
        return self._label(label_id, label_tag).path if paired is None else self._as_file(paired.pet, read_pet, gone)

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> BinaryIO:
        return self.label_file(label_id, label_tag).open("rb")

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        paired = self._pair_of(label_id) if label_tag == FINAL else None
        if paired is not None:
            return {**self._shelf.note_of(paired.pair.pet.uid), **describe_pet(paired)}
        return dict(self._label(label_id, label_tag).note)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        paired = self._pair_of(label_id) if label_tag == FINAL else None
        if paired is not None:  # the file is none of the shelf's, and is not touched
            self._shelf.add_note(paired.pair.pet.uid, info)
        else:
            self._shelf.add_label_note(label_id, label_tag, info)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        if label_tag == FINAL:
            raise RequestError(
                f"the final label of a CT is the real PET of its study: add that series to {self.studies.what}; "
                "a synthetic PET is saved under another tag, such as synthetic"
            )
        suffix = next((suffix for suffix in SUFFIXES if label_filename.lower().endswith(suffix)), None)
        if suffix is None:
            raise RequestError(f"a label is a volume file ({', '.join(SUFFIXES)})")
        with removed_if_refused(Path(label_filename)):
            self.ct_source(image_id)
            self._shelf.keep_label(image_id, label_tag, Path(label_filename), suffix, label_info)
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        self._shelf.drop(label_id, label_tag)

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
        pairs = tuple(self.listing().pairs.values())
        counts = {name: count for name, count in asdict(self.pairs.counts(pairs)).items() if count != ""}
        tags = {FINAL: len(pairs)}
        for kept in self._shelf.labels():
            tags[kept.tag] = tags.get(kept.tag, 0) + 1
        return {"total": len(self.list_images()), "completed": tags[FINAL], "label_tags": tags, "pairs": counts}

    def json(self) -> dict[str, Any]:
        objects = {image: {"image": {"ext": "", "info": self.get_image_info(image)}} for image in self.list_images()}
        for image, entry in objects.items():
            tags = self.get_labels_by_image_id(image)
            entry["labels"] = {tag: {"ext": "", "info": self.get_label_info(image, tag)} for tag in tags}
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def refresh(self) -> None:
        self.studies.look_again()

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        raise RequestError(f"this server does not pack its studies; copy them from {self.studies.what}")

    def _as_file(self, found: ScannedSeries, read: ReadSeries, gone: Gone) -> Path:
        with self.at_hand(found.series, cancelled=gone):
            return self._converted.path_of(found, read, gone=gone)

    def _tagged(self, tag: str) -> set[str]:
        if tag == FINAL:
            return set(self.listing().pairs)
        return {kept.image for kept in self._shelf.labels() if kept.tag == tag}

    def _upload(self, image_id: str) -> Kept:
        upload = self._shelf.uploads().get(image_id)
        if upload is None:
            raise NotFoundError(why_no_image(image_id, self.listing()))
        return upload

    def _label(self, label_id: str, tag: str) -> Kept:
        label = self._shelf.labels_of(label_id).get(tag)
        if label is None:
            raise NotFoundError(f"no label {label_id!r} with tag {tag!r}; GET /datastore/?output=all lists them")
        return label

    def _pair_of(self, label_id: str) -> PairedSeries | None:
        """Return the pair by the PET's UID, which is the label's id, or by the CT's, which some clients ask with."""
        listing = self.listing()
        return listing.pairs.get(listing.by_pet.get(label_id, label_id))
