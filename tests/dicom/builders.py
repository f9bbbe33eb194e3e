"""Builders of small DICOM series, valid unless a test changes them: 6 rows, 8 columns, unique pixel values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

ROWS, COLUMNS, SPACING_MM = 6, 8, 3.0
CT_CLASS, PET_CLASS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.128"
STUDY, CT, PET, FRAME = "1.2.3.1", "1.2.3.1.2", "1.2.3.1.3", "1.2.3.1.9"
AXIAL = [1, 0, 0, 0, 1, 0]


def stored_pixels(k: int) -> np.ndarray:
    """Return 100 k + 10 r + c: unique pixel values reveal any mirroring or transposition."""
    return (100 * k + 10 * np.arange(ROWS)[:, None] + np.arange(COLUMNS)).astype(np.int16)


def instance(k: int, *, modality: str = "CT", **attributes: Any) -> FileDataset:
    """Return slice k of a CT (HU = stored - 1000) or of a PET in Bq/mL; an attribute of None is omitted."""
    dataset = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    values: dict[str, Any] = {
        "SOPClassUID": CT_CLASS if modality == "CT" else PET_CLASS,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": modality,
        "PatientID": "P1",
        "PatientName": "Secret^Patient^Name",
        "StudyDate": "20200102",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": CT if modality == "CT" else PET,
        "FrameOfReferenceUID": FRAME,
        "SeriesDescription": "made for a test",
        "ImagePositionPatient": [-10.0, -20.0, 100.0 + SPACING_MM * k],
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": [2.0, 1.5],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": 1.0,
        "RescaleIntercept": -1000.0 if modality == "CT" else 0.0,
        "PixelData": stored_pixels(k).tobytes(),
    }
    if modality == "PT":
        values |= _pet_values()
    values |= attributes
    values.setdefault("SOPInstanceUID", f"{values['SeriesInstanceUID']}.{k + 1}")
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    meta = dataset.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _pet_values() -> dict[str, Any]:
    return {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "SeriesType": ["STATIC", "IMAGE"],
        "SeriesDate": "20200102",
        "SeriesTime": "114000",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "114000",
        "PatientWeight": 50.0,
        "RadiopharmaceuticalInformationSequence": radiopharmaceutical(),
    }


def radiopharmaceutical(**attributes: Any) -> Sequence:
    """Return an injection of 400 MBq at 10:00 with a half-life of 6000 s: at 11:40, 200 MBq remain."""
    item = Dataset()
    values = {
        "RadiopharmaceuticalStartTime": "100000",
        "RadionuclideTotalDose": 4e8,
        "RadionuclideHalfLife": 6000.0,
    } | attributes
    for keyword, value in values.items():
        if value is not None:
            setattr(item, keyword, value)
    return Sequence([item])


def write_series(
    folder: Path,
    *,
    count: int = 5,
    modality: str = "CT",
    names: Callable[[int], str] = "{:03d}.dcm".format,
    vary: Callable[[int], dict[str, Any]] = lambda k: {},
    **attributes: Any,
) -> list[Path]:
    """Write slices 0 to count - 1 and return their paths; `vary` returns attributes of a single slice."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(count):
        paths.append(folder / names(k))
        instance(k, modality=modality, **(attributes | vary(k))).save_as(paths[-1], write_like_original=False)
    return paths
