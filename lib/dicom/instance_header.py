"""What the scan remembers of one DICOM file, in DICOM's own words; read by `header.py`, kept by `header_index.py`.

An instance is layered, because a hundred thousand of them must load in a second: what is its own (UID, place), and what
it shares with most of its series (`SharedHeader`, one object for all of them), which for PET holds two layers more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Vector = tuple[float, float, float]


class _Attributes:
    """Explain attributes without a value."""

    malformed: tuple[tuple[str, str], ...]
    undelivered: tuple[str, ...]

    def absence_reason(self, keyword: str) -> str:
        """Return the sentence that says why an attribute has no value."""
        text = next((text for name, text in self.malformed if name == keyword), None)
        if text is not None:
            return f"{keyword} {text!r} is malformed"
        if keyword in self.undelivered:
            return f"{keyword} is not in the metadata of the PACS, which delivers it only as bulk data"
        return f"{keyword} is missing"


@dataclass(frozen=True)
class BedHeader(_Attributes):
    """What may differ between the bed positions of one PET series.

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
    """What a PET series needs to become SUV; None or empty where the header is silent.

    Attributes:
        study_date, series_date, series_time, injection_time, injection_datetime: DA, DA, TM, TM, DT in DICOM's current
            form (YYYYMMDD, HHMMSS.FFFFFF, as exact as it is told); empty where absent or malformed.
        weight_kg, dose_bq, half_life_s: PatientWeight, RadionuclideTotalDose, RadionuclideHalfLife.
        size_m, sex: PatientSize, PatientSex (M, F or O).
        timezone: TimezoneOffsetFromUTC, for example +0900.
        injections: Number of items of RadiopharmaceuticalInformationSequence; the rest is of the first.
        nuclide_code, nuclide_meaning: Code value and meaning of RadionuclideCodeSequence.
        radiopharmaceutical: Radiopharmaceutical, else the meaning of RadiopharmaceuticalCodeSequence.
        decay_correction_datetime: DecayCorrectionDateTime (0018,9701), else Siemens' private (0071,xx22), else GE's
            private scan time (0009,xx0D).
        private_injection_datetime: GE's private (0009,xx3B).
        philips_suv_factor, philips_activity_factor: Private (7053,xx00) and (7053,xx09) of "Philips PET Private Group".
        malformed, undelivered: As in `SharedHeader`. Private attributes go by (7053,xx00), (7053,xx09),
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
        """Return the warning that something else is used in place of a malformed attribute; none where it is not."""
        is_malformed = any(name == keyword for name, _ in self.malformed)
        return (f"{self.absence_reason(keyword)}: {instead}",) if is_malformed else ()


@dataclass(frozen=True)
class SharedHeader(_Attributes):
    """What an instance shares with most of its series; empty, 0 or () where the header is silent.

    Attributes:
        pixel_spacing_mm: PixelSpacing, (between rows, between columns).
        orientation: ImageOrientationPatient, six cosines.
        has_rescale: RescaleSlope is there, and can be read.
        has_intercept: RescaleIntercept is there, and can be read.
        rescale_slope_sign: -1, 0 or 1.
        has_modality_lut: ModalityLUTSequence is there.
        ct_rescale: RescaleSlope and RescaleIntercept of a CT, which all its slices share; a PET's slices differ.
        is_lossy: LossyImageCompression is 01.
        is_synthetic: Any of the marks of `synthetic_marks`: SyntheticData YES, or another that says so.
        moments: When the study, the series and the acquisition were begun, of those whose date is told, in this order:
            YYYYMMDDhhmmss, with zeros for a time that is not told. No acquisition time: each slice has another.
        acquired_minute: AcquisitionDate and AcquisitionTime of a CT to the minute, YYYYMMDDhhmm; seconds would differ
            from slice to slice.
        convolution_kernel: ConvolutionKernel of a CT.
        contrast_agent: ContrastBolusAgent.
        volumetric_properties: VolumetricProperties of a multi-frame image: VOLUME, SAMPLED or DISTORTED.
        concatenation: Of a part of a concatenation: ConcatenationUID, which part, of how many (0 where it is not told).
        fault: Why a multi-frame instance cannot be taken apart into frames.
        temporal_position, trigger_time: TemporalPositionIdentifier, TriggerTime; as written.
        malformed: (keyword, text) of attributes that are there and cannot be read.
        undelivered: Keywords of attributes that a PACS names without their value (bulk data).
        notes: Of attributes that break DICOM's form and were read, those of `pet` and `bed` included: what was written,
            and as what it was taken.
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
        # the generated one would hash all fields for every slice; these tell the headers of a folder apart
        return hash((self.series_instance_uid, self.acquisition_number, self.bed))


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """One DICOM file: where it is, who it is, where its slice lies (ImagePositionPatient, None where absent).

    Of a multi-frame file, one frame: which one, counted from 1; 0 where the file is one slice.
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


def notes_of(headers: Iterable[InstanceHeader]) -> tuple[str, ...]:
    """Return what the headers' values were read as where they break DICOM's form, each note once."""
    distinct = {id(header.shared): header.shared for header in headers}.values()
    return tuple(dict.fromkeys(note for shared in distinct for note in shared.notes))


HEADER_FIELDS = tuple(
    field.name for kind in (SharedHeader, PetHeader, BedHeader) for field in dataclasses.fields(kind)
)  # an index written with other fields is of another version


def shared_to_json(shared: SharedHeader) -> dict[str, Any]:
    """Return plain values that JSON keeps."""
    return dataclasses.asdict(shared)


def shared_from_json(values: dict[str, Any]) -> SharedHeader:
    """Return the header that `shared_to_json` was given.

    Raises:
        TypeError: Fields of another version.
    """
    pet, bed = values.pop("pet"), values.pop("bed")
    return SharedHeader(
        **_tuples(values),
        pet=None if pet is None else PetHeader(**_tuples(pet)),
        bed=None if bed is None else BedHeader(**_tuples(bed)),
    )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(value) if isinstance(value, list) else value for value in values)
