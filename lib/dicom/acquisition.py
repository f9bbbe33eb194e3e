"""Scanner, body part, tracer, kernel, contrast agent, sex and age of a series, from its header.

A model is valid at most for the scanners, patients and protocols it was trained on.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from pydicom.dataset import Dataset

from lib.dicom.read.header import text_in
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.multiframe import read_frame_headers
from lib.types import Series

logger = logging.getLogger(__name__)

MANUFACTURER, MODEL, BODY_PART = 0x00080070, 0x00081090, 0x00180015
INFORMATION, PHARMACEUTICAL = 0x00540016, 0x00180031  # RadiopharmaceuticalInformationSequence, Radiopharmaceutical
PHARMACEUTICAL_CODE, NUCLIDE_CODE, MEANING = 0x00540304, 0x00540300, 0x00080104
KERNEL, CONTRAST_AGENT, SEX, AGE = 0x00181210, 0x00180010, 0x00100040, 0x00101010
AGE_VALUE = re.compile(r"(\d{1,3})([YMWD])")  # AS (PS3.5 6.2)
YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
MAX_AGE_YEARS = 90.0  # higher ages could identify a patient
NO_AGENT = frozenset({"NO", "NONE", "N", "WITHOUT", "NATIVE"})
MAX_CHARACTERS = 64  # DICOM limit for these attributes (LO)


@dataclass(frozen=True)
class AcquisitionDetails:
    """How a series was acquired; an attribute that the header lacks is empty.

    Attributes:
        scanner: Manufacturer and ManufacturerModelName.
        body_part: BodyPartExamined.
        tracer: Radiopharmaceutical, else the meaning of its code or of the radionuclide's code.
        kernel: ConvolutionKernel, its first value.
        contrast_agent: `yes` if ContrastBolusAgent names one.
        sex: PatientSex: M, F or O.
        age_years: PatientAge, at most 90; None if missing.
    """

    scanner: str = ""
    body_part: str = ""
    tracer: str = ""
    kernel: str = ""
    contrast_agent: str = ""
    sex: str = ""
    age_years: float | None = None


def read_acquisition_details(series: Series) -> AcquisitionDetails:
    """Return the details in the header of the first file; empty details if the header cannot be read.

    No computation depends on these attributes, so no error is raised.
    """
    try:
        tags = [MANUFACTURER, MODEL, BODY_PART, INFORMATION, KERNEL, CONTRAST_AGENT, SEX, AGE]
        if series.frames:
            dataset: Dataset = read_frame_headers(series.files[0])[0].dataset
        else:
            dataset = read_instance_file(series.files[0], tags=tags)
        agent, sex = _line(dataset, CONTRAST_AGENT).upper(), _line(dataset, SEX).upper()
        return AcquisitionDetails(
            scanner=_scanner(dataset),
            body_part=_line(dataset, BODY_PART).upper(),
            tracer=_tracer(dataset),
            kernel=_line(dataset, KERNEL).split("\\")[0].upper(),
            contrast_agent="yes" if agent and agent not in NO_AGENT else "",
            sex=sex if sex in ("M", "F", "O") else "",
            age_years=_age_years(dataset),
        )
    except Exception as error:  # a damaged header can make a parser raise anything
        logger.warning("series %s: scanner and tracer cannot be read (%s)", series.uid, type(error).__name__)
        return AcquisitionDetails()


def _scanner(dataset: Dataset) -> str:
    manufacturer, model = _line(dataset, MANUFACTURER), _line(dataset, MODEL)
    if model.upper().startswith(manufacturer.upper()):
        return model
    return f"{manufacturer} {model}".strip()


def _tracer(dataset: Dataset) -> str:
    item = _first(dataset, INFORMATION)
    return (
        _line(item, PHARMACEUTICAL)
        or _line(_first(item, PHARMACEUTICAL_CODE), MEANING)
        or _line(_first(item, NUCLIDE_CODE), MEANING)
    )


def _age_years(dataset: Dataset) -> float | None:
    found = AGE_VALUE.fullmatch(_line(dataset, AGE).upper())
    return None if found is None else min(MAX_AGE_YEARS, round(int(found[1]) * YEARS[found[2]], 1))


def _first(dataset: Dataset, tag: int) -> Dataset:
    items = dataset[tag].value if tag in dataset else None
    return items[0] if items else Dataset()


def _line(dataset: Dataset, tag: int) -> str:
    """Return text as one printable line."""
    text = " ".join(text_in(dataset, tag).split())
    return "".join(character for character in text if character.isprintable())[:MAX_CHARACTERS]
