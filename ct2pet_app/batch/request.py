"""The parameters of a batch, as a client sends them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ct2pet_app.datastore.studies import FINAL
from ct2pet_app.inference.request import InferOptions, LabelTag
from ct2pet_app.json_values import require_plain
from ct2pet_app.server.tasks.progress import REPORT_KEY
from ct2pet_app.validation import BoundaryModel, Flag, Number, use_default_if_empty, validated

ImageIds = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(lambda ids: tuple(dict.fromkeys(ids)))]


def _refuse_final(tag: str) -> str:
    if tag == FINAL:
        raise ValueError("final is the tag of the real PETs; choose another one, such as synthetic")
    return tag


def _checked_slab(value: Any) -> str:
    InferOptions.from_params({"slices": value})
    return str(value)


class BatchRequest(BoundaryModel):
    """A batch inference request.

    Attributes:
        images: The CTs: `all`, those without a real PET (`unlabeled`), those with one (`labeled`), or their ids.
        tag: Tag of the new labels.
        max_images: Maximum number of images; 0 for all.
        slices: Slab `A:B` of each CT; empty for all slices.
        metrics: Whether to compare with the real PET, if there is one.
        store: Whether to store each PET also as a DICOM series in the CT's study.
        allow_unlike: Whether to synthesise PETs of CTs that are unlike the training CTs; otherwise these fail.
    """

    subject = "parameter of a batch"
    # sent by stock clients and the stock server by default; here one process handles one CT at a time
    ignored_keys: ClassVar[frozenset[str]] = frozenset(
        {"device", "multi_gpu", "gpus", "logging", "save_label", "max_workers", "client_id", "bundle_path", REPORT_KEY}
    )

    model: str = Field(description="the name of a model")
    images: Literal["all", "unlabeled", "labeled"] | ImageIds = Field(
        "all", description="all, unlabeled, labeled, or a list of images' ids"
    )
    tag: Annotated[LabelTag, AfterValidator(_refuse_final)] = Field("synthetic", alias="label_tag")
    max_images: Annotated[Number, BeforeValidator(use_default_if_empty)] = Field(
        0, alias="max_batch_size", description="a number of images, or 0 for all"
    )
    slices: Annotated[str, BeforeValidator(_checked_slab), BeforeValidator(use_default_if_empty)] = ""
    metrics: Flag = True
    store: Flag = False
    allow_unlike: Flag = False

    @classmethod
    def from_mapping(cls, request: Mapping[str, Any]) -> BatchRequest:
        """Return the validated request.

        Raises:
            RequestError: An unknown key or an invalid value.
        """
        plain = {key: value.value if isinstance(value, Enum) else value for key, value in request.items()}
        require_plain(plain)
        return validated(cls, plain)

    @property
    def settings(self) -> dict[str, Any]:
        """The request for the batch's process."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def infer_params(self) -> dict[str, Any]:
        """The parameters of each inference."""
        shared = self.model_dump(include={"model", "slices", "metrics", "store", "allow_unlike"})
        return {**shared, "save_label": True, "label_tag": self.tag}
