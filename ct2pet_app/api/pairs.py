"""The pairs of CT and PET: seeing them, adding one from a viewer, answering for one that looks wrong."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, File, Form, Request, UploadFile

from ct2pet_app.api.datastore import received
from ct2pet_app.auth.permissions import ADMIN, ANNOTATOR, USER
from ct2pet_app.datastore.pairs.service import accept_pair, add_pair, describe_pairs
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def pair_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses of the pairs."""
    router = APIRouter(route_class=GuardedRoute, tags=["ct2pet"])
    router.add_api_route("/ct2pet/pairs", _pairs(app), dependencies=[USER], methods=["GET"])
    router.add_api_route("/ct2pet/pairs", _add(app), dependencies=[ANNOTATOR], methods=["POST"])
    router.add_api_route("/ct2pet/pairs/{ct}/accept", _accept(app), dependencies=[ADMIN], methods=["POST"])
    return router


def _pairs(app: CT2PETApp) -> Any:
    def listed() -> list[dict[str, Any]]:
        """Every pair of CT and PET: its patient, its side of the split and since when, its check and the reasons."""
        return describe_pairs(app.studies_datastore)

    return listed


def _add(app: CT2PETApp) -> Any:
    async def add(
        request: Request,
        ct: UploadFile | None = File(None),
        pet: UploadFile | None = File(None),
        study: UploadFile | None = File(None),
        despite_checks: bool = Form(False),
    ) -> dict[str, Any]:
        """Add a CT and its PET to the studies, each a .zip of one DICOM series, or one `study` .zip of both.

        The PET alone is enough where its CT is there. `despite_checks` takes a pair that does not look like one.
        """
        sent = {field: file for field, file in (("ct", ct), ("pet", pet), ("study", study)) if file is not None}

        def work(gone: IsDisconnected) -> dict[str, Any]:
            """Check the pair and keep it."""
            with tempfile.TemporaryDirectory(prefix="ct2pet-upload-") as folder:
                archives = {field: received(file, Path(folder) / f"{field}.zip") for field, file in sent.items()}
                return add_pair(app.studies_datastore, archives, despite_checks=despite_checks, gone=gone)

        return await app.pools.uploads.run(request, work)

    return add


def _accept(app: CT2PETApp) -> Any:
    async def accept(request: Request, ct: str) -> dict[str, Any]:
        """Answer for the pair of a CT: it is trained on whatever its check says, as long as its files stay the same."""
        return await app.pools.uploads.run(request, lambda _: accept_pair(app.studies_datastore, ct))

    return accept
