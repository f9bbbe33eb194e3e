"""Assessment of a series: its ordered slices and units, or the reason why it cannot be used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.dicom.acquisition_time import acquired_minute
from lib.dicom.instance_header import InstanceHeader, SharedHeader, notes_of, shared_headers
from lib.dicom.read.consistency import differing_attributes, refuse_mixed_series
from lib.dicom.read.multiframe import refuse_incomplete
from lib.dicom.read.slice_order import Stack
from lib.dicom.read.stacks import volume_stack
from lib.dicom.suv.body_weight import SLICES_DISAGREE, SuvState, suv_state
from lib.errors import DicomError
from lib.imaging.files.extent import extent_fault
from lib.imaging.geometry import Geometry
from lib.types import Series, SliceSource


@dataclass(frozen=True, eq=False)
class ScannedSeries:
    """A series found by a scan.

    Attributes:
        series: Its files, in stack order if it is usable, otherwise in path order.
        geometry: The regular grid of its slices; None if it is not usable.
        positions_mm: Each slice's position along the normal, as measured; empty if it is not usable.
        reason: Why it cannot be used; None if it can.
        warnings: Warnings for users of a usable series.
        study_date: YYYYMMDD, or empty.
        matrix: (rows, columns), or None if it is not an image.
        image_type: ImageType.
        has_suv: Whether it is a PET that can be converted to SUVbw.
        suv: Units of a PET, as text (`SUVbw (GML)`, `Bq/mL only: PatientWeight is missing`); None for other series.
        is_synthetic: Whether a model produced it, by its markers.
        moments: Start of study, series and acquisition, if known: YYYYMMDDhhmmss.
        acquired: Acquisition time of its first slice, YYYYMMDDhhmm; empty if unknown.
        convolution_kernel, contrast_agent: Of a CT; empty if absent.
    """

    series: Series
    geometry: Geometry | None
    positions_mm: tuple[float, ...]
    reason: str | None
    warnings: tuple[str, ...]
    study_date: str
    matrix: tuple[int, int] | None
    image_type: tuple[str, ...]
    has_suv: bool = False
    suv: str | None = None
    is_synthetic: bool = False
    moments: tuple[str, ...] = ()
    acquired: str = ""
    convolution_kernel: str = ""
    contrast_agent: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether `volume.py` can read it as a volume."""
        return self.reason is None

    @property
    def is_original(self) -> bool:
        """Whether ImageType is ORIGINAL or empty."""
        return self.image_type[:1] in ((), ("ORIGINAL",))

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Distance between (slices, rows, columns), if it is usable."""
        return None if self.geometry is None else self.geometry.spacing_mm


def judge_series(headers: Sequence[InstanceHeader], *, fault: str = "") -> ScannedSeries:
    """Return the series with the headers of all its files: its ordered slices, or why it cannot be used.

    Args:
        headers: Headers of all its files.
        fault: Why its pixels cannot be read, if known already.
    """
    stack: Stack | None = None
    suv: SuvState | None = None
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    try:
        if fault:
            raise DicomError(fault)
        refuse_mixed_series(headers)
        refuse_incomplete(headers)
        stack, warnings = volume_stack(headers)
        if extent_fault(stack.geometry):
            raise DicomError(f"{extent_fault(stack.geometry)}; export it again")
        suv = _suv_of(stack)
    except DicomError as error:
        reason, stack = str(error), None
    slices = sorted(headers, key=lambda header: (header.path, header.frame)) if stack is None else stack.headers
    first = slices[0].shared
    if stack is not None:
        warnings += _image_warnings(first, lossy=any(header.shared.is_lossy for header in slices)) + notes_of(slices)
        warnings += _uneven_rescale(slices)
    return ScannedSeries(
        series=_series(first, slices),
        geometry=None if stack is None else stack.geometry,
        positions_mm=() if stack is None else stack.positions_mm,
        reason=reason,
        warnings=warnings + (() if suv is None else suv.warnings),
        study_date=first.study_date,
        matrix=(first.rows, first.columns) if first.rows and first.columns else None,
        image_type=first.image_type,
        has_suv=suv is not None and suv.has_suv,
        suv=None if suv is None else suv.text,
        is_synthetic=first.is_synthetic,
        moments=first.moments,
        acquired=acquired_minute(slices),
        convolution_kernel=first.convolution_kernel,
        contrast_agent=first.contrast_agent,
    )


def _suv_of(stack: Stack) -> SuvState | None:
    distinct = shared_headers(stack.headers)
    pets = {shared.pet for shared in distinct if shared.pet is not None}
    if not pets:
        return None
    if len(pets) > 1:
        raise DicomError(f"{SLICES_DISAGREE} ({differing_attributes(pets)})")
    return suv_state(pets.pop(), {shared.bed for shared in distinct if shared.bed is not None})


def _image_warnings(shared: SharedHeader, *, lossy: bool) -> tuple[str, ...]:
    warnings = []
    if shared.modality == "CT" and shared.image_type[:1] == ("DERIVED",):
        warnings.append("ImageType DERIVED: a reformatted or processed CT, not the original reconstruction")
    if lossy:
        warnings.append("lossy compression: the values differ slightly from the measured ones")
    return tuple(warnings)


def _uneven_rescale(slices: Sequence[InstanceHeader]) -> tuple[str, ...]:
    """Return a warning if slices of a CT have different rescale attributes, which may be an error."""
    counted = Counter(header.shared.ct_rescale for header in slices if header.shared.ct_rescale)
    if len(counted) < 2:
        return ()
    counts = ", ".join(
        f"{slope:g} and {intercept:g} in {count}" for (slope, intercept), count in counted.most_common(3)
    )
    return (f"RescaleSlope and RescaleIntercept differ between the slices of one CT: {counts}",)


def _series(shared: SharedHeader, headers: Sequence[InstanceHeader]) -> Series:
    paths = _paths(headers)
    series = Series(
        uid=shared.series_instance_uid,
        study_uid=shared.study_instance_uid,
        patient_id=shared.patient_id,
        modality=shared.modality,
        frame_of_reference_uid=shared.frame_of_reference_uid,
        description=shared.series_description,
        files=paths,
    )
    if not any(header.frame for header in headers):
        return series
    return series.of_slices([SliceSource(path, header.frame) for path, header in zip(paths, headers, strict=True)])


def _paths(headers: Sequence[InstanceHeader]) -> tuple[Path, ...]:
    """Return the files; parsing each folder once halves the time of a scan that opens no file."""
    folders: dict[str, Path] = {}
    paths = []
    for header in headers:
        folder, _, name = header.path.rpartition(os.sep)
        parent = folders.get(folder)
        if parent is None:
            parent = folders[folder] = Path(folder + os.sep)
        paths.append(parent / name)
    return tuple(paths)
