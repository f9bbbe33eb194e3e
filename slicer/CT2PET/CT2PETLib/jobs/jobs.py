"""The jobs of the window: drawing a PET slab by slab, sending a CT, watching a training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError
from CT2PETLib.client.image_id import image_id_of
from CT2PETLib.client.nrrd import to_nrrd
from CT2PETLib.client.training import CurvePoint, Training
from CT2PETLib.client.transport import RetryPolicy
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted, Uploaded, UploadProgress
from CT2PETLib.jobs.job import Job, Tell
from CT2PETLib.jobs.slab_order import (
    MAX_SLAB_SLICES,
    Range,
    count_slices,
    first_slab_size,
    missing_ranges,
    next_slab,
    seconds_left,
    without,
)

LOST = RetryPolicy(for_s=90.0)  # a server that is started anew answers again within a minute
POLL_INTERVAL_S = 2.0
PROGRESS_INTERVAL_S = 0.1  # of bytes sent: a hundred thousand signs of life would keep the window busy


class SynthesisJob(Job):
    """Request a synthetic PET slab by slab, beginning around the slice on screen.

    Emits `ReceivedSlab`, and in between `ConnectionLost` and `Restarted`. Once it has ended, was cancelled or failed,
    `missing` holds the slices that were not received; `rest` is a job for those.
    """

    def __init__(
        self,
        client: Client,
        *,
        model: str,
        image_id: str,
        wanted: Range,
        centre: int,
        uncertainty: bool = False,
        version: int | None = None,
        have: Sequence[Range] = (),
        checksum: str = "",
    ) -> None:
        """Ask nothing yet.

        Args:
            client: Of the server.
            model: Its name.
            image_id: Of a CT on the server.
            wanted: The slices of interest.
            centre: The slice on screen.
            uncertainty: The map of errors to expect is wanted, too.
            version: Of the model; None for the one that is served.
            have: What has come before, of the weights `checksum`.
            checksum: Of those weights; empty where nothing has come.
        """
        self.wanted = wanted
        self.missing = missing_ranges(wanted, have)
        self.checksum = checksum
        self._model, self._version, self._image_id = model, version, image_id
        self._wish = "beside" if uncertainty else "no"
        self._centre = centre
        self._slabs: list[tuple[int, float]] = []
        self._origin = client
        super().__init__(client, self._draw)

    def look_at(self, slice_index: int) -> None:
        """Let the slab round this slice come next, if it is missing."""
        self._centre = slice_index

    @property
    def fraction(self) -> float:
        """How much is there, 0 to 1."""
        return 1.0 - count_slices(self.missing) / max(1, self.wanted[1] - self.wanted[0])

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take; None before the first slab."""
        return seconds_left(self._slabs, self.missing)

    def rest(self) -> SynthesisJob:
        """Return a job that draws what is missing."""
        return SynthesisJob(
            self._origin,
            model=self._model,
            image_id=self._image_id,
            wanted=self.wanted,
            centre=self._centre,
            uncertainty=self._wish == "beside",
            version=self._version,
            have=missing_ranges(self.wanted, self.missing),
            checksum=self.checksum,
        )

    def _arrived(self, what: Any) -> None:
        if isinstance(what, Restarted):
            self.missing, self._slabs = (self.wanted,), []
        if isinstance(what, ReceivedSlab):
            self.missing = without(self.missing, (what.start, what.stop))
            self.checksum = what.told.checksum
            self._slabs.append((what.stop - what.start, what.seconds))

    def _draw(self, client: Client, tell: Tell) -> None:
        missing, checksum = self.missing, self.checksum
        most = first_slab_size(self.wanted[1] - self.wanted[0])
        while missing:
            drawn = self._slab(client, next_slab(missing, self._centre, most), tell)
            if checksum and drawn.told.checksum != checksum:
                missing = (self.wanted,)
                tell(
                    Restarted("A newer version of the model is served now: the PET is drawn again from the beginning.")
                )
            checksum = drawn.told.checksum
            missing = without(missing, (drawn.start, drawn.stop))
            most = MAX_SLAB_SLICES
            tell(drawn)

    def _slab(self, client: Client, asked: Range, tell: Tell) -> ReceivedSlab:
        began = time.monotonic()

        def waiting(error: ServerError, retry_in_s: float) -> None:
            nonlocal began
            began = time.monotonic() + retry_in_s  # what the network takes tells nothing of the slabs to come
            tell(ConnectionLost(str(error), retry_in_s))

        slab = client.slab(
            self._model, self._image_id, *asked,
            uncertainty=self._wish, version=self._version, retry_policy=LOST, waiting=waiting,
        )  # fmt: skip
        pet, uncertainty = slab.pet_volume(), slab.uncertainty_volume()  # unpacked here, not in the window's thread
        return ReceivedSlab(*asked, pet, uncertainty, slab.told, max(0.0, time.monotonic() - began))


class UploadJob(Job):
    """Sends a CT of the scene, unless the server has it; tells `UploadProgress`, and last `Uploaded`. Ask the user before.

    Attributes:
        uploaded: The same `Uploaded`; None until it has come.
    """

    def __init__(self, client: Client, *, array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> None:
        """Ask nothing yet.

        Args:
            client: Of the server.
            array: (slices, rows, columns), HU; must not change until the job is over.
            affine: 4 x 4, takes the voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm.
        """
        self.uploaded: Uploaded | None = None
        self._array, self._affine = array, affine
        super().__init__(client, self._send)

    def _arrived(self, what: Any) -> None:
        if isinstance(what, Uploaded):
            self.uploaded = what

    def _send(self, client: Client, tell: Tell) -> None:
        image_id = image_id_of(self._array, self._affine)
        if client.study(image_id) is not None:
            tell(Uploaded(image_id, already_present=True))
            return
        told_at = float("-inf")

        def progress(done: int, total: int) -> None:
            nonlocal told_at
            if done == total or time.monotonic() - told_at > PROGRESS_INTERVAL_S:
                told_at = time.monotonic()
                tell(UploadProgress(done, total))

        was_sent = client.send_ct(to_nrrd(self._array, self._affine), image_id, progress=progress)
        tell(Uploaded(image_id, already_present=not was_sent))


class TrainingWatch(Job):
    """Looks how a training does until it is over; tells each `Training` that differs from the one before.

    Attributes:
        training: The newest; None before the first look.
    """

    def __init__(self, client: Client, *, every_s: float = POLL_INTERVAL_S) -> None:
        """Ask nothing yet.

        Args:
            client: Of the server.
            every_s: Seconds between two looks.
        """
        self.training: Training | None = None
        self._every_s = every_s
        super().__init__(client, self._watch)

    def _arrived(self, what: Any) -> None:
        if isinstance(what, Training):
            self.training = what

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """A point for each epoch that was finished, those before the first look, too."""
        return self.training.curve if self.training is not None else ()

    def _watch(self, client: Client, tell: Tell) -> None:
        before = None
        while True:
            now = client.training(
                retry_policy=LOST, waiting=lambda error, retry_in_s: tell(ConnectionLost(str(error), retry_in_s))
            )
            if now != before:
                tell(now)
            before = now
            if not now.is_active:
                return
            client.pause(self._every_s)
