"""Reading of one untrusted file as an `InstanceHeader`, without pixels.

Values come from the raw elements (`elements.py`), which is several times faster than pydicom's value classes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset

from lib.dicom.attributes.elements import (
    AttributeReader,
    decoded_text,
    first_item,
    integer_in,
    is_undelivered,
    items_in,
    number_in,
    raw_text,
    text_in,
    uid_name,
)
from lib.dicom.attributes.private_elements import GE_PET, PHILIPS_PET, PRIVATE_TAGS, SIEMENS_PET, private_tag
from lib.dicom.attributes.transfer_syntax import is_plain_encoding, transfer_syntax
from lib.dicom.attributes.values import parse_date, parse_time
from lib.dicom.instance_header import BedHeader, InstanceHeader, PetHeader, SharedHeader, Vector
from lib.dicom.read.instance_file import Instance, read_instance
from lib.dicom.synthetic_marks import SYNTHETIC_TAGS, is_marked_synthetic
from lib.errors import DicomError

__all__ = [
    "HEADER_TAGS", "PRIVATE_TAGS", "TAGS", "header_of", "integer_in",
    "moment_of", "number_in", "private_tag", "read_header", "text_in",
]  # fmt: skip

TAGS = {
    "image_type": 0x00080008, "sop_class": 0x00080016, "sop_instance": 0x00080018,
    "study_date": 0x00080020, "series_date": 0x00080021, "acquisition_date": 0x00080022, "study_time": 0x00080030,
    "series_time": 0x00080031, "acquisition_time": 0x00080032, "modality": 0x00080060, "timezone": 0x00080201,
    "study_description": 0x00081030, "series_description": 0x0008103E, "patient_id": 0x00100020, "weight": 0x00101030,
    "frame_duration": 0x00181242, "study": 0x0020000D, "series": 0x0020000E, "acquisition_number": 0x00200012,
    "position": 0x00200032, "orientation": 0x00200037, "frame_of_reference": 0x00200052, "samples": 0x00280002,
    "photometric": 0x00280004, "frames": 0x00280008, "rows": 0x00280010, "columns": 0x00280011,
    "pixel_spacing": 0x00280030, "corrected_image": 0x00280051, "bits_allocated": 0x00280100, "slope": 0x00281053,
    "rescale_type": 0x00281054, "lossy": 0x00282110, "radiopharmaceuticals": 0x00540016, "series_type": 0x00541000,
    "units": 0x00541001, "suv_type": 0x00541006, "attenuation": 0x00541101, "decay_correction": 0x00541102,
    "frame_reference_time": 0x00541300, "decay_factor": 0x00541321, "sex": 0x00100040,
    "size": 0x00101020, "contrast_agent": 0x00180010, "kernel": 0x00181210, "decay_correction_datetime": 0x00189701,
    "intercept": 0x00281052, "volumetric_properties": 0x00089206, "modality_lut": 0x00283000,
    "temporal_position": 0x00200100, "trigger_time": 0x00181060,
}  # fmt: skip
FIRST_TAGS = tuple(bytes.fromhex(tag) for tag in ("02000000", "08000000", "08000500", "08000800"))  # little endian
HEADER_TAGS = [*TAGS.values(), *PRIVATE_TAGS, *SYNTHETIC_TAGS]
INJECTION_TIME, INJECTION_DATETIME, TOTAL_DOSE, HALF_LIFE = 0x00181072, 0x00181078, 0x00181074, 0x00181075
PHARMACEUTICAL, PHARMACEUTICAL_CODE, NUCLIDE_CODE = 0x00180031, 0x00540304, 0x00540300
CODE_VALUE, CODE_MEANING = 0x00080100, 0x00080104


def read_header(path: Path | str) -> InstanceHeader:
    """Return the header of a DICOM file.

    Raises:
        DicomError: The file is not DICOM, is truncated, or lacks the UIDs of an instance.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    name = path.name
    with path.open("rb") as file:
        _refuse_other_file(file, name)
        try:
            instance = read_instance(file, tags=HEADER_TAGS)
            _refuse_truncated(instance, name)
            return header_of(instance.dataset, str(path))
        except OSError as error:
            if error.strerror:
                raise
            raise DicomError(f"{name}: damaged DICOM file, its header cannot be read ({error})") from error
        except DicomError as error:
            if str(error).startswith(name):
                raise
            raise error.with_message(f"{name}: {error}") from error
        except Exception as error:  # a damaged file can make a parser raise anything
            raise DicomError(f"{name}: damaged DICOM file, its header cannot be read ({error})") from error


def _refuse_other_file(file: BinaryIO, name: str) -> None:
    """Raise DicomError if a file does not begin like DICOM; old exports lack the preamble."""
    start = file.read(132)
    file.seek(0)
    if start[128:132] == b"DICM" or (len(start) > 8 and start[:4] in FIRST_TAGS):
        return
    raise DicomError(f"{name}: not a DICOM file" if start else f"{name}: empty file")


