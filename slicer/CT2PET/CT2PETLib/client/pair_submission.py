"""Training pairs of CT and PET: submission to a server, and its response.

A server trains on DICOM series only, as units, dose and patient are in their headers. A volume of the scene is
submitted as the files that it was loaded from.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.client.json_fields import as_float, as_int, as_mapping, as_str
from CT2PETLib.i18n import _

SIDES = {
    "train": _("models are trained on it"),
    "validation": _("models are selected on it"),
    "test": _("models are tested on it, and never trained on it"),
}


@dataclass(frozen=True)
class Pair:
    """A CT and its PET, as reported by the server.

    Attributes:
        ct_uid, pet_uid: SeriesInstanceUIDs.
        side: `train`, `validation` or `test`, permanently; empty before it is assigned.
        check: `plausible`, `implausible`, `accepted` (implausible, but a user takes responsibility) or `unchecked`.
        reasons: Why the pair is implausible.
        measurements: Known values among `median_suv`, `coverage`, `outline` and `mirrored`.
        warning: A problem with the patient's data that should be reviewed; mostly empty.
        added: Number of files that were new to the server, of a pair that was just submitted.
        left_out: Why a file was left out, by name.
    """

    patient_id: str
    ct_uid: str
    pet_uid: str
    side: str
    check: str
    reasons: tuple[str, ...]
    measurements: Mapping[str, float]
    warning: str
    added: int
    left_out: Mapping[str, str]

    def __str__(self) -> str:
        """Return the outcome of the submission as a message."""
        news = (
            _("{added} files are new to the server").format(added=self.added)
            if self.added
            else _("the server had it already")
        )
        use = SIDES.get(self.side, "it is assigned to training, validation or test at the next training")
        return " ".join(
            filter(
                None, (_("The pair is stored, {news}; {use}.").format(news=news, use=use), *self.reasons, self.warning)
            )
        )


def read_pair(response: Any) -> Pair:
    """Return a pair from the JSON of a response."""
    data, check = as_mapping(response), as_mapping(as_mapping(response).get("check"))
    measured = {name: as_float(value) for name, value in check.items()}
    return Pair(
        patient_id=as_str(data.get("patient_id")),
        ct_uid=as_str(data.get("ct_series_instance_uid")),
        pet_uid=as_str(data.get("pet_series_instance_uid")),
        side=as_str(data.get("side")),
        check=as_str(check.get("result")),
        reasons=tuple(as_str(reason) for reason in check.get("reasons") or ()),
        measurements={name: value for name, value in measured.items() if value is not None},
        warning=as_str(data.get("warning")),
        added=sum(as_int(files) for files in as_mapping(data.get("added_instances")).values()),
        left_out={name: as_str(reason) for name, reason in as_mapping(data.get("left_out")).items()},
    )


def zip_of(files: Iterable[Path]) -> bytes:
    """Return a zip of a series' files, named by number, as file names may contain a patient's name.

    Raises:
        InvalidResponseError: There are no files, or one cannot be read.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:  # uncompressed: pixel data hardly shrinks, and it would take minutes
        for index, file in enumerate(files):
            try:
                zipped.writestr(f"{index:05d}.dcm", file.read_bytes())
            except OSError as error:
                raise InvalidResponseError(
                    _("A file of the series cannot be read ({strerror}): check that its disk is connected.").format(
                        strerror=error.strerror
                    )
                ) from error
        if not zipped.namelist():
            raise InvalidResponseError(_("The volume has no DICOM files: load it from the DICOM database."))
    return packed.getvalue()
