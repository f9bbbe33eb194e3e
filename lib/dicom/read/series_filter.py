"""Selection of instances that are usable CT or PET slices, and the reasons against the others.

Consoles store other images under modality CT and PT too: scouts, colour fusions, projections, uncorrected PET. They are
recognised by their header and refused with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from lib.dicom.attributes.elements import uid_name
from lib.dicom.instance_header import PetHeader, SharedHeader
from lib.dicom.pixel_data.stored_values import MAX_MATRIX
from lib.dicom.read.multiframe import is_multi_frame
from lib.dicom.read.slice_order import slice_normal
from lib.errors import SliceOrderError
from lib.imaging.orientation import AXIAL_TOLERANCE_DEG

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
PET_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.128"
NO_VOLUME = {
    "SAMPLED": "VolumetricProperties SAMPLED: a projection, not slices of a volume",
    "DISTORTED": "VolumetricProperties DISTORTED: a curved reformat, its pixels are not in its plane",
}  # PS3.3 C.8.16.2.1.2
PROJECTIONS = frozenset({"MIP", "MAX_IP", "MIN_IP", "MINIP", "PROJECTION IMAGE", "PROJECTION", "VOLUME RENDERING"})
HU_TYPES = ("", "HU", "US")  # RescaleType; CT writers use US, "unspecified", for HU as well


def why_not(shared: SharedHeader) -> str | None:
    """Return why instances with this header are not slices of a usable CT or PET; None if they are."""
    if shared.is_synthetic and shared.modality in ("CT", "PT"):
        return (
            f"synthetic {'PET' if shared.modality == 'PT' else 'CT'} (SyntheticData YES or another marker of a "
            "synthetic image): produced by a model, never used as a measured image"
        )
    if shared.modality not in ("CT", "PT"):
        return f"{shared.modality} ({uid_name(shared.sop_class_uid)}): not a CT or PET image series"
    return _why_not_image(shared) or _why_not_plane(shared) or (_why_not_pet(shared.pet) if shared.pet else None)


def why_not_synthetic(shared: SharedHeader) -> str | None:
    """Return why instances with this header are not slices of a synthetic PET; None if they are."""
    if shared.modality != "PT" or not shared.is_synthetic:
        return "not a synthetic PET (SyntheticData YES or another marker of a synthetic image)"
    return _why_not_image(shared) or _why_not_plane(shared)


def _why_not_image(shared: SharedHeader) -> str | None:
    expected = CT_IMAGE_STORAGE if shared.modality == "CT" else PET_IMAGE_STORAGE
    name = uid_name(shared.sop_class_uid)
    if shared.samples_per_pixel > 1 or shared.photometric_interpretation not in ("", "MONOCHROME1", "MONOCHROME2"):
        return (
            f"a colour image ({name}, {shared.photometric_interpretation}) stored as modality {shared.modality}, "
            "such as a console's PET/CT fusion: it contains colours, not measurements"
        )
    if shared.sop_class_uid == expected and shared.number_of_frames > 1:
        return f"multi-frame ({name}, {shared.number_of_frames} frames): export it as single-frame {uid_name(expected)}"
    if shared.sop_class_uid != expected and not is_multi_frame(shared):
        return f"{name} stored as modality {shared.modality}, expected {uid_name(expected)}"
    if shared.fault:
        return shared.fault
    if shared.volumetric_properties in NO_VOLUME:
        return NO_VOLUME[shared.volumetric_properties]
    if "LOCALIZER" in shared.image_type:
        return "a localizer (ImageType LOCALIZER), not a slice of a volume"
    projection = next((value for value in shared.image_type if value in PROJECTIONS), None)
    if projection:
        return f"a projection (ImageType {projection}), not a slice of a volume"
    if re.search(r"\bMIP\b", shared.series_description.upper().replace("_", " ")):
        return "a maximum intensity projection (SeriesDescription says MIP), not a slice of a volume"
    return _why_not_rescaled(shared)


def _why_not_rescaled(shared: SharedHeader) -> str | None:
    unit = "HU" if shared.modality == "CT" else "Bq/mL"
    consequence = f"stored values cannot be converted to {unit}"
    if shared.has_modality_lut:
        return f"ModalityLUTSequence, a table instead of RescaleSlope and RescaleIntercept: {consequence}"
    if not shared.has_rescale:
        return f"{shared.absence_reason('RescaleSlope')}: {consequence}"
    if shared.rescale_slope_sign == 0 or (shared.modality == "PT" and shared.rescale_slope_sign < 0):
        return f"RescaleSlope is {'0' if shared.rescale_slope_sign == 0 else 'below 0'}: {consequence}"
    if not shared.has_intercept and (shared.modality == "CT" or _is_present(shared, "RescaleIntercept")):
        return f"{shared.absence_reason('RescaleIntercept')}: {consequence}"  # 0 is the default of PET
    if shared.modality == "CT" and shared.rescale_type not in HU_TYPES:
        return f"RescaleType {shared.rescale_type}, expected HU (a spectral or processed CT)"
    return None


def _is_present(shared: SharedHeader, keyword: str) -> bool:
    return keyword in shared.undelivered or any(keyword == name for name, _ in shared.malformed)


def _why_not_plane(shared: SharedHeader) -> str | None:
    for keyword, size in (("Rows", shared.rows), ("Columns", shared.columns)):
        if size < 1:
            return f"{shared.absence_reason(keyword)}: the file may be truncated"
        if size > MAX_MATRIX:
            return f"{keyword} {size}, expected at most {MAX_MATRIX}: no CT or PET slice is larger"
    if not shared.orientation:
        return f"{shared.absence_reason('ImageOrientationPatient')}; slices have no position"
    try:
        normal = slice_normal(shared.orientation)
    except SliceOrderError as error:
        return str(error)
    angle = float(np.degrees(np.arccos(min(1.0, abs(float(normal[2]))))))
    if angle > AXIAL_TOLERANCE_DEG:
        plane = ("sagittal", "coronal")[int(np.argmax(np.abs(normal[:2])))] if angle > 80 else "oblique"
        return f"{plane} slices ({angle:.0f} degrees from axial), expected axial ones"
    return _why_not_rotated(shared.orientation) if shared.modality == "CT" else None  # a PET is resampled onto its CT


def _why_not_rotated(orientation: Sequence[float]) -> str | None:
    """Return why a CT is rotated too far in its slice plane for the network; None if it is not."""
    angle = max(
        float(np.degrees(np.arccos(min(1.0, float(np.abs(axis).max()))))) for axis in (orientation[:3], orientation[3:])
    )
    if angle <= AXIAL_TOLERANCE_DEG:
        return None
    return (
        f"rows or columns are rotated by {angle:.1f} degrees from the patient's axes, expected at most "
        f"{AXIAL_TOLERANCE_DEG:g}; use the reconstruction along the patient's axes"
    )


def _why_not_pet(pet: PetHeader) -> str | None:
    only_method = not pet.corrected_image and pet.attenuation_correction_method.upper() not in ("", "NONE")
    if "ATTN" not in pet.corrected_image and not only_method:
        listed = ", ".join(pet.corrected_image) or "nothing"
        return f"not attenuation-corrected: CorrectedImage lists {listed}, expected ATTN among them"
    if pet.series_type[1:2] == ("REPROJECTION",):
        return "a projection (SeriesType REPROJECTION), not a slice of a volume"
    return None
