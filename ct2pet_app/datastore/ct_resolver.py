"""Resolve the CT of a request: an image of the datastore, an uploaded file, or the file of a session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from fastapi import UploadFile
from monailabel.utils.sessions import SessionInfo

from ct2pet_app.datastore.ct_source import (
    DEFAULT_NAME,
    CTSource,
    OpenedCT,
    opened_upload,
    source_of_file,
    source_of_series,
    suffix_of,
)
from ct2pet_app.datastore.labels.label_store import LabelStore, StoredFile
from ct2pet_app.datastore.serializers import no_image
from ct2pet_app.datastore.study_index import StudyIndex
from ct2pet_app.errors import RequestError
from ct2pet_app.server.concurrency import IsDisconnected
from lib.types import LocalFiles


class CTResolver:
    """Resolves image ids; an id is looked up and never used as a path.

    Args:
        listing: Returns the current studies.
        label_store: Contains the images that clients have uploaded.
        at_hand: Fetches the files of a series to this machine.
    """

    def __init__(self, listing: Callable[[], StudyIndex], label_store: LabelStore, *, local_files: LocalFiles) -> None:
        self._listing = listing
        self._label_store = label_store
        self._at_hand = local_files

    @contextmanager
    def requested(self, image_id: str, session: SessionInfo | None, upload: UploadFile | None) -> Iterator[CTSource]:
        """Yield the CT of a session, else of an upload, else of an image id.

        The file of an upload exists until the context ends; its name is not used in the path.

        Raises:
            NotFoundError: As `image`.
            RequestError: None of the three was sent.
        """
        if session is not None:
            path = Path(session.image)
            yield source_of_file(path, path.name, kept=True)
        elif upload is not None:
            name = Path(upload.filename or DEFAULT_NAME).name[-100:]
            with tempfile.TemporaryDirectory(prefix="ct2pet-upload-") as folder:
                path = Path(folder) / f"upload{suffix_of(name)}"
                with path.open("wb") as copy:
                    shutil.copyfileobj(upload.file, copy)
                yield source_of_file(path, name)
        elif image_id:
            yield self.image(image_id)
        else:
            raise RequestError("no CT: send ?image=<CT series UID>, a file, or a session_id")

    def image(self, image_id: str) -> CTSource:
        """Return the CT of an image id.

        Raises:
            NotFoundError: No image has that id; for an unusable series, the message gives the reason.
        """
        listing = self._listing()
        found = listing.images.get(image_id)
        if found is not None:
            paired = listing.pairs.get(image_id)
            source = source_of_series(found, None if paired is None else paired.pet, local_files=self._at_hand)
            return replace(source, warnings=found.warnings)
        path = self.upload(image_id).path
        source = source_of_file(path, f"{image_id}{suffix_of(path.name)}", image_id=image_id, kept=True)
        return replace(source, open=partial(self._opened_upload, image_id))

    def upload(self, image_id: str) -> StoredFile:
        """Return an uploaded image.

        Raises:
            NotFoundError: As `image`.
        """
        upload = self._label_store.find(image_id)
        if upload is None:
            raise no_image(image_id, self._listing())
        return upload

    @contextmanager
    def _opened_upload(self, image_id: str, _: IsDisconnected) -> Iterator[OpenedCT]:
        """Yield a copy of an upload, so that a replacement during the request has no effect."""
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            opened = self._label_store.open_file(image_id)
            if opened is None:
                raise no_image(image_id, self._listing())
            kept, file = opened
            name = f"{image_id}{suffix_of(kept.path.name)}"
            path = Path(folder) / f"image{suffix_of(name)}"
            with file, path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            with opened_upload(path, name) as ct:
                yield ct
