"""What the page shows, asked of the live server: CT, synthetic PET slab by slab, measured PET where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import sleep

from CT2PETLib.client.client import Client
from CT2PETLib.client.connection import FORBIDDEN, SIGN_IN, UNTRAINED, Connection
from CT2PETLib.client.errors import RefusedError, ServerError
from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.client.schemas import Model
from CT2PETLib.client.studies import Study
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob

from scripts.review_page.progress import Progress

POLL_INTERVAL_S = 0.02
UIDS_NAMED = 5


class ReviewError(Exception):
    """The page cannot be shown; a sentence for the user with the way out."""


@dataclass(frozen=True)
class Wish:
    """Whose synthetic PET is to be shown."""

    client: Client
    model: Model
    study: Study


@dataclass(frozen=True, eq=False)
class Review:
    """All that the page shows.

    Attributes:
        server: Address of the server that drew it.
        study: Of the CT; its ids only are shown.
        model: What the server says of the model, as it was when it was chosen.
        ct: HU.
        slabs: Together the synthetic PET, SUVbw on the CT's grid.
        told: What the server tells of the slab that came last: model, version, checksum, standing.
        real: The measured PET, SUVbw on its own grid; None where the server has none.
    """

    server: str
    study: Study
    model: Model
    ct: NrrdVolume
    slabs: tuple[ReceivedSlab, ...]
    told: InferResult
    real: NrrdVolume | None


def find(client: Client, image_id: str, model: str) -> Wish:
    """Return what is to be drawn.

    Args:
        client: Of the server; signed in where it has accounts.
        image_id: SeriesInstanceUID of a CT of the server, or the id under which one was sent.
        model: Its name; empty for the server's first that is trained.

    Raises:
        ReviewError: The server cannot be used, or has no such CT or model.
    """
    connection = client.test_connection()
    if not connection.is_usable or connection.server is None:
        raise ReviewError(_no_server(client, connection))
    models = connection.server.models
    chosen = connection.server.model(model) if model else next(iter(connection.server.trained), None)
    if chosen is None and model:
        names = ", ".join(of.name for of in models)
        raise ReviewError(f"The server has no model {model!r}: choose --model of {names}")
    if connection.kind == UNTRAINED or chosen is None or not chosen.trained:
        trained = ", ".join(of.name for of in connection.server.trained)
        other = f"choose --model of {trained}" if trained else "train it, or ask who runs the server"
        raise ReviewError(f"Nobody has trained the model {model or ', '.join(of.name for of in models)} yet: {other}")
    study = client.study(image_id)
    if study is None:
        known = client.studies()
        some = "".join(f"\n  {of.image_id}" for of in known[:UIDS_NAMED])
        more = f"\n  and {len(known) - UIDS_NAMED} more" if len(known) > UIDS_NAMED else ""
        raise ReviewError(
            f"{client.address} has no CT {image_id[:80]!r}; CT_UID is the SeriesInstanceUID of one that it has"
            f"{':' if known else ', and it has none'}{some}{more}"
        )
    return Wish(client, chosen, study)


def ask(wish: Wish, progress: Progress) -> Review:
    """Return the CT, its synthetic PET and its real one; tells how far it is.

    Raises:
        ReviewError: The server failed, or was lost for too long.
    """
    try:
        ct = read_nrrd(wish.client.ct(wish.study.image_id, progress=_bytes(progress, "CT")))
        slabs = _draw(wish, ct.array.shape[0], progress)
        real = None
        if wish.study.has_real_pet:
            real = read_nrrd(wish.client.real_pet(wish.study.image_id, progress=_bytes(progress, "Measured PET")))
    except ServerError as error:
        raise ReviewError(str(error)) from error
    return Review(str(wish.client.address), wish.study, wish.model, ct, slabs, slabs[-1].told, real)


def sign_in(client: Client, user: str, password: str) -> None:
    """Sign in.

    Raises:
        ReviewError: Wrong user name or password, or the server cannot be asked.
    """
    try:
        client.sign_in(user, password)
    except RefusedError as error:
        raise ReviewError(f"{error} Leave out --user.") from error
    except ServerError as error:
        raise ReviewError(str(error)) from error


def _draw(wish: Wish, slices: int, progress: Progress) -> tuple[ReceivedSlab, ...]:
    """Return every slab; those round the middle come first."""
    job = SynthesisJob(
        wish.client, model=wish.model.name, image_id=wish.study.image_id, wanted=(0, slices), centre=slices // 2
    )
    slabs: list[ReceivedSlab] = []
    progress.show("Synthetic PET", 0.0, f"0 of {slices} slices")
    job.start()
    try:
        while not job.state.is_over:
            for what in job.drain():
                if isinstance(what, Restarted):
                    slabs.clear()
                if isinstance(what, (Restarted, ConnectionLost)):
                    progress.say(what.sentence)
                if isinstance(what, ReceivedSlab):
                    slabs.append(what)
            if slabs:
                done = sum(slab.stop - slab.start for slab in slabs)
                left = job.seconds_left
                wait = f", {left:.0f} s left" if left else ""
                progress.show("Synthetic PET", job.fraction, f"{done} of {slices} slices{wait}")
            sleep(POLL_INTERVAL_S)
    finally:
        job.cancel()
    if job.state is not State.DONE:
        raise ReviewError(job.sentence or "Cancelled.")
    return tuple(slabs)


def _bytes(progress: Progress, what: str) -> Callable[[int, int], None]:
    def tell(come: int, of: int) -> None:
        """Show how many megabytes have come."""
        progress.show(what, come / of if of else 0.0, f"{come / 1e6:.1f} MB")

    progress.show(what, 0.0, "asked for")
    return tell


def _no_server(client: Client, connection: Connection) -> str:
    if connection.kind == SIGN_IN:
        return f"{client.address} wants to know who you are: give --user NAME, or --token-stdin"
    if connection.kind == FORBIDDEN:
        return f"{connection.sentence} Give --user NAME of somebody who may, or ask who runs the server for the role."
    return f"{connection.sentence} (--server {client.address})"
