"""The parameters of an inference request, `params`, as a client sends them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from ct2pet_app.datastore.labels.label_store import checked_name
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.region import RegionRequest
from ct2pet_app.validation import BoundaryModel, Flag, Number, use_default_if_empty, validated

DICOM = ".zip"  # of a DICOM series
SLAB = re.compile(r"\s*(-?\d{1,6})?\s*:\s*(-?\d{1,6})?\s*")
# in MONAI Label these can name any file of the server; here ?image=, an upload or a session selects the image
FORBIDDEN = ("image", "images", "file", "path", "session", "label", "model")
Uncertainty = Literal["no", "both", "only"]
UNCERTAINTY: Mapping[str, Uncertainty] = {"true": "both", "1": "both", "false": "no", "0": "no", "only": "only"}


def _slab(value: Any) -> Any:
    found = SLAB.fullmatch(str(value))
    return slice(*(int(end) if end else None for end in found.groups())) if found else value


def _extension(value: Any) -> str:
    return f".{str(value).lower().removeprefix('.')}"


def _label_tag(value: Any) -> str:
    return checked_name(str(value), "label_tag")


LabelTag = Annotated[str, BeforeValidator(_label_tag), BeforeValidator(use_default_if_empty)]


class InferOptions(BoundaryModel):
    """The options of an inference.

    Attributes:
        slices: The slab; None for all slices.
        version: Version of the model, served or not; None for the served one.
        extension: Extension of the result file; `.zip` is a DICOM series.
        compress: Whether to compress the result file, which takes ten times as long as writing it.
        metrics: Whether to compare with the real PET, if there is one.
        uncertainty: Map of expected errors: none (`no`), as a second file (`both`), or as the only file (`only`).
        region: A sphere or box whose uptake is returned with its intervals.
        save_label: Whether to keep the result in the datastore, too, under `label_tag`.
        store: Whether to store the PET as a DICOM series in the CT's study, in the studies folder or the PACS.
        allow_unlike: Whether to synthesise the PET of a CT that is unlike the training CTs.
    """

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    error_codes: ClassVar[Mapping[str, str]] = {"version": "invalid_version"}
    ignored_keys: ClassVar[frozenset[str]] = frozenset(  # a result is always float32
        {"client_id", "device", "result_dtype", "result_write_to_file", "description", "logging",
         "restore_label_idx", "cache_transforms", "cache_transforms_in_memory", "cache_transforms_ttl"}
    )  # fmt: skip

    slices: Annotated[slice | None, BeforeValidator(_slab), BeforeValidator(use_default_if_empty)] = Field(
        None, description="A:B, for example 10:20 for the ten slices 10 to 19"
    )
    version: Annotated[Number | None, BeforeValidator(use_default_if_empty)] = Field(
        None,
        description="the number of a version, as GET /ct2pet/models lists them; without it, the served one is used",
    )
    extension: Annotated[
        Literal[".nrrd", ".nii.gz", ".mha", ".zip"],
        BeforeValidator(_extension),
        BeforeValidator(use_default_if_empty),
    ] = Field(".nrrd", alias="result_extension", description="one of .nrrd, .nii.gz, .mha, .zip")
    compress: Flag = Field(False, alias="result_compress")
    metrics: Flag = True
    uncertainty: Annotated[Uncertainty, BeforeValidator(lambda value: UNCERTAINTY.get(str(value).lower()))] = Field(
        "no", description="true or false, or only"
    )
    region: Annotated[RegionRequest | None, BeforeValidator(use_default_if_empty)] = Field(
        None, description='{"center_mm": [x, y, z], "radius_mm": 10} or a box with size_mm, in LPS mm'
    )
    save_label: Flag = False
    label_tag: LabelTag = "synthetic"
    store: Flag = False
    allow_unlike: Flag = False

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.uncertainty == "only" and self.save_label:
            raise ValueError("save_label: a label is a PET; request the uncertainty with it (true), not only")
        if self.needs_series and (self.uncertainty == "only" or (self.uncertainty != "no" and self.extension == DICOM)):
            raise ValueError("uncertainty: a DICOM series is the PET alone; request the uncertainty without it")
        if self.extension == DICOM and self.save_label:
            raise ValueError(
                "save_label: a label is a volume file, not a .zip; use store to add the DICOM series to the CT's study"
            )
        return self

    @property
    def needs_series(self) -> bool:
        """Whether the PET is requested as a DICOM series."""
        return self.store or self.extension == DICOM

    @property
    def ignored(self) -> tuple[str, ...]:
        """Unknown keys of the request; the response lists them."""
        return tuple(sorted(self.model_extra or ()))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> InferOptions:
        """Return the options of a request's `params`.

        Raises:
            RequestError: An invalid value, or a key that would select a file.
        """
        for key in FORBIDDEN:
            if key in params:
                raise RequestError(
                    f"params must not contain {key!r}: select the image by ?image=<CT series UID>, an upload or a "
                    "session, and the model by the URL"
                )
        return validated(cls, params)
