"""The jobs of the window: synthesising a PET slab by slab, uploading a CT, watching a training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError
from CT2PETLib.client.http.multipart import Progress
from CT2PETLib.client.http.transport import RetryPolicy
from CT2PETLib.client.image_id import image_id_of
from CT2PETLib.client.nrrd import to_nrrd
from CT2PETLib.client.training import CurvePoint, Training
from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import ConnectionLost, PairSubmitted, ReceivedSlab, Restarted, Uploaded, UploadProgress
from CT2PETLib.jobs.job import Emit, Job
from CT2PETLib.jobs.slab_order import (
    MAX_SLAB_SLICES,
    Range,
    count_slices,
    first_slab_size,
    missing_ranges,
    next_slab,
    seconds_left,
    subtract,
)

RECONNECT = RetryPolicy(for_s=90.0)  # a restarted server responds again within a minute
POLL_INTERVAL_S = 2.0
PROGRESS_INTERVAL_S = 0.1  # of an upload: an event per chunk would keep the window busy


class SynthesisJob(Job):
    """Request a synthetic PET slab by slab, beginning around the displayed slice.

    Emits `ReceivedSlab`, and in between `ConnectionLost` and `Restarted`. Once it has ended, was cancelled or failed,
    `missing` holds the slices that were not received; `rest` is a job for those.
    """

    def __init__(
        self,
        client: Client,
        *,
        model: str,
        image_id: str,
        requested: Range,
        centre: int,
        uncertainty: bool = False,
        version: int | None = None,
        allow_unlike: bool = False,
        received: Sequence[Range] = (),
        checksum: str = "",
    ) -> None:
        """Create the job without sending a request.

        Args:
            client: Client of the server.
            model: Name of the model.
            image_id: Id of a CT on the server.
            requested: The requested slices.
            centre: The displayed slice.
            uncertainty: Whether to request the uncertainty map as well.
            version: Version of the model; None for the served one.
            allow_unlike: Whether to synthesise the PET of a CT that is unlike the training CTs.
            received: Slices that were received before, predicted with the weights `checksum`.
            checksum: Checksum of those weights; empty if nothing was received.
        """
        self.requested = requested
        self.missing = missing_ranges(requested, received)
        self.checksum = checksum
        self._model, self._version, self._image_id = model, version, image_id
        self._uncertainty, self._allow_unlike = uncertainty, allow_unlike
        self._centre = centre
        self._durations: list[tuple[int, float]] = []
        self._original_client = client
        super().__init__(client, self._synthesise)

    def prioritise(self, slice_index: int) -> None:
        """Request the slab around this slice next if it is missing."""
        self._centre = slice_index

    @property
    def fraction(self) -> float:
        """Fraction of the requested slices that was received, 0 to 1."""
        return 1.0 - count_slices(self.missing) / max(1, self.requested[1] - self.requested[0])

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining time in seconds; None before the first slab."""
        return seconds_left(self._durations, self.missing)

    def rest(self) -> SynthesisJob:
        """Return a job for the missing slices."""
        return SynthesisJob(
            self._original_client,
            model=self._model,
            image_id=self._image_id,
            requested=self.requested,
            centre=self._centre,
            uncertainty=self._uncertainty,
            version=self._version,
            allow_unlike=self._allow_unlike,
            received=missing_ranges(self.requested, self.missing),
            checksum=self.checksum,
        )

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Restarted):
            self.missing, self._durations = (self.requested,), []
        if isinstance(event, ReceivedSlab):
            self.missing = subtract(self.missing, (event.start, event.stop))
            self.checksum = event.metadata.checksum
            self._durations.append((event.stop - event.start, event.seconds))

    def _synthesise(self, client: Client, emit: Emit) -> None:
        missing, checksum = self.missing, self.checksum
        size = first_slab_size(self.requested[1] - self.requested[0])
        while missing:
            slab = self._request(client, next_slab(missing, self._centre, size), emit)
            if checksum and slab.metadata.checksum != checksum:
                missing = (self.requested,)
                emit(Restarted(_("A newer version of the model is served now: the synthesis starts again.")))
            checksum = slab.metadata.checksum
            missing = subtract(missing, (slab.start, slab.stop))
            size = MAX_SLAB_SLICES
            emit(slab)

    def _request(self, client: Client, slices: Range, emit: Emit) -> ReceivedSlab:
        began = time.monotonic()

        def waiting(error: ServerError, retry_in_s: float) -> None:
            nonlocal began
            began = time.monotonic() + retry_in_s  # retries must not count in the estimate of the remaining time
            emit(ConnectionLost(str(error), retry_in_s))

        slab = client.slab(
            self._model, self._image_id, *slices,
            uncertainty=self._uncertainty, version=self._version, allow_unlike=self._allow_unlike,
            retry_policy=RECONNECT, waiting=waiting,
        )  # fmt: skip
        pet, uncertainty = slab.pet_volume(), slab.uncertainty_volume()  # decompressed here, not in the window's thread
        return ReceivedSlab(*slices, pet, uncertainty, slab.metadata, max(0.0, time.monotonic() - began))