def _refuse_truncated(instance: Instance, name: str) -> None:
    """Raise DicomError if uncompressed pixel data is truncated. Compressed pixels are checked when they are decoded."""
    dataset = instance.dataset
    rows, columns = integer_in(dataset, TAGS["rows"]), integer_in(dataset, TAGS["columns"])
    if not rows or not is_plain_encoding(transfer_syntax(dataset)):
        return
    numbers = rows * columns * integer_in(dataset, TAGS["samples"], 1) * integer_in(dataset, TAGS["frames"], 1)
    expected = numbers * integer_in(dataset, TAGS["bits_allocated"], 16) // 8
    found = instance.stream.seek(0, os.SEEK_END) - instance.pixels_at if instance.pixels_at else 0
    if found < expected:
        raise DicomError(f"{name}: truncated, {max(found, 0)} of {expected} bytes of pixels; copy the file again")


def header_of(dataset: Dataset, path: str) -> InstanceHeader:
    """Return the header of a dataset read with at least `HEADER_TAGS`.

    Args:
        dataset: The elements.
        path: Path of its file.

    Raises:
        DicomError: The UIDs of an instance are missing.
    """
    name = Path(path).name
    meta = getattr(dataset, "file_meta", Dataset())
    uids = {key: _text(dataset, key) for key in ("sop_class", "sop_instance", "study", "series", "modality")}
    uids["sop_class"] = uids["sop_class"] or str(meta.get("MediaStorageSOPClassUID", ""))
    if "\\" in uids["modality"] or "," in uids["modality"]:
        uids["modality"] = ""  # several values: damaged
    absent = [key.replace("_", " ") for key, value in uids.items() if not value]
    if absent:
        what = uid_name(uids["sop_class"]) if uids["sop_class"] else "a DICOM file"
        raise DicomError(f"{name}: {what} without {', '.join(absent)}, expected an instance of a series")
    position, shared = _shared(dataset, uids)
    vector: Vector | None = (position[0], position[1], position[2]) if position else None
    return InstanceHeader(path, uids["sop_instance"], vector, shared)


def _shared(dataset: Dataset, uids: dict[str, str]) -> tuple[tuple[float, ...], SharedHeader]:
    """Return the slice's position, empty if it has none, and the header it shares with others."""
    read = AttributeReader()
    description = decoded_text(dataset, TAGS["series_description"])
    image_type = _texts(dataset, "image_type")
    is_pet = uids["modality"] == "PT"
    position = read.numbers(dataset, TAGS["position"], count=3, unit="mm", quoted=False)
    slope = read.number(dataset, TAGS["slope"], quoted=False)
    intercept = read.number(dataset, TAGS["intercept"], quoted=False)
    shared = SharedHeader(
        sop_class_uid=uids["sop_class"],
        transfer_syntax_uid=transfer_syntax(dataset),
        study_instance_uid=uids["study"],
        series_instance_uid=uids["series"],
        frame_of_reference_uid=_text(dataset, "frame_of_reference"),
        patient_id=decoded_text(dataset, TAGS["patient_id"]),
        modality=uids["modality"],
        image_type=image_type,
        photometric_interpretation=_text(dataset, "photometric"),
        samples_per_pixel=integer_in(dataset, TAGS["samples"]),
        number_of_frames=integer_in(dataset, TAGS["frames"], 1),
        rows=read.integer(dataset, TAGS["rows"]),
        columns=read.integer(dataset, TAGS["columns"]),
        pixel_spacing_mm=read.numbers(dataset, TAGS["pixel_spacing"], count=2, unit="mm"),
        orientation=read.numbers(dataset, TAGS["orientation"], count=6),
        acquisition_number=_text(dataset, "acquisition_number"),
        study_date=read.date(dataset, TAGS["study_date"]),
        study_description=decoded_text(dataset, TAGS["study_description"]),
        series_description=description,
        rescale_type=_text(dataset, "rescale_type"),
        has_rescale=slope is not None,
        ct_rescale=() if is_pet or slope is None else (slope, intercept or 0.0),
        has_intercept=intercept is not None,
        rescale_slope_sign=1 if slope is None else (slope > 0) - (slope < 0),
        has_modality_lut=bool(items_in(dataset, TAGS["modality_lut"])),
        is_lossy=_text(dataset, "lossy") == "01",
        is_synthetic=is_marked_synthetic(dataset, image_type=image_type, series_description=description),
        moments=_moments(dataset),
        acquired_minute="" if is_pet else _acquired_minute(dataset),
        convolution_kernel="" if is_pet else _text(dataset, "kernel"),
        contrast_agent=decoded_text(dataset, TAGS["contrast_agent"]),
        volumetric_properties=_text(dataset, "volumetric_properties"),
        temporal_position=_text(dataset, "temporal_position"),
        trigger_time=_text(dataset, "trigger_time"),
        malformed=tuple(read.malformed),
        undelivered=tuple(read.undelivered),
        pet=_pet(dataset, read.notes) if is_pet else None,
        bed=_bed(dataset, read.notes) if is_pet else None,
        notes=tuple(read.notes),
    )
    return position, shared


