"""Conversion of Enhanced PET attributes to single-frame ones: units, corrections, reference time, dose.

Source: DICOM PS3.3 C.8.22.4 (isotope), C.8.22.6 (corrections), C.7.6.16.2.2 (frame times), C.7.6.16.2.11 (real world
values), PS3.16 CID 84 and 85 (units), compared with C.8.9 (the single-frame PET).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.dicom.attributes.elements import first_item, items_in, number_in, text_in
from lib.dicom.attributes.raw_elements import binary_number, elements_of, set_text
from lib.dicom.attributes.times import parse_datetime
from lib.errors import DicomError

SOP_CLASS, ENHANCED_PET = 0x00080016, "1.2.840.10008.5.1.4.1.1.130"
RADIOPHARMACEUTICALS, AGENT_NUMBER, AGENT_USAGE = 0x00540016, 0x00189729, 0x00189737
DOSE, INJECTION_DATETIME, TIMEZONE = 0x00181074, 0x00181078, 0x00080201
BQ_PER_MBQ, MIN_DOSE_IN_BQ = 1e6, 1e6  # a "dose in MBq" of at least a million was written in Bq
CORRECTED_IMAGE, DECAY_CORRECTED, DECAY_CORRECTION = 0x00280051, 0x00189758, 0x00541102
CORRECTIONS = {
    "DECY": DECAY_CORRECTED, "ATTN": 0x00189759, "SCAT": 0x00189760, "DTIM": 0x00189761, "MOTN": 0x00189762,
    "PMOT": 0x00189763, "CLN": 0x00189764, "RAN": 0x00189765, "RADL": 0x00189766, "DCAL": 0x00189767,
    "NORM": 0x00189768,
}  # fmt: skip
DECAY_CORRECTION_DATETIME, FRAME_REFERENCE_DATETIME, FRAME_REFERENCE_TIME = 0x00189701, 0x00189151, 0x00541300
FRAME_ACQUISITION_DATETIME = 0x00189074
SAME_MOMENT_S = 1.0  # times are written to the second, in which Rb-82 decays by 0.9 %
SERIES_DATE, SERIES_TIME, SERIES_TYPE = 0x00080021, 0x00080031, 0x00541000
CARDIAC, RESPIRATORY = 0x00189118, 0x00209253
UNITS, SUV_TYPE, SLOPE, INTERCEPT = 0x00541001, 0x00541006, 0x00281053, 0x00281052
RESCALE_TYPE, UNITS_OF_RESCALE = 0x00281054, ("BQML", "GML")
REAL_WORLD_VALUES, REAL_WORLD_SLOPE, REAL_WORLD_INTERCEPT = 0x00409096, 0x00409225, 0x00409224
MEASUREMENT_UNITS, CODE_VALUE = 0x004008EA, 0x00080100
ACTIVITY_BQML = {"bq/ml": 1.0, "kbq/ml": 1e3, "mbq/ml": 1e6}
OTHER_UNITS = {
    "g/ml": "GML", "cm2/ml": "CM2ML", "counts": "CNTS", "counts/s": "CPS", "propcounts": "PROPCNTS",
    "propcounts/s": "PROPCPS", "1": "NONE", "%": "PCNT",
}  # fmt: skip
SUV_TYPES = {
    "suvbw": "BW", "suvlbm": "LBM", "suvlbm(james128)": "LBMJAMES128", "suvlbm(janma)": "LBMJANMA", "suvbsa": "BSA",
    "suvibw": "IBW",
}  # fmt: skip
PREFERRED = ("BQML", "GML", "CM2ML", "CNTS")  # of several mappings of one frame, the most informative first
SAME_SLOPE = 1e-3  # relative; slopes are rounded to a few digits


@dataclass(frozen=True)
class _Mapping:
    """One linear real world value mapping, with Units and SUVType of a single-frame PET."""

    units: str
    suv_type: str
    slope: float
    intercept: float


def name_pet_as_single_frame(flat: Dataset) -> None:
    """Set the single-frame attributes of one Enhanced PET frame.

    Existing single-frame attributes (Legacy Converted) are kept.

    Args:
        flat: The frame's attributes; modified in place.

    Raises:
        DicomError: Redundant attributes differ.
    """
    if not text_in(flat, CORRECTED_IMAGE):
        applied = [term for term, tag in CORRECTIONS.items() if text_in(flat, tag) == "YES"]
        if applied:
            set_text(flat, CORRECTED_IMAGE, "\\".join(applied))
    if not text_in(flat, SERIES_TYPE):
        is_gated = bool(items_in(flat, CARDIAC) or items_in(flat, RESPIRATORY))
        set_text(flat, SERIES_TYPE, f"{'GATED' if is_gated else 'STATIC'}\\IMAGE")
    _name_radiopharmaceutical(flat)
    _name_decay_correction(flat)
    _name_units(flat)


def _name_radiopharmaceutical(flat: Dataset) -> None:
    """Keep the agents that the frame refers to, and convert their dose from MBq to Bq."""
    if text_in(flat, SOP_CLASS) != ENHANCED_PET:
        return  # converted from a single-frame PET, whose dose is in Bq
    agents = items_in(flat, RADIOPHARMACEUTICALS)
    used = {binary_number(usage, AGENT_NUMBER) for usage in items_in(flat, AGENT_USAGE)}
    kept = [agent for agent in agents if not used or binary_number(agent, AGENT_NUMBER) in used]
    flat[RADIOPHARMACEUTICALS] = DataElement(RADIOPHARMACEUTICALS, "SQ", Sequence([_in_bq(agent) for agent in kept]))


def _in_bq(agent: Dataset) -> Dataset:
    copy = Dataset(elements_of(agent))
    dose = number_in(agent, DOSE)
    if dose is not None and dose < MIN_DOSE_IN_BQ:
        set_text(copy, DOSE, repr(dose * BQ_PER_MBQ))
    return copy


def _name_decay_correction(flat: Dataset) -> None:
    """Set DecayCorrection, and SeriesTime, to which START corrects.

    A frame corrected to an unknown time gets no DecayCorrection, because SeriesTime would be a guess.
    """
    is_corrected = text_in(flat, DECAY_CORRECTED)
    if text_in(flat, DECAY_CORRECTION):
        return
    reference = local_moment(flat, text_in(flat, DECAY_CORRECTION_DATETIME))
    if reference is not None:
        set_text(flat, DECAY_CORRECTION_DATETIME, f"{reference:%Y%m%d%H%M%S.%f}")
    if is_corrected == "NO":
        set_text(flat, DECAY_CORRECTION, "NONE")
    elif is_corrected == "YES" and reference is not None:
        injected = local_moment(flat, text_in(first_item(flat, RADIOPHARMACEUTICALS), INJECTION_DATETIME))
        if injected is not None and abs((reference - injected).total_seconds()) <= SAME_MOMENT_S:
            set_text(flat, DECAY_CORRECTION, "ADMIN")
        else:
            _correct_to(flat, reference)


def _correct_to(flat: Dataset, reference: datetime) -> None:
    """Set DecayCorrection START to a reference time, and FrameReferenceTime relative to it."""
    set_text(flat, DECAY_CORRECTION, "START")
    set_text(flat, SERIES_DATE, f"{reference:%Y%m%d}")
    set_text(flat, SERIES_TIME, f"{reference:%H%M%S.%f}")
    frame_reference = local_moment(flat, text_in(flat, FRAME_REFERENCE_DATETIME))
    frame_start = local_moment(flat, text_in(flat, FRAME_ACQUISITION_DATETIME))
    if frame_reference is None or frame_reference == frame_start:  # a copy of the frame's start is not a reference time
        return
    if not text_in(flat, FRAME_REFERENCE_TIME):
        set_text(flat, FRAME_REFERENCE_TIME, f"{(frame_reference - reference).total_seconds() * 1000:.3f}")


def local_moment(flat: Dataset, text: str) -> datetime | None:
    """Return a DT in the study's time zone, without an offset; None if it is malformed or has no time."""
    moment = parse_datetime(text)
    if moment is None or moment.tzinfo is None:
        return moment
    here = parse_datetime(f"2000010100{text_in(flat, TIMEZONE)}")
    return moment.astimezone(here.tzinfo if here and here.tzinfo else moment.tzinfo).replace(tzinfo=None)


