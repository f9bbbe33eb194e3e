"""What comes back from an inference: a slab of synthetic PET, and what is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.client.json_fields import count, mapping, must, number, plain, word
from CT2PETLib.client.multipart import split_parts
from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd


@dataclass(frozen=True)
class InferResult:
    """What is told about a synthetic PET.

    Attributes:
        model, version, checksum: Which weights drew it.
        start, stop: The slices of the CT.
        shape: (slices, rows, columns).
        suv: `min`, `max`, `mean`, `p99`, SUVbw.
        notice: What a reader of the picture must know.
        standing: How the model does beside trivial predictors.
        seen_in_training: Whether the model has learnt from this patient; None where nobody knows.
        figures: Against the real PET: by method and measure; empty where there are none.
        why_no_figures: In words.
        calibrated_on: Patients whose errors an uncertainty map is made of; 0 where none came.
        seconds: Of each step on the server.
        series_instance_uid: Of the DICOM series that was made; empty where none was.
        stored: Whether that series was put beside its CT.
    """

    model: str
    version: str
    checksum: str
    start: int
    stop: int
    shape: tuple[int, ...]
    suv: Mapping[str, float]
    notice: str
    standing: str
    seen_in_training: bool | None
    figures: Mapping[str, Mapping[str, float | None]]
    why_no_metrics: str
    calibrated_on: int
    seconds: Mapping[str, float]
    series_instance_uid: str
    stored: bool


@dataclass(frozen=True, eq=False)
class Slab:
    """A slab as it came: NRRD files, SUVbw float32 on the CT's grid.

    Attributes:
        pet: The synthetic PET; empty bytes where the uncertainty alone was asked for.
        uncertainty: The error to expect, SUVbw; None where it was not asked for.
    """

    pet: bytes
    uncertainty: bytes | None
    told: InferResult

    def pet_volume(self) -> NrrdVolume:
        """Return the synthetic PET.

        Raises:
            AnswerError: It is damaged.
        """
        return read_nrrd(self.pet)

    def uncertainty_volume(self) -> NrrdVolume | None:
        """Return the map of errors to expect, or None.

        Raises:
            AnswerError: It is damaged.
        """
        return None if self.uncertainty is None else read_nrrd(self.uncertainty)


def read_slab(content: bytes, content_type: str, asked: tuple[int, int]) -> Slab:
    """Return the slab of an answer.

    Raises:
        AnswerError: It is not understood, or of other slices than asked for.
    """
    parts = split_parts(content, content_type)
    if "params" not in parts or "image" not in parts:
        raise InvalidResponseError(f"The answer holds {', '.join(parts) or 'nothing'}, expected params and image.")
    told = read_infer_result(plain(parts["params"]))
    if (told.start, told.stop) != asked:
        raise InvalidResponseError(
            f"The server drew slices {told.start}:{told.stop}, asked for were {asked[0]}:{asked[1]}: does the address "
            "lead to a ct2pet server of this version?"
        )
    return Slab(parts["image"], parts.get("uncertainty"), told)


def read_infer_result(answer: Any) -> InferResult:
    """Return what the JSON of an answer tells.

    Raises:
        AnswerError: It lacks what every answer tells.
    """
    told = mapping(answer)
    first, _, last = word(must(told, "slices")).partition(":")
    if not (first.isdigit() and last.isdigit()):
        raise InvalidResponseError(f"The answer is not understood: it tells of slices {word(told['slices'])[:40]!r}.")
    model, series = mapping(must(told, "model")), mapping(told.get("series"))
    numbers = {name: number(value) for name, value in mapping(told.get("suv")).items()}
    return InferResult(
        model=word(model.get("name")),
        version=word(model.get("version")),
        checksum=word(model.get("checksum")),
        start=int(first),
        stop=int(last),
        shape=tuple(int(size) for size in told.get("shape") or ()),
        suv={name: value for name, value in numbers.items() if value is not None},
        notice=word(told.get("notice")),
        standing=word(mapping(told.get("standing")).get("sentence")),
        seen_in_training=told.get("seen_in_training"),
        figures=_figures(told.get("metrics")),
        why_no_metrics=word(told.get("why_no_metrics")),
        calibrated_on=count(mapping(told.get("uncertainty")).get("calibrated_on")),
        seconds={name: float(value) for name, value in mapping(told.get("latencies")).items()},
        series_instance_uid=word(series.get("series_instance_uid")),
        stored=bool(series.get("stored")),
    )


def _figures(metrics: Any) -> dict[str, dict[str, float | None]]:
    rows = mapping(metrics).items()
    return {method: {name: number(value) for name, value in mapping(row).items()} for method, row in rows}
