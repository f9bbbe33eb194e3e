"""Fetch what the page shows from the server: the CT, its synthetic PET slab by slab, and the measured PET if any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import sleep

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import RefusedError, ServerError
from CT2PETLib.client.http.connection import FORBIDDEN, SIGN_IN, Connection
from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.client.schemas import Model, Server
from CT2PETLib.client.studies import Study
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob

from scripts.review_page.progress_bar import ProgressBar

POLL_INTERVAL_S = 0.02
MAX_LISTED_UIDS = 5


class ReviewError(Exception):
    """The page cannot be shown; the message says what to do."""


@dataclass(frozen=True)
class ReviewRequest:
    """A CT of a server, the model that synthesises its PET, and whether the CT may be unlike the training CTs."""

    client: Client
    model: Model
    study: Study
    allow_unlike: bool = False


@dataclass(frozen=True, eq=False)
class ReviewData:
    """What the page shows.

    Attributes:
        server: Address of the server.
        study: The CT's study; the page shows only its IDs.
        model: The model's description, from before the inference.
        ct: HU.
        slabs: Slabs of the synthetic PET, SUVbw on the CT's grid; together they cover the CT.
        metadata: Metadata of the slab received last: model, version, checksum, baseline comparison.
        real: Measured PET, SUVbw on its own grid; None if the server has none.
    """

    server: str
    study: Study
    model: Model
    ct: NrrdVolume
    slabs: tuple[ReceivedSlab, ...]
    metadata: InferResult
    real: NrrdVolume | None


def sign_in(client: Client, user: str, password: str) -> None:
    """Sign in.

    Raises:
        ReviewError: Wrong user name or password, or the server does not respond.
    """
    try:
        client.sign_in(user, password)
    except RefusedError as error:
        raise ReviewError(f"{error} Leave out --user.") from error
    except ServerError as error:
        raise ReviewError(str(error)) from error


def find(client: Client, image_id: str, model: str, *, allow_unlike: bool = False) -> ReviewRequest:
    """Return the CT and the model of these names.

    Args:
        client: Client of the server, signed in if the server has accounts.
        image_id: SeriesInstanceUID of a CT of the server, or the ID of an uploaded one.
        model: Name of the model; empty for the server's first trained model.
        allow_unlike: Whether the CT may be unlike the training CTs.

    Raises:
        ReviewError: The server cannot be used, or has no such CT or trained model.
    """
    connection = client.test_connection()
    if not connection.is_usable or connection.server is None:
        raise ReviewError(_connection_message(client, connection))
    chosen = _find_model(connection.server, model)
    study = client.study(image_id)
    if study is None:
        raise ReviewError(_unknown_ct_message(client, image_id))
    return ReviewRequest(client, chosen, study, allow_unlike)


def fetch(request: ReviewRequest, progress: ProgressBar) -> ReviewData:
    """Return the CT, its synthetic PET and its measured PET, and show the progress.

    Raises:
        ReviewError: The server failed, or the connection was lost for too long.
    """
    client, study = request.client, request.study
    try:
        ct = read_nrrd(client.ct(study.image_id, progress=_download_progress(progress, "CT")))
        slabs = _synthesize(request, ct.array.shape[0], progress)
        real = None
        if study.has_real_pet:
            real = read_nrrd(client.real_pet(study.image_id, progress=_download_progress(progress, "Measured PET")))
    except ServerError as error:
        raise ReviewError(str(error)) from error
    return ReviewData(str(client.address), study, request.model, ct, slabs, slabs[-1].metadata, real)


def _find_model(server: Server, name: str) -> Model:
    chosen = server.model(name) if name else next(iter(server.trained), None)
    names = ", ".join(model.name for model in server.models)
    if chosen is None and name:
        raise ReviewError(f"The server has no model {name!r}: choose --model from {names}")
    if chosen is None or not chosen.trained:
        trained = ", ".join(model.name for model in server.trained)
        hint = f"choose --model from {trained}" if trained else "train it, or contact the server's administrator"
        raise ReviewError(f"No trained weights for {name or names} yet: {hint}")
    return chosen


def _unknown_ct_message(client: Client, image_id: str) -> str:
    known = [study.image_id for study in client.studies()]
    listed = "".join(f"\n  {uid}" for uid in known[:MAX_LISTED_UIDS])
    more = f"\n  and {len(known) - MAX_LISTED_UIDS} more" if len(known) > MAX_LISTED_UIDS else ""
    return (
        f"{client.address} has no CT {image_id[:80]!r}; expected the SeriesInstanceUID of one of its CTs"
        f"{':' if known else ', but it has none'}{listed}{more}"
    )


def _connection_message(client: Client, connection: Connection) -> str:
    if connection.kind == SIGN_IN:
        return f"{client.address} requires authentication: give --user NAME or --token-stdin"
    if connection.kind == FORBIDDEN:
        return (
            f"{connection.message} Give --user NAME of an account with permission, or request the role from the "
            "server's administrator."
        )
    return f"{connection.message} (--server {client.address})"


def _synthesize(request: ReviewRequest, slices: int, progress: ProgressBar) -> tuple[ReceivedSlab, ...]:
    """Return all slabs, starting with those around the middle slice."""
    job = SynthesisJob(
        request.client,
        model=request.model.name,
        image_id=request.study.image_id,
        requested=(0, slices),
        centre=slices // 2,
        allow_unlike=request.allow_unlike,
    )
    slabs: list[ReceivedSlab] = []
    progress.show("Synthetic PET", 0.0, f"0 of {slices} slices")
    job.start()
    try:
        while not job.state.is_over:
            for event in job.drain():
                if isinstance(event, Restarted):
                    slabs.clear()
                if isinstance(event, (Restarted, ConnectionLost)):
                    progress.print_line(event.message)
                if isinstance(event, ReceivedSlab):
                    slabs.append(event)
            if slabs:
                done = sum(slab.stop - slab.start for slab in slabs)
                left = job.seconds_left
                eta = f", {left:.0f} s left" if left else ""
                progress.show("Synthetic PET", job.fraction, f"{done} of {slices} slices{eta}")
            sleep(POLL_INTERVAL_S)
    finally:
        job.cancel()
    if job.state is not State.DONE:
        raise ReviewError(job.message or "Cancelled.")
    return tuple(slabs)


def _download_progress(progress: ProgressBar, label: str) -> Callable[[int, int], None]:
    def show(received: int, total: int) -> None:
        progress.show(label, received / total if total else 0.0, f"{received / 1e6:.1f} MB")

    progress.show(label, 0.0, "requested")
    return show
