"""Inputs with unusual CT and PET series: value formats, rescaling, slices, planes and image types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.inputs.study import Change, InputCase, each_file, set_attributes

CT_MATRIX = 64


def ct(**attributes: Any) -> Change:
    """Return a change to every CT file: attributes by keyword; None removes an attribute."""
    return each_file("CT", lambda dataset, _: set_attributes(dataset, attributes))


def pet(**attributes: Any) -> Change:
    """Return a change to every PET file."""
    return each_file("PET", lambda dataset, _: set_attributes(dataset, attributes))


def as_text(modality: str, keyword: str, text: str) -> Change:
    """Return a change that writes a raw value that pydicom would not write."""

    def change(dataset: Dataset, _: int) -> None:
        tag, value = Tag(keyword), text.encode()
        vr = dataset[keyword].VR
        dataset[tag] = RawDataElement(tag, vr, len(value), value + b" " * (len(value) % 2), 0, False, True)

    return each_file(modality, change)


def one_slice(modality: str, change: Callable[[Dataset], None], number: int = 4) -> Change:
    """Return a change to a single slice."""

    def apply(dataset: Dataset, index: int) -> None:
        if index == number:
            change(dataset)

    return each_file(modality, apply)


def sent_twice(modality: str, *, other_pixels: bool = False) -> Change:
    """Return a change that stores every slice again with another SOPInstanceUID."""

    def apply(study: Path) -> None:
        for path in sorted((study / modality).glob("*.dcm")):
            dataset = dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.1"
            if other_pixels:
                dataset.PixelData = np.roll(dataset.pixel_array, 3, axis=0).tobytes()
            dcmwrite(path.with_name(f"again-{path.name}"), dataset)

    return apply


def _padded(dataset: Dataset, _: int) -> None:
    """Set air pixels outside the reconstruction circle to 65535 and declare them as padding."""
    rows, columns = np.mgrid[:CT_MATRIX, :CT_MATRIX]
    pixels = dataset.pixel_array.copy()
    outside = np.hypot(rows - 31.5, columns - 31.5) > 40  # the corners
    assert (pixels[outside] <= 100).all()
    pixels[outside] = 65535
    dataset.PixelData = pixels.tobytes()
    dataset.add_new("PixelPaddingValue", "US", 65535)


def _mirrored_rows(dataset: Dataset, _: int) -> None:
    """Store the rows in reverse order: the same voxels at the same positions."""
    pixels, spacing = dataset.pixel_array, float(dataset.PixelSpacing[0])
    position = [float(value) for value in dataset.ImagePositionPatient]
    position[1] += spacing * (pixels.shape[0] - 1)
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = position, [1, 0, 0, 0, -1, 0]
    dataset.PixelData = np.ascontiguousarray(pixels[::-1]).tobytes()


def rotated(degrees: float) -> Change:
    """Return a change that rotates the CT in its plane."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return ct(ImageOrientationPatient=[round(float(v), 6) for v in (c, s, 0, -s, c, 0)])


def _frames(study: Path) -> None:
    """Store the PET at three times."""
    for path in sorted((study / "PET").glob("*.dcm")):
        for frame in (2, 3):
            dataset = dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.{frame}"
            dataset.AcquisitionNumber, dataset.FrameReferenceTime = frame, frame * 600000.0
            dcmwrite(path.with_name(f"{frame}-{path.name}"), dataset)


def _remove(number: int) -> Change:
    def apply(study: Path) -> None:
        sorted((study / "CT").glob("*.dcm"))[number].unlink()

    return apply