class UploadJob(Job):
    """Upload a CT of the scene unless the server has it. Get the user's consent first.

    Emits `UploadProgress`, and finally `Uploaded`.

    Attributes:
        uploaded: The emitted `Uploaded`; None before.
    """

    def __init__(self, client: Client, *, array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> None:
        """Create the job without sending a request.

        Args:
            client: Client of the server.
            array: (slices, rows, columns), HU; must not change until the job is over.
            affine: 4 x 4, from voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm.
        """
        self.uploaded: Uploaded | None = None
        self._array, self._affine = array, affine
        super().__init__(client, self._upload)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Uploaded):
            self.uploaded = event

    def _upload(self, client: Client, emit: Emit) -> None:
        image_id = image_id_of(self._array, self._affine)
        if client.study(image_id) is not None:
            emit(Uploaded(image_id, already_present=True))
            return
        was_sent = client.send_ct(to_nrrd(self._array, self._affine), image_id, progress=_progress(emit))
        emit(Uploaded(image_id, already_present=not was_sent))


class PairUploadJob(Job):
    """Submit a CT and its measured PET for training. Get the user's consent first.

    Emits `UploadProgress`, and finally `PairSubmitted`.
    """

    def __init__(self, client: Client, *, ct: Sequence[Path], pet: Sequence[Path]) -> None:
        """Create the job without sending a request.

        Args:
            client: Client of the server.
            ct, pet: DICOM files of each series; `ct` may be empty if the server has the CT.
        """
        self._ct, self._pet = ct, pet
        super().__init__(client, self._submit)

    def _submit(self, client: Client, emit: Emit) -> None:
        emit(PairSubmitted(str(client.submit_pair(self._ct, self._pet, progress=_progress(emit)))))


def _progress(emit: Emit) -> Progress:
    """Return a progress callback that emits `UploadProgress`, not more often than a window needs."""
    reported_at = float("-inf")

    def progress(done: int, total: int) -> None:
        nonlocal reported_at
        if done == total or time.monotonic() - reported_at > PROGRESS_INTERVAL_S:
            reported_at = time.monotonic()
            emit(UploadProgress(done, total))

    return progress


class TrainingWatch(Job):
    """Poll the newest training until it is over, and emit each `Training` that differs from the previous one.

    Attributes:
        training: The last one; None before the first poll.
    """

    def __init__(self, client: Client, *, interval_s: float = POLL_INTERVAL_S) -> None:
        """Create the job without sending a request.

        Args:
            client: Client of the server.
            interval_s: Seconds between two polls.
        """
        self.training: Training | None = None
        self._interval_s = interval_s
        super().__init__(client, self._watch)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Training):
            self.training = event

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """A point for each finished epoch, including those before the first poll."""
        return self.training.curve if self.training is not None else ()

    def _watch(self, client: Client, emit: Emit) -> None:
        previous = None
        while True:
            current = client.training(
                retry_policy=RECONNECT,
                waiting=lambda error, retry_in_s: emit(ConnectionLost(str(error), retry_in_s)),
            )
            if current != previous:
                emit(current)
            previous = current
            if not current.is_active:
                return
            client.pause(self._interval_s)
