"""Planning of a synthetic PET series: its UIDs and headers, read from the files of its CT."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import CTImageStorage

from lib.dicom.attributes.value_rules import UID
from lib.dicom.read.header import HEADER_TAGS, header_of
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.multiframe import Frame, is_multi_frame, read_frame_headers
from lib.dicom.read.slice_order import order_stack
from lib.dicom.write.copied_attributes import COPIED_TAGS, copy_patient_and_study
from lib.dicom.write.derivation import SourceModel
from lib.dicom.write.pet_series import PlannedSeries
from lib.dicom.write.uids import derived_uid, source_of
from lib.errors import DicomError
from lib.types import Series, SliceSource

__all__ = ["SourceModel", "plan_series"]


def plan_series(ct: Series, source_model: SourceModel) -> PlannedSeries:
    """Return the planned synthetic series of a CT, reading the headers of all its files.

    Raises:
        MissingAttributeError: The CT lacks a frame of reference, or a date and time.
        DicomError: A file is damaged, or the files do not form one stack; the message names the series.
    """
    selected = set(ct.slices)
    read = (frame for path in ct.files for frame in _read(path, ct))
    found = [frame for frame in read if SliceSource(frame.header.file, frame.header.frame) in selected]
    datasets = {(frame.header.path, frame.header.frame): frame.dataset for frame in found}
    stack = order_stack([frame.header for frame in found])
    frames = tuple(header.frame for header in stack.headers)
    slices = tuple(datasets[header.path, header.frame] for header in stack.headers)
    shared = copy_patient_and_study(slices[0], series_uid=ct.uid)
    instances = (source_of(slice_, frame) for slice_, frame in zip(slices, frames, strict=True))
    return PlannedSeries(
        uid=derived_uid("series", ct.uid, source_model.checksum, *instances),
        study_uid=str(shared.StudyInstanceUID),
        ct_uid=ct.uid,
        geometry=stack.geometry,
        slices=slices,
        frames=frames,
        shared=shared,
        source_model=source_model,
    )


def _read(path: Path, ct: Series) -> tuple[Frame, ...]:
    """Return the slices of a file: the file itself, or the frames of a multi-frame file."""
    try:
        dataset = read_instance_file(path, tags=[*HEADER_TAGS, *COPIED_TAGS])
        header = header_of(dataset, str(path))
        frames = read_frame_headers(path) if is_multi_frame(header.shared) else (Frame(header, dataset),)
    except (DicomError, OSError) as error:
        raise DicomError(f"series {ct.uid}: {path.name}: cannot be read ({error}); scan the folder again") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"series {ct.uid}: {path.name}: damaged DICOM file; copy it again") from error
    if header.shared.series_instance_uid != ct.uid or header.shared.modality != "CT":
        raise DicomError(f"{path.name}: no longer a file of CT series {ct.uid}; scan the folder again")
    if not UID.fullmatch(header.sop_instance_uid):
        raise DicomError(
            f"series {ct.uid}: {path.name}: its SOPInstanceUID is not a UID, so a PET series cannot refer to it; "
            "correct the CT's header, or have the PET written as .nrrd"
        )
    for frame in frames:  # as checked above: the elements in the file may have any value representation
        frame.dataset.add_new("SOPInstanceUID", "UI", header.sop_instance_uid)
        frame.dataset.add_new("SOPClassUID", "UI", header.shared.sop_class_uid or CTImageStorage)
    return frames