SERIES_CASES: dict[str, tuple[InputCase, ...]] = {
    "Value formats": (
        InputCase("PatientWeight 88,7", as_text("PET", "PatientWeight", "88,7"), "read with a warning", "read as 88.7"),
        InputCase("PatientWeight 88.7 kg", as_text("PET", "PatientWeight", "88.7 kg"), "read with a warning", "88.7"),
        InputCase(
            "PatientWeight 1,024 (1024 or 1.024)",
            as_text("PET", "PatientWeight", "1,024"),
            "read in Bq/mL only",
            "PatientWeight '1,024' is malformed",
        ),
        InputCase(
            "PixelSpacing 6,4\\6,4", as_text("CT", "PixelSpacing", "6,4\\6,4"), "read with a warning", "decimal comma"
        ),
        InputCase("SeriesDate 2024.01.15 (ACR-NEMA)", as_text("PET", "SeriesDate", "2024.01.15"), "read"),
        InputCase("SeriesDate 15.01.2024", as_text("PET", "SeriesDate", "15.01.2024"), "read", ""),
    ),
    "CT values": (
        InputCase("RescaleIntercept missing", ct(RescaleIntercept=None), "refused", "RescaleIntercept is missing"),
        InputCase(
            "RescaleIntercept -1024,0", as_text("CT", "RescaleIntercept", "-1024,0"), "read with a warning", "comma"
        ),
        InputCase("RescaleSlope missing", ct(RescaleSlope=None), "refused", "RescaleSlope is missing"),
        InputCase("RescaleSlope 0", ct(RescaleSlope=0), "refused", "RescaleSlope"),
        InputCase("RescaleType US", ct(RescaleType="US"), "read"),
        InputCase("RescaleType of a spectral CT", ct(RescaleType="EDW"), "refused", "RescaleType EDW, expected HU"),
        InputCase("PixelPaddingValue 65535 outside the circle", each_file("CT", _padded), "read"),
        InputCase(
            "PixelRepresentation differs in one slice",
            one_slice("CT", lambda dataset: set_attributes(dataset, {"PixelRepresentation": 1})),
            "refused",
            "its slices differ in PixelRepresentation",
        ),
    ),
    "Slices": (
        InputCase("a slice missing", _remove(4), "refused", "gap: no slice between"),
        InputCase("CT sent twice under new UIDs", sent_twice("CT"), "read with a warning", "sent again under another"),
        InputCase(
            "PET sent twice under new UIDs", sent_twice("PET"), "read with a warning", "sent again under another"
        ),
        InputCase(
            "two CTs of different pixels in one series",
            sent_twice("CT", other_pixels=True),
            "refused",
            "have the position of another",
        ),
        InputCase(
            "time frames of a PET without SeriesType DYNAMIC", _frames, "refused", "time frames (by AcquisitionNumber"
        ),
        InputCase(
            "two frames of reference in one series",
            one_slice("CT", lambda dataset: set_attributes(dataset, {"FrameOfReferenceUID": "1.2.3.4"})),
            "refused",
            "2 frames of reference in one series",
        ),
        InputCase(
            "PatientWeight differs in one slice",
            one_slice("PET", lambda dataset: set_attributes(dataset, {"PatientWeight": 44})),
            "refused",
            "its slices disagree about units, weight, dose or times",
        ),
    ),
    "Planes": (
        InputCase("rows stored from back to front", each_file("CT", _mirrored_rows), "read"),
        InputCase("rows of the PET stored from back to front", each_file("PET", _mirrored_rows), "read"),
        InputCase("CT rotated by 30 degrees in its plane", rotated(30), "refused", "30"),
        InputCase("sagittal slices", ct(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "refused", "sagittal slices"),
        InputCase(
            "ImageOrientationPatient missing", ct(ImageOrientationPatient=None), "refused", "ImageOrientationPatient is"
        ),
        InputCase(
            "FrameOfReferenceUID missing", pet(FrameOfReferenceUID=None), "refused", "FrameOfReferenceUID is missing"
        ),
        InputCase(
            "another frame of reference", pet(FrameOfReferenceUID="1.2.3"), "refused", "another frame of reference"
        ),
    ),
    "Image types": (
        InputCase("CT of a localizer", ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "refused", "a localizer"),
        InputCase(
            "PET without attenuation correction", pet(CorrectedImage=["DECY"]), "refused", "not attenuation-corrected"
        ),
        InputCase(
            "a maximum intensity projection", pet(SeriesDescription="MIP"), "refused", "maximum intensity projection"
        ),
        InputCase("PET of another patient", pet(PatientID="P2"), "refused", "another PatientID"),
        InputCase(
            "a synthetic PET",
            pet(ImageType=["DERIVED", "PRIMARY"], SeriesDescription="SYNTHETIC PET"),
            "refused",
            "synthetic",
        ),
    ),
}
