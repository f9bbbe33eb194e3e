"""The attributes of a DICOM instance that the scan keeps; read by `header.py`, stored by `header_index.py`.

A header has layers so that 100,000 instances load within a second: `InstanceHeader` holds what is unique to a file
(UID, position); `SharedHeader`, one object for many instances, holds what most of a series has in common, with two
further layers for PET.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Vector = tuple[float, float, float]


class _Attributes:
    """Base class of headers, which explains attributes without a value."""

    malformed: tuple[tuple[str, str], ...]
    undelivered: tuple[str, ...]

    def absence_reason(self, keyword: str) -> str:
        """Return a sentence that states why an attribute has no value."""
        text = next((text for name, text in self.malformed if name == keyword), None)
        if text is not None:
            return f"{keyword} {text!r} is malformed"
        if keyword in self.undelivered:
            return f"{keyword} is not in the metadata of the PACS, which provides it only as bulk data"
        return f"{keyword} is missing"


@dataclass(frozen=True)
class BedHeader(_Attributes):
    """Attributes that may differ between the bed positions of one PET series.

    Attributes:
        acquisition_date, acquisition_time: DA and TM in DICOM's current form; empty where absent or malformed.
        frame_reference_time_s: Offset from the series' reference time (the file holds milliseconds).
        frame_duration_s: ActualFrameDuration.
        decay_factor: The factor that was applied to these slices, at least 1.
        malformed, undelivered: As in `SharedHeader`.
    """

    acquisition_date: str = ""
    acquisition_time: str = ""
    frame_reference_time_s: float | None = None
    frame_duration_s: float | None = None
    decay_factor: float | None = None
    malformed: tuple[tuple[str, str], ...] = ()
    undelivered: tuple[str, ...] = ()


@dataclass(frozen=True)
class PetHeader(_Attributes):
    """Attributes needed to convert a PET series to SUV; None or empty if the header lacks them.

    Attributes:
        study_date, series_date, series_time, injection_time, injection_datetime: DA, DA, TM, TM, DT in DICOM's current
            form (YYYYMMDD, HHMMSS.FFFFFF, with the precision of the header); empty if absent or malformed.
        weight_kg, dose_bq, half_life_s: PatientWeight, RadionuclideTotalDose, RadionuclideHalfLife.
        size_m, sex: PatientSize, PatientSex (M, F or O).
        timezone: TimezoneOffsetFromUTC, for example +0900.
        injections: Number of items of RadiopharmaceuticalInformationSequence; the attributes are those of the first.
        nuclide_code, nuclide_meaning: Code value and meaning of RadionuclideCodeSequence.
        radiopharmaceutical: Radiopharmaceutical, else the meaning of RadiopharmaceuticalCodeSequence.
        decay_correction_datetime: DecayCorrectionDateTime (0018,9701), else Siemens' private (0071,xx22), else GE's
            private scan time (0009,xx0D).
        private_injection_datetime: GE's private (0009,xx3B).
        philips_suv_factor, philips_activity_factor: Private (7053,xx00) and (7053,xx09) of "Philips PET Private Group".
        malformed, undelivered: As in `SharedHeader`. Private attributes are named (7053,xx00), (7053,xx09),
            (0009,xx0D), (0009,xx3B), (0071,xx22).
    """

    units: str = ""
    suv_type: str = ""
    decay_correction: str = ""
    corrected_image: tuple[str, ...] = ()
    attenuation_correction_method: str = ""
    series_type: tuple[str, ...] = ()
    study_date: str = ""
    series_date: str = ""
    series_time: str = ""
    timezone: str = ""
    weight_kg: float | None = None
    size_m: float | None = None
    sex: str = ""
    injections: int = 1
    dose_bq: float | None = None
    half_life_s: float | None = None
    nuclide_code: str = ""
    nuclide_meaning: str = ""
    radiopharmaceutical: str = ""
    injection_time: str = ""
    injection_datetime: str = ""
    decay_correction_datetime: str = ""
    private_injection_datetime: str = ""
    philips_suv_factor: float | None = None
    philips_activity_factor: float | None = None
    malformed: tuple[tuple[str, str], ...] = ()
    undelivered: tuple[str, ...] = ()

    def malformed_warning(self, keyword: str, instead: str) -> tuple[str, ...]:
        """Return a warning that a malformed attribute is replaced; none if the attribute is not malformed."""
        is_malformed = any(name == keyword for name, _ in self.malformed)
        return (f"{self.absence_reason(keyword)}: {instead}",) if is_malformed else ()


@dataclass(frozen=True)
class SharedHeader(_Attributes):
    """Attributes that an instance shares with most of its series; empty, 0 or () if the header lacks them.

    Attributes:
        pixel_spacing_mm: PixelSpacing, (between rows, between columns).
        orientation: ImageOrientationPatient, six cosines.
        has_rescale: RescaleSlope is present and readable.
        has_intercept: RescaleIntercept is present and readable.
        rescale_slope_sign: -1, 0 or 1.
        has_modality_lut: ModalityLUTSequence is present.
        ct_rescale: RescaleSlope and RescaleIntercept of a CT, equal in all its slices; those of PET slices differ.
        is_lossy: LossyImageCompression is 01.
        is_synthetic: Any of the markers of `synthetic_marks`, such as SyntheticData YES.
        moments: Start of the study, the series and the acquisition, in this order, if their date is known:
            YYYYMMDDhhmmss, with zeros for an unknown time. Without the acquisition time, which differs by slice.
        acquired_minute: AcquisitionDate and AcquisitionTime of a CT to the minute, YYYYMMDDhhmm; seconds would differ
            from slice to slice.
        convolution_kernel: ConvolutionKernel of a CT.
        contrast_agent: ContrastBolusAgent.
        volumetric_properties: VolumetricProperties of a multi-frame image: VOLUME, SAMPLED or DISTORTED.
        concatenation: Of a part of a concatenation: ConcatenationUID, part number, number of parts (0 if unknown).
        fault: Why a multi-frame instance cannot be split into frames.
        temporal_position, trigger_time: TemporalPositionIdentifier, TriggerTime; as written.
        malformed: (keyword, text) of attributes that are present but cannot be read.
        undelivered: Keywords of attributes that a PACS lists without their value (bulk data).
        notes: Of attributes that violate their value representation but were read, including those of `pet` and `bed`:
            the text found and the value used.
    """

    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    patient_id: str
    modality: str
    image_type: tuple[str, ...]
    photometric_interpretation: str
    samples_per_pixel: int
    number_of_frames: int
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    acquisition_number: str
    study_date: str
    study_description: str
    series_description: str
    rescale_type: str
    has_rescale: bool
    is_lossy: bool
    is_synthetic: bool
    has_intercept: bool = True
    moments: tuple[str, ...] = ()
    acquired_minute: str = ""
    convolution_kernel: str = ""
    contrast_agent: str = ""
    volumetric_properties: str = ""
    concatenation: tuple[str, int, int] | None = None
    fault: str = ""
    rescale_slope_sign: int = 1
    has_modality_lut: bool = False
    ct_rescale: tuple[float, ...] = ()
    temporal_position: str = ""
    trigger_time: str = ""
    malformed: tuple[tuple[str, str], ...] = ()
    undelivered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pet: PetHeader | None = None
    bed: BedHeader | None = None

    def __hash__(self) -> int:
        # the generated method would hash all fields for every slice; these distinguish the headers of a folder
        return hash((self.series_instance_uid, self.acquisition_number, self.bed))


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """One DICOM file: its path, UID and slice position (ImagePositionPatient, None if absent).

    For a multi-frame file, one frame: `frame` is its number, from 1; 0 if the file is a single slice.
    """

    path: str
    sop_instance_uid: str
    position_mm: Vector | None
    shared: SharedHeader
    frame: int = 0

    @property
    def file(self) -> Path:
        """The file as a path."""
        return Path(self.path)


def shared_headers(headers: Iterable[InstanceHeader]) -> list[SharedHeader]:
    """Return the shared parts of headers, each object once: hashing one for every slice takes as long as a scan."""
    return list({id(header.shared): header.shared for header in headers}.values())


def notes_of(headers: Iterable[InstanceHeader]) -> tuple[str, ...]:
    """Return the notes of the headers on invalid values that were read, without duplicates."""
    return tuple(dict.fromkeys(note for shared in shared_headers(headers) for note in shared.notes))


HEADER_FIELDS = tuple(
    field.name for kind in (SharedHeader, PetHeader, BedHeader) for field in dataclasses.fields(kind)
)  # an index with other fields has another version
TUPLE_FIELDS: dict[type[_Attributes], tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if "tuple" in str(field.type))
    for kind in (SharedHeader, PetHeader, BedHeader)
}


def shared_to_json(shared: SharedHeader) -> dict[str, Any]:
    """Return the header as values that JSON can represent."""
    return dataclasses.asdict(shared)


def shared_from_json(values: dict[str, Any]) -> SharedHeader:
    """Return the header from the result of `shared_to_json`.

    Raises:
        TypeError: The fields are those of another version.
    """
    pet, bed = values.pop("pet"), values.pop("bed")
    return SharedHeader(
        **_with_tuples(SharedHeader, values),
        pet=None if pet is None else PetHeader(**_with_tuples(PetHeader, pet)),
        bed=None if bed is None else BedHeader(**_with_tuples(BedHeader, bed)),
    )


def _with_tuples(kind: type[_Attributes], values: dict[str, Any]) -> dict[str, Any]:
    for name in TUPLE_FIELDS[kind]:
        if isinstance(values.get(name), list):
            values[name] = _tuple(values[name])
    return values


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(value) if isinstance(value, list) else value for value in values)
