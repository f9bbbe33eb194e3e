"""Models, their versions, and their trainings."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import BeforeValidator

from ct2pet_app.api_object import ApiObject
from ct2pet_app.model_registry.serving_log import Served

Metrics = dict[str, float | None]


class UploadedModel(ApiObject):
    """The served file of a model.

    Attributes:
        checksum: SHA-256.
        modified_time: Seconds since 1970.
        version: Null where the disk was too full to keep the file as a version.
    """

    checksum: str
    modified_time: int
    version: int | None


class ServedModel(UploadedModel):
    """The served checkpoint.

    Attributes:
        checksum: `SHA256:` and the digits.
        file: Name of the downloaded file.
        size: Bytes.
        card: The model card.
        train_stats: Of the newest training, if there was one.
    """

    file: str
    size: int
    card: dict[str, Any]
    train_stats: NotRequired[dict[str, Any]]


class CardSummary(ApiObject):
    """What a model card says; of a damaged one only why it is `unusable`.

    Attributes:
        created: UTC, ISO 8601.
        training_patients: Their number.
        judged_on: Such as `4 validation patients`.
        figures: Metrics by method, which is `model` or a baseline, and name.
        standing: The comparison with the baselines, in a sentence.
        uncertainty: Whether the model can estimate its error.
    """

    name: NotRequired[str]
    created: NotRequired[str]
    recipe: NotRequired[str]
    training_patients: NotRequired[int]
    judged_on: NotRequired[str | None]
    figures: NotRequired[dict[str, Metrics]]
    standing: NotRequired[str]
    uncertainty: NotRequired[bool]
    unusable: NotRequired[str]


class VersionVerdict(ApiObject):
    """The decision about a trained version.

    Attributes:
        published: Whether it was served.
        verdict: Why, or why not.
        figures: The comparison that it was based on.
        advice: How to serve the version in spite of the verdict.
    """

    published: bool
    verdict: str
    figures: dict[str, Any] | None
    advice: NotRequired[str]


class VersionEntry(ApiObject):
    """A version of a model.

    Attributes:
        checksum: SHA-256.
        kept: When it was added, UTC, ISO 8601.
        origin: The training run, or how it was added.
        parent: The version that its training started from.
        verdict: Of a trained version.
    """

    version: int
    served: bool
    checksum: str
    kept: str
    origin: str
    parent: int | None
    size_bytes: int
    verdict: VersionVerdict | None
    card: CardSummary


class ModelEntry(ApiObject):
    """A model with all its versions.

    Attributes:
        served: The version that is served.
        checksum: Of the served version, SHA-256.
        unusable: Why the file in its place cannot be served; empty where it can.
        size_bytes: Of all versions together.
        history: Which version was served when, oldest first.
    """

    model: str
    served: int | None
    checksum: str | None
    unusable: str
    versions: list[VersionEntry]
    size_bytes: int
    history: list[Annotated[Served, BeforeValidator(lambda line: Served(**line))]]


class Epoch(ApiObject):
    """One epoch of a training; `loss` is null where it was not finite."""

    epoch: int
    loss: float | None
    metrics: Metrics


class TrainingRun(ApiObject):
    """The newest training run; `model` and `run` are null before the first.

    Attributes:
        epochs: 2000 at most, spread evenly.
        key_metric: By which the best epoch is chosen.
        finished: Whether it ended.
        start_ts: Seconds since 1970.
        total_time, time_left: h:mm:ss.
        train, eval: The best and the newest metrics, in MONAI Label's form.
        published, verdict, version, advice: The decision about its model, once it was made.
    """

    model: str | None
    run: str | None
    epochs: list[Epoch]
    key_metric: NotRequired[str]
    epoch: NotRequired[int]
    total_epochs: NotRequired[int]
    total_time: NotRequired[str]
    time_left: NotRequired[str]
    start_ts: NotRequired[float]
    best_metric: NotRequired[float | None]
    finished: NotRequired[bool]
    stopped_because: NotRequired[str]
    train: NotRequired[dict[str, Any]]
    eval: NotRequired[dict[str, Any]]
    published: NotRequired[bool]
    verdict: NotRequired[str]
    version: NotRequired[int]
    advice: NotRequired[str]
