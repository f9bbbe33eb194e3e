"""Builders of RT Structure Sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian

from tests.dicom.builders import FRAME, STUDY

Polygon = Sequence[tuple[float, float, float]]  # points in LPS mm


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def contour_item(polygon: Polygon, kind: str = "CLOSED_PLANAR") -> Dataset:
    flat = [f"{number:.6g}" for point in polygon for number in point]
    return item(ContourGeometricType=kind, NumberOfContourPoints=len(polygon), ContourData=flat)


def write_rtstruct(
    path: Path, regions: dict[str, list[Dataset]], *, frame: str = FRAME, kinds: Sequence[str] = (), **attributes: Any
) -> Path:
    """Write an RT Structure Set with a region for each name."""
    dataset = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    values: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3",
        "SOPInstanceUID": "1.2.3.1.4.1",
        "Modality": "RTSTRUCT",
        "PatientID": "P1",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": "1.2.3.1.4",
        "StructureSetROISequence": DicomSequence(
            item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame) for n, name in enumerate(regions, 1)
        ),
        # in reverse order: the sequences are joined by number, not by position
        "ROIContourSequence": DicomSequence(
            item(ReferencedROINumber=n, ContourSequence=DicomSequence(items))
            for n, items in reversed(list(enumerate(regions.values(), 1)))
            if items
        ),
        "RTROIObservationsSequence": DicomSequence(
            item(ObservationNumber=n, ReferencedROINumber=n, RTROIInterpretedType=kind)
            for n, kind in enumerate(kinds, 1)
        ),
    } | attributes
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, write_like_original=False)
    return path
