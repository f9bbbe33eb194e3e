"""Uptake of regions with prediction intervals: of a sphere or box in a CT, and of regions that a client measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.schemas.inference import RegionAnswer, RegionIntervals
from ct2pet_app.auth.permissions import USER
from ct2pet_app.inference.region import IntervalRequest, RegionRequest, interval_metadata
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from ct2pet_app.validation import validated
from lib.synthesis.regions import slices_of_region

router = APIRouter(route_class=GuardedRoute, tags=["ct2pet"])


@router.post("/ct2pet/regions/{model}", dependencies=[USER], response_model=RegionAnswer)
async def measure_region(
    request: Request,
    app: AppDep,
    model: str,
    image: str,
    region: dict[str, Any],
    version: Annotated[int | None, Query(ge=1, lt=10**6)] = None,
    allow_unlike: bool = False,
) -> dict[str, Any]:
    """Synthesise the slices of a CT that hold a region, and return its uptake with intervals.

    The region is a sphere, `{"center_mm": [x, y, z], "radius_mm": 10}`, or a box with `size_mm` [x, y, z], in LPS mm.
    Voxels outside the body do not count. `kind` is `region`, or `lesion` for a tumour; `level` is 0.5, 0.8, 0.9 or
    0.95. `allow_unlike` measures in a CT that is unlike the training CTs, too.
    """
    requested = validated(RegionRequest, region)

    def work(is_disconnected: IsDisconnected) -> dict[str, Any]:
        """Return the metadata of the synthesis."""
        source = app.studies_datastore.cts.image(image)
        with source.open(is_disconnected) as opened:
            found = None if opened.geometry is None else slices_of_region(requested.shape, opened.geometry)
        slab = "" if found is None else f"{found.start}:{found.stop}"
        params = {"region": region, "slices": slab, "version": version, "metrics": False, "allow_unlike": allow_unlike}
        result = app.synthesize(model, source, params, is_disconnected=is_disconnected)
        Path(result["file"]).unlink(missing_ok=True)
        return dict(result["params"])

    metadata = await app.pools.inference.run(request, work)
    used = metadata["model"]
    return {
        **metadata["region"],
        "image": image,
        "slices": metadata["slices"],
        "notice": metadata["notice"],
        "model": {name: used[name] for name in ("name", "version", "checksum")},
    }


@router.post("/ct2pet/intervals/{model}", dependencies=[USER], response_model=RegionIntervals)
def get_intervals(app: AppDep, model: str, requested: dict[str, Any]) -> dict[str, Any]:
    """Return the intervals of regions that the client has measured in a synthetic PET of a model.

    `{"regions": [{"volume_ml": 4, "suv_mean": 2.1, "suv_max": 3.5}], "level": 0.9}`; `kind` is `region`, `lesion`, or
    `voxel`.
    """
    checked = validated(IntervalRequest, requested)
    published = app.models.find(app.models.known(model), checked.version)
    return {
        "regions": [interval_metadata(region, card=published.card, level=checked.level) for region in checked.regions],
        "model": {"name": model, "version": published.version, "checksum": published.checksum},
    }
