"""Regions of a synthetic PET: their uptake with prediction intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ct2pet_app.validation import BoundaryModel, Number, use_default_if_empty
from lib.imaging.regions import Box, Sphere
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.metrics.conformal.band import LEVELS
from lib.metrics.conformal.intervals import DEFAULT_LEVEL, Kind, no_intervals
from lib.synthesis.regions import measure_region
from lib.synthesis.uncertainty import card_intervals

MAX_REGIONS = 200  # of one request
MAX_COORDINATE_MM = 10_000.0
MAX_SIZE_MM = 400.0  # far above the calibrated volumes


Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE_MM, le=MAX_COORDINATE_MM)]
Size = Annotated[float, Field(gt=0, le=MAX_SIZE_MM)]
RegionKind = Literal["region", "lesion"]
QUANTITIES: Mapping[str, tuple[Kind, Kind]] = {  # of the mean and the maximum
    "voxel": ("voxel", "voxel"),
    "region": ("region_mean", "region_max"),
    "lesion": ("lesion_mean", "lesion_max"),
}
KIND = "region, or lesion for a tumour that was chosen because of its uptake"
LEVEL = f"one of {', '.join(f'{level:g}' for level in LEVELS)}"


def _known_level(level: float) -> float:
    if level not in LEVELS:
        raise ValueError(f"expected {LEVEL}")
    return level


Level = Annotated[float, AfterValidator(_known_level)]


class RegionRequest(BoundaryModel):
    """A sphere (`radius_mm`) or a box (`size_mm`) around a point, x, y and z in LPS mm."""

    subject: ClassVar[str] = "key of a region"

    center_mm: tuple[Coordinate, Coordinate, Coordinate] = Field(description="[x, y, z] in mm, LPS")
    radius_mm: Size | None = Field(None, description=f"the radius of a sphere in mm, at most {MAX_SIZE_MM:g}")
    size_mm: tuple[Size, Size, Size] | None = Field(
        None, description=f"the edges [x, y, z] of a box in mm, each at most {MAX_SIZE_MM:g}"
    )
    kind: RegionKind = Field("region", description=KIND)
    level: Level = Field(DEFAULT_LEVEL, description=LEVEL)

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if (self.radius_mm is None) == (self.size_mm is None):
            raise ValueError("a region is a sphere with radius_mm, or a box with size_mm; give one of the two")
        return self

    @property
    def shape(self) -> Sphere | Box:
        """The sphere or box."""
        if self.radius_mm is not None:
            return Sphere(self.center_mm, self.radius_mm)
        assert self.size_mm is not None  # one of the two
        return Box(self.center_mm, self.size_mm)


class MeasuredRegion(BoundaryModel):
    """Uptake of a region that the client has measured in a synthetic PET."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    subject: ClassVar[str] = "key of a region"

    volume_ml: Annotated[float, Field(ge=0, le=1e6)]
    suv_mean: Annotated[float, Field(ge=0, le=1e4)]
    suv_max: Annotated[float, Field(ge=0, le=1e4)]
    kind: RegionKind | Literal["voxel"] = "region"


class IntervalRequest(BoundaryModel):
    """Regions that the client has measured, and the level of their intervals."""

    subject: ClassVar[str] = "key of a request for intervals"
    error_codes: ClassVar[Mapping[str, str]] = {"version": "invalid_version"}

    regions: tuple[MeasuredRegion, ...] = Field(
        max_length=MAX_REGIONS,
        description=f"at most {MAX_REGIONS} regions with volume_ml, suv_mean, suv_max and, of a lesion or voxel, kind",
    )
    level: Level = Field(DEFAULT_LEVEL, description=LEVEL)
    version: Annotated[Number | None, BeforeValidator(use_default_if_empty)] = Field(
        None, description="the number of a version; without it, the served one is used"
    )


def region_metadata(
    pet: Volume, ct: Volume, region: RegionRequest | None, *, slices: slice | None, card: ModelCard
) -> dict[str, Any] | None:
    """Return the uptake of a region with its intervals, as plain values; None if no region was requested.

    Raises:
        InputError: No voxel of the region is in the PET and in the body.
        CheckpointError: The card's intervals are damaged.
    """
    if region is None:
        return None
    uptake = measure_region(pet, ct, region.shape, slices=slices)
    return interval_metadata(
        MeasuredRegion.model_construct(**asdict(uptake), kind=region.kind), card=card, level=region.level
    )


def interval_metadata(region: MeasuredRegion, *, card: ModelCard, level: float) -> dict[str, Any]:
    """Return a region with the intervals of its mean and maximum, as plain values.

    Raises:
        CheckpointError: The card's intervals are damaged.
    """
    intervals = card_intervals(card)

    def interval(kind: Kind, suv_bw: float) -> dict[str, Any]:
        """Return one interval, or why there is none."""
        if intervals is None:
            return asdict(no_intervals(level))
        return asdict(intervals.interval(kind, suv_bw, volume_ml=region.volume_ml, level=level))

    mean, maximum = QUANTITIES[region.kind]
    return {
        "kind": region.kind,
        "volume_ml": region.volume_ml,
        "suv_mean": region.suv_mean,
        "suv_max": region.suv_max,
        "interval": {"mean": interval(mean, region.suv_mean), "max": interval(maximum, region.suv_max)},
    }
