"""What a client may ask of an inference, out of the loose JSON it sends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ct2pet_app.datastore.labels.label_store import checked_name
from ct2pet_app.errors import RequestError

DICOM = ".zip"  # of a DICOM series
EXTENSIONS = (".nrrd", ".nii.gz", ".mha", DICOM)
SLAB = re.compile(r"\s*(-?\d{1,6})?\s*:\s*(-?\d{1,6})?\s*")
# MONAI Label lets these name any file of the server: the image is chosen by ?image=, an upload or a session, only
FORBIDDEN = ("image", "images", "file", "path", "session", "label", "model")
VERSION = re.compile(r"[0-9]{1,6}")
KNOWN = ("slices", "version", "result_extension", "metrics", "uncertainty", "save_label", "label_tag", "store")
Uncertainty = Literal["no", "beside", "only"]
# what stock clients always send and what has no meaning here; a result is float32 whatever dtype is asked for
WITHOUT_MEANING = frozenset(
    {"client_id", "device", "result_dtype", "result_compress", "result_write_to_file", "description", "logging",
     "restore_label_idx", "cache_transforms", "cache_transforms_in_memory", "cache_transforms_ttl"}
)  # fmt: skip


@dataclass(frozen=True)
class InferOptions:
    """How a CT is to be synthesised.

    Attributes:
        slices: The slab `A:B`; all slices when None.
        version: Of the model, whether or not it is the one that is served; that one when None.
        extension: Of the result file; `.zip` is a DICOM series.
        metrics: Compare with the real PET where there is one.
        uncertainty: The map of errors to expect: not wanted, a second file beside the PET, or the only file.
        save_label: Keep the result in the datastore, too.
        label_tag: Under this tag.
        store: Put the PET as a DICOM series beside its CT's study, into the studies folder or the PACS.
        ignored: Parameters that were sent and have no meaning here; the answer names them.
    """

    slices: slice | None = None
    version: int | None = None
    extension: str = ".nrrd"
    metrics: bool = True
    uncertainty: Uncertainty = "no"
    save_label: bool = False
    label_tag: str = "synthetic"
    store: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def needs_series(self) -> bool:
        """Whether the PET is wanted as a DICOM series."""
        return self.store or self.extension == DICOM

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> InferOptions:
        """Return the options of a request's `params`.

        Raises:
            RequestError: A value that is not understood, or a key that would choose a file.
        """
        for key in FORBIDDEN:
            if key in params:
                raise RequestError(
                    f"params may not hold {key!r}: an image is chosen by ?image=<CT series UID>, an uploaded file or a "
                    "session; the model by the address"
                )
        extension, store = _extension(params.get("result_extension")), _flag(params, "store", default=False)
        if extension == DICOM or store:
            _refuse_beside_dicom(params, extension)
        return cls(
            slices=_slab(params.get("slices")),
            version=_version(params.get("version")),
            extension=extension,
            metrics=_flag(params, "metrics", default=True),
            uncertainty=_uncertainty(params),
            save_label=_flag(params, "save_label", default=False),
            label_tag=checked_name(str(params.get("label_tag") or cls.label_tag), "label_tag"),
            store=store,
            ignored=tuple(sorted(set(params) - set(KNOWN) - WITHOUT_MEANING)),
        )


def _slab(text: Any) -> slice | None:
    if text in (None, ""):
        return None
    found = SLAB.fullmatch(str(text))
    if found is None:
        raise RequestError(f"slices {str(text)[:40]!r}: give A:B, for example 10:20 for the ten slices 10 to 19")
    start, stop = (int(end) if end else None for end in found.groups())
    return slice(start, stop)


def _version(value: Any) -> int | None:
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not VERSION.fullmatch(str(value)):
        raise RequestError(
            f"version {str(value)[:40]!r}: expected the number of a version; left out, it is the one that is served",
            code="invalid_version",
        )
    return int(value)


def _extension(text: Any) -> str:
    if text in (None, ""):
        return EXTENSIONS[0]
    wanted = str(text).lower()
    extension = wanted if wanted.startswith(".") else f".{wanted}"
    if extension not in EXTENSIONS:
        raise RequestError(f"result_extension {wanted[:40]!r}: expected one of {', '.join(EXTENSIONS)}")
    return extension


def _refuse_beside_dicom(params: Mapping[str, Any], extension: str) -> None:
    uncertainty = _uncertainty(params)
    if uncertainty == "only" or (uncertainty == "beside" and extension == DICOM):
        raise RequestError("uncertainty: a DICOM series is the PET alone; ask for the uncertainty without it")
    if extension == DICOM and _flag(params, "save_label", default=False):
        raise RequestError("save_label: a label is a volume file, not a .zip; store puts the DICOM series by its CT")


def _uncertainty(params: Mapping[str, Any]) -> Uncertainty:
    if str(params.get("uncertainty")).lower() != "only":
        try:
            return "beside" if _flag(params, "uncertainty", default=False) else "no"
        except RequestError as error:
            raise RequestError(f"{error}, or only") from error
    if _flag(params, "save_label", default=False):
        raise RequestError("save_label: a label is a PET; ask for the uncertainty beside it (true), not only")
    return "only"


def _flag(params: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = params.get(key, default)
    words = {"true": True, "false": False, "1": True, "0": False}
    flag = words.get(str(value).lower())
    if flag is None:
        raise RequestError(f"{key} {str(value)[:40]!r}: expected true or false")
    return flag
