"""Events that jobs emit for the window."""

from __future__ import annotations

from dataclasses import dataclass

from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.client.nrrd import NrrdVolume


@dataclass(frozen=True, eq=False)
class ReceivedSlab:
    """A slab that was received.

    Attributes:
        start, stop: Slices of the CT, `stop` excluded.
        pet, uncertainty: SUVbw, float32, on the CT's grid.
        metadata: The server's metadata of the slab.
        seconds: Duration of the request.
    """

    start: int
    stop: int
    pet: NrrdVolume
    uncertainty: NrrdVolume | None
    metadata: InferResult
    seconds: float


@dataclass(frozen=True)
class ConnectionLost:
    """The connection was lost, or the server is busy; the job retries by itself."""

    message: str
    retry_in_s: float


@dataclass(frozen=True)
class Restarted:
    """Another version of the model is served now: slabs of the previous one are discarded and requested again."""

    message: str


@dataclass(frozen=True)
class UploadProgress:
    """Number of bytes sent so far, and in total."""

    done: int
    total: int


@dataclass(frozen=True)
class Uploaded:
    """The CT is on the server.

    Attributes:
        already_present: Whether it had been uploaded before.
    """

    image_id: str
    already_present: bool


@dataclass(frozen=True)
class PairSubmitted:
    """The pair is on the server; the message says what it will be used for."""

    message: str
