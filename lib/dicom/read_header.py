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
from lib.errors import DicomError

GE_PET, SIEMENS_PET, PHILIPS_PET = "GEMS_PETD_01", "SIEMENS MED PT", "Philips PET Private Group"
PRIVATE_GROUPS = {GE_PET: 0x0009, SIEMENS_PET: 0x0071, PHILIPS_PET: 0x7053}
PRIVATE_ELEMENTS = {GE_PET: (0x0D, 0x3B), SIEMENS_PET: (0x22,), PHILIPS_PET: (0x00, 0x09)}
USUAL_BLOCK = 0x10  # which block of a group a creator reserves differs by console; nearly all take the first
BLOCKS = range(USUAL_BLOCK, 0x18)
SYNTHETIC_DATA = 0x0008001C  # pydicom 2.4 does not know the keyword
TAGS = {
    "image_type": 0x00080008, "sop_class": 0x00080016, "sop_instance": 0x00080018, "synthetic": SYNTHETIC_DATA,
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
    "intercept": 0x00281052,
}  # fmt: skip
FIRST_TAGS = tuple(bytes.fromhex(tag) for tag in ("02000000", "08000000", "08000500", "08000800"))  # little endian
PRIVATE_TAGS = frozenset(
    tag
    for creator, group in PRIVATE_GROUPS.items()
    for block in BLOCKS
    for tag in (group << 16 | block, *(group << 16 | block << 8 | element for element in PRIVATE_ELEMENTS[creator]))
)
HEADER_TAGS = [*TAGS.values(), *PRIVATE_TAGS]
INJECTION_TIME, INJECTION_DATETIME, TOTAL_DOSE, HALF_LIFE = 0x00181072, 0x00181078, 0x00181074, 0x00181075
PHARMACEUTICAL, PHARMACEUTICAL_CODE, NUCLIDE_CODE = 0x00180031, 0x00540304, 0x00540300
CODE_VALUE, CODE_MEANING = 0x00080100, 0x00080104


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


def header_of(dataset: Dataset, path: str) -> InstanceHeader:
    """Return the header of a dataset that was read with at least `HEADER_TAGS`.

    Args:
        dataset: The elements.
        path: Its file.

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
        has_intercept=bool(_numbers(dataset, "intercept")),
        is_lossy=_text(dataset, "lossy") == "01",
        is_synthetic=_text(dataset, "synthetic") == "YES"
        or (image_type[:1] == ("DERIVED",) and description.upper().startswith("SYNTHETIC")),
        moments=_moments(dataset),
        acquired_minute="" if is_pet else _acquired_minute(dataset),
        convolution_kernel="" if is_pet else _text(dataset, "kernel"),
        contrast_agent=_decoded(dataset, "contrast_agent"),
        pet=_pet(dataset) if is_pet else None,
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


def _acquired_minute(dataset: Dataset) -> str:
    date = _text(dataset, "acquisition_date") or _text(dataset, "study_date")
    return moment_of(date, _text(dataset, "acquisition_time"))[:12]


def _pet(dataset: Dataset) -> PetHeader:
    items = dataset[TAGS["radiopharmaceuticals"]].value if TAGS["radiopharmaceuticals"] in dataset else None
    injection = items[0] if items else Dataset()
    nuclide = _item(injection, NUCLIDE_CODE)
    return PetHeader(
        units=_text(dataset, "units"),
        suv_type=_text(dataset, "suv_type"),
        decay_correction=_text(dataset, "decay_correction"),
        corrected_image=_texts(dataset, "corrected_image"),
        attenuation_correction_method=_text(dataset, "attenuation"),
        series_type=_texts(dataset, "series_type"),
        study_date=_text(dataset, "study_date"),
        series_date=_text(dataset, "series_date"),
        series_time=_text(dataset, "series_time"),
        timezone=_text(dataset, "timezone"),
        weight_kg=number_in(dataset, TAGS["weight"]),
        size_m=number_in(dataset, TAGS["size"]),
        sex=_text(dataset, "sex").upper(),
        injections=max(1, len(items or ())),
        dose_bq=number_in(injection, TOTAL_DOSE),
        half_life_s=number_in(injection, HALF_LIFE),
        nuclide_code=_raw_text(nuclide, CODE_VALUE),
        nuclide_meaning=_raw_text(nuclide, CODE_MEANING),
        radiopharmaceutical=_raw_text(injection, PHARMACEUTICAL)
        or _raw_text(_item(injection, PHARMACEUTICAL_CODE), CODE_MEANING),
        injection_time=_raw_text(injection, INJECTION_TIME),
        injection_datetime=_raw_text(injection, INJECTION_DATETIME),
        decay_correction_datetime=_text(dataset, "decay_correction_datetime")
        or _private_text(dataset, SIEMENS_PET, 0x22)
        or _private_text(dataset, GE_PET, 0x0D),
        private_injection_datetime=_private_text(dataset, GE_PET, 0x3B),
        philips_suv_factor=_private_number(dataset, PHILIPS_PET, 0x00),
        philips_activity_factor=_private_number(dataset, PHILIPS_PET, 0x09),
    )


def _item(dataset: Dataset, tag: int) -> Dataset:
    items = dataset[tag].value if tag in dataset else None
    return items[0] if items else Dataset()


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


def private_tag(dataset: Dataset, creator: str, element: int) -> int:
    """Return the tag of a private element: in the block its creator reserved, else, without creators, the first."""
    group = PRIVATE_GROUPS[creator]
    for block in BLOCKS:
        if _raw_text(dataset, group << 16 | block) == creator:
            return group << 16 | block << 8 | element
    if any(_raw_text(dataset, group << 16 | block) for block in BLOCKS):
        return 0  # the group belongs to others
    return group << 16 | USUAL_BLOCK << 8 | element


def _private_text(dataset: Dataset, creator: str, element: int) -> str:
    return _raw_text(dataset, private_tag(dataset, creator, element))


def _private_number(dataset: Dataset, creator: str, element: int) -> float | None:
    return number_in(dataset, private_tag(dataset, creator, element))


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
