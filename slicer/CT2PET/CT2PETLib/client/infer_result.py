"""Results of an inference: a slab of synthetic PET and its metadata, and the intervals of regions measured in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.client.http.multipart import split_parts
from CT2PETLib.client.json_fields import as_float, as_int, as_mapping, as_str, parse_json, require
from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.i18n import _


@dataclass(frozen=True)
class InferResult:
    """Metadata of a synthetic PET.

    Attributes:
        model, version, checksum: The weights that predicted it.
        start, stop: Slices of the CT, `stop` excluded.
        shape: (slices, rows, columns).
        suv: `min`, `max`, `mean`, `p99`, SUVbw.
        notice: Warning for readers of the image.
        baseline_summary: Comparison of the model with the baselines.
        unlike_warning: How the CT differs from those that the model was trained on; empty if it does not.
        seen_in_training: Whether the model was trained on this patient; None if unknown.
        metrics: Against the real PET, by method and metric; empty if there are none.
        why_no_metrics: Why there are none.
        calibrated_on: Number of patients that the uncertainty map is calibrated on; 0 without a map.
        seconds: Duration of each step on the server.
        series_instance_uid: Of the DICOM series that was created; empty if none was.
        stored: Whether that series was stored with its CT.
    """

    model: str
    version: str
    checksum: str
    start: int
    stop: int
    shape: tuple[int, ...]
    suv: Mapping[str, float]
    notice: str
    baseline_summary: str
    unlike_warning: str
    seen_in_training: bool | None
    metrics: Mapping[str, Mapping[str, float | None]]
    why_no_metrics: str
    calibrated_on: int
    seconds: Mapping[str, float]
    series_instance_uid: str
    stored: bool


@dataclass(frozen=True, eq=False)
class Slab:
    """A slab as received: NRRD files, SUVbw float32 on the CT's grid.

    Attributes:
        pet: The synthetic PET; empty bytes if only the uncertainty was requested.
        uncertainty: The expected error, SUVbw; None if it was not requested.
    """

    pet: bytes
    uncertainty: bytes | None
    metadata: InferResult

    def pet_volume(self) -> NrrdVolume:
        """Return the synthetic PET.

        Raises:
            InvalidResponseError: The volume is damaged.
        """
        return read_nrrd(self.pet)

    def uncertainty_volume(self) -> NrrdVolume | None:
        """Return the uncertainty map, or None.

        Raises:
            InvalidResponseError: The volume is damaged.
        """
        return None if self.uncertainty is None else read_nrrd(self.uncertainty)


def read_slab(content: bytes, content_type: str, slices: tuple[int, int]) -> Slab:
    """Return the slab in a response.

    Args:
        content: Body of the response.
        content_type: Its Content-Type header.
        slices: The requested slices (start, stop).

    Raises:
        InvalidResponseError: The response has another structure, or other slices than requested.
    """
    parts = split_parts(content, content_type)
    if "params" not in parts or "image" not in parts:
        names = ", ".join(parts) or "nothing"
        raise InvalidResponseError(
            _("Invalid response: it contains {names}, expected params and image.").format(names=names)
        )
    metadata = read_infer_result(parse_json(parts["params"]))
    if (metadata.start, metadata.stop) != slices:
        raise InvalidResponseError(
            _(
                "The server returned slices {start}:{stop}, expected {first}:{last}: check that the address "
                "is that of a ct2pet server of this version."
            ).format(start=metadata.start, stop=metadata.stop, first=slices[0], last=slices[1])
        )
    return Slab(parts["image"], parts.get("uncertainty"), metadata)


def read_infer_result(response: Any) -> InferResult:
    """Return the metadata in the JSON of a response.

    Raises:
        InvalidResponseError: A required field is missing.
    """
    data = as_mapping(response)
    slices = as_str(require(data, "slices"))
    start, __, stop = slices.partition(":")
    if not (start.isdigit() and stop.isdigit()):
        raise InvalidResponseError(
            _("Invalid response: slices is {slices!r}, expected start:stop.").format(slices=slices[:40])
        )
    model, series = as_mapping(require(data, "model")), as_mapping(data.get("series"))
    suv = {name: as_float(value) for name, value in as_mapping(data.get("suv")).items()}
    return InferResult(
        model=as_str(model.get("name")),
        version=as_str(model.get("version")),
        checksum=as_str(model.get("checksum")),
        start=int(start),
        stop=int(stop),
        shape=tuple(int(size) for size in data.get("shape") or ()),
        suv={name: value for name, value in suv.items() if value is not None},
        notice=as_str(data.get("notice")),
        baseline_summary=as_str(as_mapping(data.get("standing")).get("sentence")),
        unlike_warning=_unlike_warning(as_mapping(data.get("familiarity"))),
        seen_in_training=data.get("seen_in_training"),
        metrics=_metrics(data.get("metrics")),
        why_no_metrics=as_str(data.get("why_no_metrics")),
        calibrated_on=as_int(as_mapping(data.get("uncertainty")).get("calibrated_on")),
        seconds={name: float(value) for name, value in as_mapping(data.get("latencies")).items()},
        series_instance_uid=as_str(series.get("series_instance_uid")),
        stored=bool(series.get("stored")),
    )


def _unlike_warning(familiarity: Mapping[str, Any]) -> str:
    differs = as_str(familiarity.get("level")) in ("unusual", "unlike")
    return as_str(familiarity.get("sentence")) if differs else ""


def _metrics(table: Any) -> dict[str, dict[str, float | None]]:
    rows = as_mapping(table).items()
    return {method: {name: as_float(value) for name, value in as_mapping(row).items()} for method, row in rows}


@dataclass(frozen=True)
class MeasuredRegion:
    """Uptake of a region: volume [mL], mean and maximum [SUVbw], and whether it is a tumour."""

    volume_ml: float
    suv_mean: float
    suv_max: float
    is_lesion: bool = False


@dataclass(frozen=True)
class Interval:
    """An interval [SUVbw]; `low` and `high` are None where there is none, and `sentence` says why.

    Attributes:
        level: Probability that it holds the real value.
        patients: Number of patients that it was calibrated on.
    """

    low: float | None
    high: float | None
    level: float
    patients: int
    sentence: str


@dataclass(frozen=True)
class RegionIntervals:
    """The intervals of a region's mean and maximum."""

    mean: Interval
    max: Interval


def intervals_body(regions: Sequence[MeasuredRegion], version: int | None) -> dict[str, Any]:
    """Return the body of the request."""
    sent = [
        {
            "volume_ml": region.volume_ml,
            "suv_mean": max(region.suv_mean, 0.0),
            "suv_max": max(region.suv_max, 0.0),
            "kind": "lesion" if region.is_lesion else "region",
        }
        for region in regions
    ]
    return {"regions": sent, "version": version}


def read_intervals(content: bytes) -> tuple[RegionIntervals, ...]:
    """Return the intervals of a response, in the order of the request."""
    entries = [as_mapping(as_mapping(entry).get("interval")) for entry in require(parse_json(content), "regions")]
    return tuple(
        RegionIntervals(_read_interval(entry.get("mean")), _read_interval(entry.get("max"))) for entry in entries
    )


def _read_interval(value: Any) -> Interval:
    data = as_mapping(value)
    return Interval(
        low=as_float(data.get("low")),
        high=as_float(data.get("high")),
        level=as_float(data.get("level")) or 0.0,
        patients=as_int(data.get("patients")),
        sentence=as_str(data.get("sentence")),
    )