def _moments(dataset: Dataset) -> tuple[str, ...]:
    starts = (("study_date", "study_time"), ("series_date", "series_time"), ("acquisition_date", None))
    moments = ((_text(dataset, date), "" if time is None else _text(dataset, time)) for date, time in starts)
    return tuple(filter(None, (moment_of(date, time) for date, time in moments)))


def moment_of(date: str, time: str) -> str:
    """Return DA and TM as YYYYMMDDhhmmss, with zeros for a missing or malformed time; empty without a date."""
    day, clock = parse_date(date), parse_time(time)
    if day is None:
        return ""
    return day.text + ("" if clock is None else clock.text.partition(".")[0]).ljust(6, "0")


def _acquired_minute(dataset: Dataset) -> str:
    date = _text(dataset, "acquisition_date") or _text(dataset, "study_date")
    return moment_of(date, _text(dataset, "acquisition_time"))[:12]


def _pet(dataset: Dataset, notes: list[str]) -> PetHeader:
    read = AttributeReader(notes)
    items = items_in(dataset, TAGS["radiopharmaceuticals"])
    injection = items[0] if items else Dataset()
    if is_undelivered(dataset, TAGS["radiopharmaceuticals"]):
        for tag in (TOTAL_DOSE, HALF_LIFE, INJECTION_TIME, INJECTION_DATETIME):
            read.add_undelivered(tag)
    nuclide = first_item(injection, NUCLIDE_CODE)
    return PetHeader(
        units=_text(dataset, "units"),
        suv_type=_text(dataset, "suv_type"),
        decay_correction=_text(dataset, "decay_correction"),
        corrected_image=_texts(dataset, "corrected_image"),
        attenuation_correction_method=_text(dataset, "attenuation"),
        series_type=_texts(dataset, "series_type"),
        study_date=read.date(dataset, TAGS["study_date"]),
        series_date=read.date(dataset, TAGS["series_date"]),
        series_time=read.time(dataset, TAGS["series_time"]),
        timezone=read.offset(dataset, TAGS["timezone"]),
        weight_kg=read.number(dataset, TAGS["weight"], unit="kg"),
        size_m=read.number(dataset, TAGS["size"], unit="m"),
        sex=_text(dataset, "sex").upper(),
        injections=max(1, len({_injection_key(item) for item in items})),
        dose_bq=read.number(injection, TOTAL_DOSE, unit="Bq"),
        half_life_s=read.number(injection, HALF_LIFE, unit="s"),
        nuclide_code=raw_text(nuclide, CODE_VALUE),
        nuclide_meaning=raw_text(nuclide, CODE_MEANING),
        radiopharmaceutical=raw_text(injection, PHARMACEUTICAL)
        or raw_text(first_item(injection, PHARMACEUTICAL_CODE), CODE_MEANING),
        injection_time=read.time(injection, INJECTION_TIME),
        injection_datetime=read.date_time(injection, INJECTION_DATETIME),
        decay_correction_datetime=read.date_time(dataset, TAGS["decay_correction_datetime"])
        or read.date_time(dataset, private_tag(dataset, SIEMENS_PET, 0x22))
        or read.date_time(dataset, private_tag(dataset, GE_PET, 0x0D)),
        private_injection_datetime=read.date_time(dataset, private_tag(dataset, GE_PET, 0x3B)),
        philips_suv_factor=read.number(dataset, private_tag(dataset, PHILIPS_PET, 0x00)),
        philips_activity_factor=read.number(dataset, private_tag(dataset, PHILIPS_PET, 0x09)),
        malformed=tuple(read.malformed),
        undelivered=tuple(read.undelivered),
    )


def _injection_key(item: Dataset) -> tuple[str, ...]:
    """Return the attributes that distinguish two injections; consoles repeat one injection as several items."""
    return tuple(raw_text(item, tag) for tag in (TOTAL_DOSE, HALF_LIFE, INJECTION_TIME, INJECTION_DATETIME))


def _bed(dataset: Dataset, notes: list[str]) -> BedHeader:
    read = AttributeReader(notes)
    reference_ms = read.number(dataset, TAGS["frame_reference_time"], unit="ms", quoted=False)
    duration_ms = read.number(dataset, TAGS["frame_duration"], unit="ms", quoted=False)
    return BedHeader(
        acquisition_date=read.date(dataset, TAGS["acquisition_date"], quoted=False),
        acquisition_time=read.time(dataset, TAGS["acquisition_time"], quoted=False),
        frame_reference_time_s=None if reference_ms is None else reference_ms / 1000,
        frame_duration_s=None if duration_ms is None else duration_ms / 1000,
        decay_factor=read.number(dataset, TAGS["decay_factor"], quoted=False),
        malformed=tuple(read.malformed),
        undelivered=tuple(read.undelivered),
    )


def _text(dataset: Dataset, key: str) -> str:
    return raw_text(dataset, TAGS[key])


def _texts(dataset: Dataset, key: str) -> tuple[str, ...]:
    text = _text(dataset, key)
    return tuple(part.strip().upper() for part in text.split("\\")) if text else ()