def _name_units(flat: Dataset) -> None:
    """Set units, slope and intercept from the real world value mapping if Units is missing.

    Without either, RescaleType may name the units of rescaled values.
    """
    mapping = _mapping(items_in(flat, REAL_WORLD_VALUES))
    units, slope = text_in(flat, UNITS), number_in(flat, SLOPE)
    if mapping is None:
        if not units and text_in(flat, RESCALE_TYPE) in UNITS_OF_RESCALE:
            set_text(flat, UNITS, text_in(flat, RESCALE_TYPE))
        return
    if units:
        if units == mapping.units == "BQML" and slope and not math.isclose(slope, mapping.slope, rel_tol=SAME_SLOPE):
            raise DicomError(
                f"RescaleSlope {slope:g} and RealWorldValueSlope {mapping.slope:g} both convert to Bq/mL but differ; "
                "correct the header"
            )
        return
    set_text(flat, UNITS, mapping.units)
    if mapping.suv_type:
        set_text(flat, SUV_TYPE, mapping.suv_type)
    set_text(flat, SLOPE, repr(mapping.slope))
    set_text(flat, INTERCEPT, repr(mapping.intercept))


def _mapping(items: list[Dataset]) -> _Mapping | None:
    """Return the preferred linear mapping of a frame; None if it has none."""
    found = [mapping for item in items if (mapping := _linear(item)) is not None]
    for units in PREFERRED:
        alike = [mapping for mapping in found if mapping.units == units]
        body_weight = [mapping for mapping in alike if mapping.suv_type == "BW"] or alike
        if len({(mapping.slope, mapping.intercept) for mapping in body_weight}) > 1:
            raise DicomError(f"{len(body_weight)} different real world value mappings to {units}, expected one")
        if body_weight:
            return body_weight[0]
    return next(iter(found), None)


def _linear(item: Dataset) -> _Mapping | None:
    slope = binary_number(item, REAL_WORLD_SLOPE)
    intercept = binary_number(item, REAL_WORLD_INTERCEPT)
    if slope is None or intercept is None or not (math.isfinite(slope) and math.isfinite(intercept)):
        return None
    code = text_in(first_item(item, MEASUREMENT_UNITS), CODE_VALUE)
    kind = "".join(re.findall(r"\{(.*?)\}", code)).lower()
    plain = re.sub(r"\{.*?\}", "", code).lower()
    if plain in ACTIVITY_BQML:
        factor = ACTIVITY_BQML[plain]
        return _Mapping("BQML", "", slope * factor, intercept * factor)
    if kind in ("counts", "propcounts"):
        plain, kind = kind + plain, ""
    return _Mapping(OTHER_UNITS.get(plain, code.upper()[:16]), SUV_TYPES.get(kind, kind.upper()[:16]), slope, intercept)
