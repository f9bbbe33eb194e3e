"""One file to one `InstanceHeader`: no pixels, only the wanted attributes, and no trust in the file.

Values are taken from the raw elements and parsed here. That is several times faster than pydicom's value classes, and a
value that breaks its representation's rules (real headers do) is a missing value, never a crash or a warning.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO

from pydicom import charset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lib.dicom.deflated import refuse_bomb
from lib.dicom.header import BedHeader, InstanceHeader, PetHeader, SharedHeader, Vector
from lib.dicom.synthetic_marks import SYNTHETIC_TAGS, says_synthetic
from lib.errors import DicomError

PHILIPS_PET_GROUP, PHILIPS_PET_CREATOR = 0x7053, "Philips PET Private Group"
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
    "frame_reference_time": 0x00541300, "decay_factor": 0x00541321,
}  # fmt: skip
FIRST_TAGS = tuple(bytes.fromhex(tag) for tag in ("02000000", "08000000", "08000500", "08000800"))  # little endian
HEADER_TAGS = [*TAGS.values(), *SYNTHETIC_TAGS]
INJECTION_TIME, INJECTION_DATETIME, TOTAL_DOSE, HALF_LIFE = 0x00181072, 0x00181078, 0x00181074, 0x00181075


def read_header(path: Path | str) -> InstanceHeader:
    """Return what a scan needs to know of one DICOM file.

    Raises:
        DicomError: Not DICOM, truncated, or without the UIDs every instance has.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    name = path.name
    with path.open("rb") as file:
        forced = _looks_like_dicom(file, name)
        refuse_bomb(file, name)
        try:
            dataset = dcmread(file, stop_before_pixels=True, force=forced, specific_tags=HEADER_TAGS)
            _refuse_truncated(dataset, file, name)
            return header_of(dataset, str(path))
        except (DicomError, OSError):
            raise
        except Exception as error:  # a damaged file can make a parser raise anything
            raise DicomError(f"{name}: damaged DICOM file, its header cannot be read ({error})") from error


def _looks_like_dicom(file: BinaryIO, name: str) -> bool:
    """Return whether the file must be read without the preamble that DICOM asks for; old exports lack it."""
    start = file.read(132)
    file.seek(0)
    if start[128:132] == b"DICM":
        return False
    if len(start) > 8 and start[:4] in FIRST_TAGS:
        return True
    raise DicomError(f"{name}: not a DICOM file" if start else f"{name}: empty file")


def _refuse_truncated(dataset: Dataset, file: BinaryIO, name: str) -> None:
    """Refuse a file that ends before its pixels do. Compressed pixels are judged when they are decoded."""
    rows, columns = integer_in(dataset, TAGS["rows"]), integer_in(dataset, TAGS["columns"])
    if not rows or not is_plain_encoding(transfer_syntax(dataset)):
        return
    numbers = rows * columns * integer_in(dataset, TAGS["samples"], 1) * integer_in(dataset, TAGS["frames"], 1)
    expected = numbers * integer_in(dataset, TAGS["bits_allocated"], 16) // 8
    element_start = 8 if dataset.is_implicit_VR else 12  # pydicom stops in front of the pixel data element
    found = os.fstat(file.fileno()).st_size - file.tell() - element_start
    if found < expected:
        raise DicomError(f"{name}: truncated, {max(found, 0)} of {expected} bytes of pixels; copy the file again")


