"""Pairs of CT and PET that a server learns from: sending one, and what it says of it.

A server learns from DICOM series only: units, dose and patient are in their headers. A volume of the scene stands for
the files it was loaded from.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.client.json_fields import count, mapping, number, word

SIDES = {
    "train": "models learn from it",
    "validation": "models are chosen by it",
    "test": "models are judged by it, and never learn from it",
}


@dataclass(frozen=True)
class Pair:
    """A CT and its PET, as the server sees them.

    Attributes:
        ct_uid, pet_uid: SeriesInstanceUIDs.
        side: `train`, `validation` or `test`, for good; empty where it was not decided yet.
        check: `plausible`, `implausible`, `accepted` (implausible, and somebody answers for it) or `unchecked`.
        reasons: What speaks against it.
        figures: What was measured: `median_suv`, `coverage`, `outline`, `mirrored`; those that are known.
        warning: Something about its patient that should be looked at; mostly empty.
        added: Files that the server did not have; of a pair that was just sent.
        left_out: Why a file was left out, by name.
    """

    patient_id: str
    ct_uid: str
    pet_uid: str
    side: str
    check: str
    reasons: tuple[str, ...]
    figures: Mapping[str, float]
    warning: str
    added: int
    left_out: Mapping[str, str]

    def __str__(self) -> str:
        """Say what has become of it."""
        news = f"{self.added} files are new to the server" if self.added else "the server had it already"
        use = SIDES.get(self.side, "its side is decided at the next training")
        return " ".join(filter(None, (f"The pair is kept, {news}; {use}.", *self.reasons, self.warning)))


def read_pair(answer: Any) -> Pair:
    """Return a pair as the server tells of it."""
    told, check = mapping(answer), mapping(mapping(answer).get("check"))
    measured = {name: number(value) for name, value in check.items()}
    return Pair(
        patient_id=word(told.get("patient_id")),
        ct_uid=word(told.get("ct_series_instance_uid")),
        pet_uid=word(told.get("pet_series_instance_uid")),
        side=word(told.get("side")),
        check=word(check.get("result")),
        reasons=tuple(word(reason) for reason in check.get("reasons") or ()),
        figures={name: value for name, value in measured.items() if value is not None},
        warning=word(told.get("warning")),
        added=sum(count(files) for files in mapping(told.get("added_instances")).values()),
        left_out={name: word(reason) for name, reason in mapping(told.get("left_out")).items()},
    )


def zip_of(files: Iterable[Path]) -> bytes:
    """Return a zip of a series' files under numbers: their names may be a patient's.

    Raises:
        AnswerError: There are none, or one cannot be read.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:  # as they are: pixels hardly shrink, and it would take minutes
        for index, file in enumerate(files):
            try:
                zipped.writestr(f"{index:05d}.dcm", file.read_bytes())
            except OSError as error:
                raise InvalidResponseError(
                    f"A file of the series cannot be read ({error.strerror}): is its disk there?"
                ) from error
        if not zipped.namelist():
            raise InvalidResponseError("The volume stands for no DICOM files: load it from the DICOM database.")
    return packed.getvalue()
