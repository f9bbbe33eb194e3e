"""What jobs tell the window."""

from __future__ import annotations

from dataclasses import dataclass

from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.client.nrrd import NrrdVolume


@dataclass(frozen=True, eq=False)
class ReceivedSlab:
    """A slab that has come.

    Attributes:
        start, stop: Slices of the CT.
        pet, uncertainty: SUVbw, float32, on the CT's grid.
    """

    start: int
    stop: int
    pet: NrrdVolume
    uncertainty: NrrdVolume | None
    told: InferResult
    seconds: float


@dataclass(frozen=True)
class ConnectionLost:
    """The connection was lost, or the server is busy; the job tries again by itself."""

    sentence: str
    retry_in_s: float


@dataclass(frozen=True)
class Restarted:
    """Another version of the model is served now: what came before is of the former, and is drawn again."""

    sentence: str


@dataclass(frozen=True)
class UploadProgress:
    """So many bytes have been sent."""

    done: int
    total: int


@dataclass(frozen=True)
class Uploaded:
    """The CT is on the server.

    Attributes:
        was_there: It had been sent before.
    """

    image_id: str
    already_present: bool
