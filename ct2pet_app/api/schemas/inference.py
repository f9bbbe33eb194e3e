"""The result of an inference, and the description of the app."""

from __future__ import annotations

from typing import Any

from ct2pet_app.api.schemas.registry import Metrics
from ct2pet_app.api.schemas.studies import DatastoreStatus
from ct2pet_app.api_object import ApiObject


class SUVStatistics(ApiObject):
    """Statistics over the voxels, SUVbw; `p99` is the 99th percentile."""

    min: float | None
    mean: float | None
    p99: float | None
    max: float | None


class UncertaintyMap(ApiObject):
    """The map of expected errors.

    Attributes:
        file: Its name in the response.
        what: What a value of it means.
        calibrated_on: Number of validation volumes.
    """

    file: str
    what: str
    unit: str
    suv: SUVStatistics
    calibrated_on: int


class SyntheticSeriesEntry(ApiObject):
    """A synthetic PET as a DICOM series; `stored` in the studies or not."""

    study_instance_uid: str
    series_instance_uid: str
    instances: int
    stored: bool


class IntervalEntry(ApiObject):
    """A prediction interval.

    Attributes:
        low, high: Its ends, SUVbw; null where there is none.
        level: Probability that it holds the real value.
        patients: Number of patients that it was calibrated on.
        sentence: The interval, or why there is none.
    """

    low: float | None
    high: float | None
    level: float
    patients: int
    sentence: str


class MeanAndMaximum(ApiObject):
    """The intervals of a region's mean and maximum."""

    mean: IntervalEntry
    max: IntervalEntry


class RegionEntry(ApiObject):
    """The uptake of a region, SUVbw, with its intervals; `kind` is `region` or `lesion`."""

    kind: str
    volume_ml: float
    suv_mean: float
    suv_max: float
    interval: MeanAndMaximum


class NamedModel(ApiObject):
    """The weights that were used."""

    name: str
    version: int | None
    checksum: str


class RegionAnswer(RegionEntry):
    """A region of a CT; `slices` were synthesised for it, `A:B`."""

    image: str
    slices: str
    notice: str
    model: NamedModel


class RegionIntervals(ApiObject):
    """Regions with their intervals, in the order of the request."""

    regions: list[RegionEntry]
    model: NamedModel


class UsedModel(ApiObject):
    """The weights that were used, with their model card."""

    name: str
    version: int | None
    checksum: str
    card: dict[str, Any]


class FamiliarityOfCT(ApiObject):
    """How much a CT resembles the CTs that the model was trained on.

    Attributes:
        level: `familiar`, `unusual`, `unlike`, or `unknown`.
        sentence: The judgement in one line; empty if familiar.
        reasons: What differs, most different first; of `unknown`, why.
        score: Largest distance outside the training CTs' range of a number, divided by its limit; above 1 unusual,
            above 2 unlike; null of `unknown`.
        patients: Number of training patients.
    """

    level: str
    sentence: str
    reasons: list[str]
    score: float | None
    patients: int | None


class InferResult(ApiObject):
    """The metadata of a synthetic PET.

    Attributes:
        standing: The comparison of the model with the baselines.
        familiarity: Whether the CT resembles the training CTs; a CT that does not is warned about in `warnings`, too.
        image: Id of the CT, or name of the upload.
        shape: Slices, rows, columns.
        slices: Those of the CT that were synthesised, `A:B`.
        region: The uptake of the requested region.
        metrics: Against the real PET, by method (`model`, or a baseline) and name.
        why_no_metrics: Empty where there are metrics.
        seen_in_training: Whether the model was trained on this patient; null for unknown patients.
        ignored: Parameters without a meaning.
        latencies: Seconds by step.
    """

    synthetic: bool
    notice: str
    standing: dict[str, Any]
    familiarity: FamiliarityOfCT
    image: str
    unit: str
    shape: list[int]
    spacing_mm: list[float]
    slices: str
    suv: SUVStatistics
    uncertainty: UncertaintyMap | None
    series: SyntheticSeriesEntry | None
    region: RegionEntry | None
    metrics: dict[str, Metrics] | None
    why_no_metrics: str
    seen_in_training: bool | None
    model: UsedModel
    ignored: list[str]
    warnings: list[str]
    latencies: dict[str, float]


class AppInfo(ApiObject):
    """The app, in MONAI Label's form; models, trainers and methods by name."""

    name: str
    description: str
    version: str
    labels: list[str]
    models: dict[str, dict[str, Any]]
    trainers: dict[str, dict[str, Any]]
    strategies: dict[str, dict[str, Any]]
    scoring: dict[str, dict[str, Any]]
    train_stats: dict[str, dict[str, Any]]
    datastore: DatastoreStatus
