"""The pairs of CT and PET: list them, add one from a viewer, accept one whose check failed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, File, Form, Request, UploadFile

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.form_data import received
from ct2pet_app.api.schemas.studies import AddedPair, PairEntry
from ct2pet_app.auth.permissions import ADMIN, ANNOTATOR, USER
from ct2pet_app.datastore.pair_service import accept_pair, add_pair, describe_pairs
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

router = APIRouter(route_class=GuardedRoute, tags=["ct2pet"])


@router.get("/ct2pet/pairs", dependencies=[USER], response_model=list[PairEntry])
def list_pairs(app: AppDep) -> list[dict[str, Any]]:
    """List every pair of CT and PET: its patient, its side of the split and since when, its check and the reasons."""
    return describe_pairs(app.studies_datastore)


@router.post("/ct2pet/pairs", dependencies=[ANNOTATOR], response_model=AddedPair)
async def upload_pair(
    request: Request,
    app: AppDep,
    ct: UploadFile | None = File(None),
    pet: UploadFile | None = File(None),
    study: UploadFile | None = File(None),
    despite_checks: bool = Form(False),
) -> dict[str, Any]:
    """Add a CT and its PET to the studies, each a .zip of one DICOM series, or one `study` .zip of both.

    The PET alone is enough where its CT is in the studies. `despite_checks` accepts a pair whose check failed.
    """
    sent = {field: file for field, file in (("ct", ct), ("pet", pet), ("study", study)) if file is not None}

    def work(is_disconnected: IsDisconnected) -> dict[str, Any]:
        """Check the pair and keep it."""
        with tempfile.TemporaryDirectory(prefix="ct2pet-upload-") as folder:
            archives = {field: received(file, Path(folder) / f"{field}.zip") for field, file in sent.items()}
            return add_pair(
                app.studies_datastore, archives, despite_checks=despite_checks, is_disconnected=is_disconnected
            )

    return await app.pools.uploads.run(request, work)


@router.post("/ct2pet/pairs/{ct}/accept", dependencies=[ADMIN], summary="Accept a pair", response_model=PairEntry)
async def accept(request: Request, app: AppDep, ct: str) -> dict[str, Any]:
    """Accept the pair of a CT for training whatever its check found, as long as its files stay the same."""
    return await app.pools.uploads.run(request, lambda _: accept_pair(app.studies_datastore, ct))