def transfer_syntax(dataset: Dataset) -> str:
    """Return the TransferSyntaxUID, or an empty string where an old export has none."""
    return str(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID", ""))


def is_plain_encoding(transfer_syntax_uid: str) -> bool:
    """Return whether pixels lie in the file as they are: neither compressed nor deflated."""
    return transfer_syntax_uid in ("", ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def header_of(dataset: Dataset, path: str, *, is_whole: bool = False) -> InstanceHeader:
    """Return the header of a dataset that was read with at least `TAGS`.

    Args:
        dataset: The elements.
        path: Its file.
        is_whole: The dataset holds all that Philips PET needs; else the file is opened for it.

    Raises:
        DicomError: Without the UIDs every instance has.
    """
    name = Path(path).name
    meta = getattr(dataset, "file_meta", Dataset())
    uids = {key: _text(dataset, key) for key in ("sop_class", "sop_instance", "study", "series", "modality")}
    uids["sop_class"] = uids["sop_class"] or str(meta.get("MediaStorageSOPClassUID", ""))
    if "\\" in uids["modality"] or "," in uids["modality"]:
        uids["modality"] = ""  # one word, or damaged
    absent = [key.replace("_", " ") for key, value in uids.items() if not value]
    if absent:
        what = UID(uids["sop_class"]).name if uids["sop_class"] else "a DICOM file"
        raise DicomError(f"{name}: {what} without {', '.join(absent)}; not an instance of a series")
    position = _numbers(dataset, "position")
    description = _decoded(dataset, "series_description")
    image_type = _texts(dataset, "image_type")
    is_pet = uids["modality"] == "PT"
    shared = SharedHeader(
        sop_class_uid=uids["sop_class"],
        transfer_syntax_uid=transfer_syntax(dataset),
        study_instance_uid=uids["study"],
        series_instance_uid=uids["series"],
        frame_of_reference_uid=_text(dataset, "frame_of_reference"),
        patient_id=_decoded(dataset, "patient_id"),
        modality=uids["modality"],
        image_type=image_type,
        photometric_interpretation=_text(dataset, "photometric"),
        samples_per_pixel=integer_in(dataset, TAGS["samples"]),
        number_of_frames=integer_in(dataset, TAGS["frames"], 1),
        rows=integer_in(dataset, TAGS["rows"]),
        columns=integer_in(dataset, TAGS["columns"]),
        pixel_spacing_mm=_numbers(dataset, "pixel_spacing"),
        orientation=_numbers(dataset, "orientation"),
        acquisition_number=_text(dataset, "acquisition_number"),
        study_date=_text(dataset, "study_date"),
        study_description=_decoded(dataset, "study_description"),
        series_description=description,
        rescale_type=_text(dataset, "rescale_type"),
        has_rescale=bool(_numbers(dataset, "slope")),
        is_lossy=_text(dataset, "lossy") == "01",
        is_synthetic=says_synthetic(dataset, image_type=image_type, series_description=description),
        moments=_moments(dataset),
        pet=_pet(dataset, None if is_whole else path) if is_pet else None,
        bed=_bed(dataset) if is_pet else None,
    )
    vector: Vector | None = (position[0], position[1], position[2]) if len(position) == 3 else None
    return InstanceHeader(path, uids["sop_instance"], vector, shared)


def _moments(dataset: Dataset) -> tuple[str, ...]:
    told = (("study_date", "study_time"), ("series_date", "series_time"), ("acquisition_date", None))
    moments = ((_text(dataset, date), "" if time is None else _text(dataset, time)) for date, time in told)
    return tuple(filter(None, (moment_of(date, time) for date, time in moments)))


def moment_of(date: str, time: str) -> str:
    """Return DA and TM as YYYYMMDDhhmmss; what is missing or malformed of the time is 0, without a date it is empty.

    Older forms are understood, too: `2026.03.12` and `14:05` (DICOM PS3.5, table 6.2-1, notes).
    """
    digits = date.replace(".", "")
    if not (len(digits) == 8 and digits.isascii() and digits.isdigit()):
        return ""
    clock = time.split(".")[0].replace(":", "")
    return digits + (clock if clock.isascii() and clock.isdigit() and len(clock) <= 6 else "").ljust(6, "0")


def _pet(dataset: Dataset, path: str | None) -> PetHeader:
    items = dataset[TAGS["radiopharmaceuticals"]].value if TAGS["radiopharmaceuticals"] in dataset else None
    injection = items[0] if items else Dataset()
    suv_factor, activity_factor = None, None
    if _text(dataset, "units") == "CNTS":
        suv_factor, activity_factor = _philips_factors(dataset if path is None else _all_but_pixels(path))
    return PetHeader(
        units=_text(dataset, "units"),
        suv_type=_text(dataset, "suv_type"),
        decay_correction=_text(dataset, "decay_correction"),
        corrected_image=_texts(dataset, "corrected_image"),
        attenuation_correction_method=_text(dataset, "attenuation"),
        series_type=_texts(dataset, "series_type"),
        series_date=_text(dataset, "series_date") or _text(dataset, "acquisition_date") or _text(dataset, "study_date"),
        series_time=_text(dataset, "series_time"),
        timezone=_text(dataset, "timezone"),
        weight_kg=number_in(dataset, TAGS["weight"]),
        dose_bq=number_in(injection, TOTAL_DOSE),
        half_life_s=number_in(injection, HALF_LIFE),
        injection_time=_raw_text(injection, INJECTION_TIME),
        injection_datetime=_raw_text(injection, INJECTION_DATETIME),
        philips_suv_factor=suv_factor,
        philips_activity_factor=activity_factor,
    )


def _bed(dataset: Dataset) -> BedHeader:
    reference_ms = number_in(dataset, TAGS["frame_reference_time"])
    duration_ms = number_in(dataset, TAGS["frame_duration"])
    return BedHeader(
        acquisition_date=_text(dataset, "acquisition_date"),
        acquisition_time=_text(dataset, "acquisition_time"),
        frame_reference_time_s=None if reference_ms is None else reference_ms / 1000,
        frame_duration_s=None if duration_ms is None else duration_ms / 1000,
        decay_factor=number_in(dataset, TAGS["decay_factor"]),
    )


def _all_but_pixels(path: str) -> Dataset:
    return dcmread(path, stop_before_pixels=True, force=True)


def _philips_factors(dataset: Dataset) -> tuple[float | None, float | None]:
    """Return the SUV and the Bq/mL factor, found by the private creator: which block it reserved differs by console."""
    try:
        block = dataset.private_block(PHILIPS_PET_GROUP, PHILIPS_PET_CREATOR)
    except KeyError:
        return None, None
    return number_in(dataset, block.get_tag(0x00)), number_in(dataset, block.get_tag(0x09))


def _raw_text(dataset: Dataset, tag: int, encodings: list[str] | None = None) -> str:
    element = dataset.get_item(tag)
    value = None if element is None else element.value
    if value is None:
        return ""
    if not isinstance(value, bytes):
        return str(value) if isinstance(value, (str, int, float)) else "\\".join(str(part) for part in value)
    if encodings is None:
        return value.decode("ascii", errors="replace").strip(" \0")
    return str(charset.decode_bytes(value, encodings, set())).strip(" \0")


def _text(dataset: Dataset, key: str) -> str:
    return _raw_text(dataset, TAGS[key])


def _decoded(dataset: Dataset, key: str) -> str:
    """Return text in the file's own character set; a set that nobody knows gives question marks, not an error."""
    element = dataset.get_item(TAGS[key])
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and not _is_plain(element.value):
        try:
            encodings = charset.convert_encodings(dataset.get("SpecificCharacterSet", "ISO_IR 6"))
            return _raw_text(dataset, TAGS[key], encodings)
        except (LookupError, UnicodeError):
            return _raw_text(dataset, TAGS[key])
    return _raw_text(dataset, TAGS[key])


def _is_plain(value: bytes) -> bool:
    return value.isascii() and b"\x1b" not in value  # an escape switches to another character set


def _texts(dataset: Dataset, key: str) -> tuple[str, ...]:
    text = _text(dataset, key)
    return tuple(part.strip().upper() for part in text.split("\\")) if text else ()


def _numbers(dataset: Dataset, key: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in _text(dataset, key).split("\\"))
    except ValueError:
        return ()
    return numbers if all(math.isfinite(number) for number in numbers) else ()


def text_in(dataset: Dataset, tag: int) -> str:
    """Return text, what is not ASCII as question marks; empty where it is absent."""
    return _raw_text(dataset, tag)


def number_in(dataset: Dataset, tag: int) -> float | None:
    """Return the first number of a decimal or integer string; None where it is absent, malformed or not finite."""
    try:
        number = float(_raw_text(dataset, tag).split("\\")[0])
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def integer_in(dataset: Dataset, tag: int, default: int = 0) -> int:
    """Return an unsigned short, or an integer string; `default` where it is absent or malformed."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        if tag != TAGS["frames"] and len(element.value) == 2:
            return int.from_bytes(element.value, "little" if element.is_little_endian else "big")
        number = number_in(dataset, tag)
        return default if number is None else int(number)
    return int(element.value) if element is not None and isinstance(element.value, int) else default
