"""Scanner, body part and tracer of a series, from its header.

A model is valid at most for the scanners, body parts and tracers it was trained on.
"""

from __future__ import annotations

import logging
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
MAX_CHARACTERS = 64  # DICOM limit for these attributes (LO)


@dataclass(frozen=True)
class AcquisitionDetails:
    """How a series was acquired; an attribute that the header lacks is empty.

    Attributes:
        scanner: Manufacturer and ManufacturerModelName.
        body_part: BodyPartExamined.
        tracer: Radiopharmaceutical, else the meaning of its code or of the radionuclide's code.
    """

    scanner: str = ""
    body_part: str = ""
    tracer: str = ""


def read_acquisition_details(series: Series) -> AcquisitionDetails:
    """Return the details in the header of the first file; empty details if the header cannot be read.

    No computation depends on these attributes, so no error is raised.
    """
    try:
        tags = [MANUFACTURER, MODEL, BODY_PART, INFORMATION]
        if series.frames:
            dataset: Dataset = read_frame_headers(series.files[0])[0].dataset
        else:
            dataset = read_instance_file(series.files[0], tags=tags)
        return AcquisitionDetails(_scanner(dataset), _line(dataset, BODY_PART).upper(), _tracer(dataset))
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


def _first(dataset: Dataset, tag: int) -> Dataset:
    items = dataset[tag].value if tag in dataset else None
    return items[0] if items else Dataset()


def _line(dataset: Dataset, tag: int) -> str:
    """Return text as one printable line."""
    text = " ".join(text_in(dataset, tag).split())
    return "".join(character for character in text if character.isprintable())[:MAX_CHARACTERS]
