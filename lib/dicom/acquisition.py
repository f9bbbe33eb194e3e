"""What a series says of where it comes from: a model is valid at most for scanners, regions and tracers like these."""

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
LONGEST = 64  # characters; what DICOM allows these attributes (LO)


@dataclass(frozen=True)
class Origin:
    """Where a series comes from; empty where the header is silent.

    Attributes:
        scanner: Manufacturer and ManufacturerModelName.
        body_part: BodyPartExamined.
        tracer: Radiopharmaceutical, or else the meaning of its code or of its radionuclide's.
    """

    scanner: str = ""
    body_part: str = ""
    tracer: str = ""


def read_acquisition_details(series: Series) -> Origin:
    """Return what the first file's header says; a header that cannot be read says nothing.

    Nothing here is needed to compute, so nothing is refused.
    """
    try:
        tags = [MANUFACTURER, MODEL, BODY_PART, INFORMATION]
        if series.frames:
            dataset: Dataset = read_frame_headers(series.files[0])[0].dataset
        else:
            dataset = read_instance_file(series.files[0], tags=tags)
        return Origin(_scanner(dataset), _line(dataset, BODY_PART).upper(), _tracer(dataset))
    except Exception as error:  # a damaged header can make a parser raise anything
        logger.warning("series %s: where it comes from cannot be read (%s)", series.uid, type(error).__name__)
        return Origin()


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
    words = " ".join(text_in(dataset, tag).split())
    return "".join(character for character in words if character.isprintable())[:LONGEST]
