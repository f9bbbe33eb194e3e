"""Conversion of the frames of multi-frame CT and PET to single-frame datasets.

Enhanced and Legacy Converted Enhanced objects store the attributes of frames in shared and per-frame functional groups.
These are flattened, and attributes with other keywords are renamed as in single-frame objects, so that all other code
(headers, pixels, sources of a synthetic PET) handles slices only.

Source: DICOM PS3.3 C.7.6.16 (functional groups), C.8.15.3 (CT), C.8.22 (PET), C.7.6.16.2.25 (Legacy Converted).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag

from lib.dicom.attributes.elements import first_item, integer_in, items_in, text_in
from lib.dicom.attributes.raw_elements import Elements, binary_number, elements_of, set_text
from lib.dicom.instance_header import InstanceHeader, SharedHeader
from lib.dicom.read.header import header_of
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.multiframe_pet import (
    ENHANCED_PET,
    FRAME_ACQUISITION_DATETIME,
    RADIOPHARMACEUTICALS,
    local_moment,
    name_pet_as_single_frame,
)
from lib.errors import DicomError

ENHANCED_CT, LEGACY_CONVERTED_CT = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"
LEGACY_CONVERTED_PET = "1.2.840.10008.5.1.4.1.1.128.1"
MULTI_FRAME = {"CT": (ENHANCED_CT, LEGACY_CONVERTED_CT), "PT": (ENHANCED_PET, LEGACY_CONVERTED_PET)}
MAX_FRAMES = 20_000  # of one file: two metres in steps of 0.1 mm

NUMBER_OF_FRAMES, SHARED_GROUPS, FRAME_GROUPS = 0x00280008, 0x52009229, 0x52009230
UNASSIGNED_SHARED, UNASSIGNED_FRAME = 0x00209170, 0x00209171
FLAT_MACROS = (
    0x00289110,  # PixelMeasuresSequence
    0x00209113,  # PlanePositionSequence
    0x00209116,  # PlaneOrientationSequence
    0x00209111,  # FrameContentSequence
    0x00289145,  # PixelValueTransformationSequence
    0x00189329,  # CTImageFrameTypeSequence
    0x00189314,  # CTReconstructionSequence
    0x00189751,  # PETFrameTypeSequence
    0x00189736,  # PETFrameCorrectionFactorsSequence
)  # their single item has attributes that a single-frame image has at its top level
KEPT_MACROS = (
    0x00409096,  # RealWorldValueMappingSequence
    0x00189737,  # RadiopharmaceuticalUsageSequence
    0x00189341,  # ContrastBolusUsageSequence
    0x00189118,  # CardiacSynchronizationSequence
    0x00209253,  # RespiratorySynchronizationSequence
)  # moved to the top level unchanged
IMAGE_TYPE, FRAME_TYPE = 0x00080008, 0x00089007
ACQUISITION_NUMBER, FRAME_ACQUISITION_NUMBER = 0x00200012, 0x00209156
ACQUISITION_DATE, ACQUISITION_TIME, ACQUISITION_DATETIME = 0x00080022, 0x00080032, 0x0008002A
FRAME_DURATION, FRAME_ACQUISITION_DURATION = 0x00181242, 0x00189220  # both in ms
CONTRAST_AGENT, CONTRAST_AGENTS, CONTRAST_USAGE, AGENT_ADMINISTERED = 0x00180010, 0x00180012, 0x00189341, 0x00189342
AGENT_NUMBER, CODE_MEANING = 0x00189337, 0x00080104
TEMPORAL_POSITION, POSITION, MODALITY = 0x00209128, 0x00200032, 0x00080060
CONCATENATION, PART_NUMBER, PARTS = 0x00209161, 0x00209162, 0x00209163


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: its header, and its attributes under their single-frame keywords, without pixels."""

    header: InstanceHeader
    dataset: Dataset


def is_multi_frame(shared: SharedHeader) -> bool:
    """Return whether an instance is a multi-frame CT or PET whose frames are read as slices."""
    return shared.sop_class_uid in MULTI_FRAME.get(shared.modality, ())


def slice_headers(header: InstanceHeader) -> tuple[InstanceHeader, ...]:
    """Return the headers of the slices of a file: one per frame of a multi-frame CT or PET, otherwise its own.

    A multi-frame file that cannot be split keeps its single header, whose `fault` states the reason.

    Raises:
        OSError: The file cannot be opened.
    """
    if not is_multi_frame(header.shared):
        return (header,)
    return _headers(header, lambda: read_frame_headers(header.file))


def slice_headers_of(header: InstanceHeader, dataset: Dataset) -> tuple[InstanceHeader, ...]:
    """Return the headers of the slices of a dataset with all elements but pixels, as `slice_headers`."""
    if not is_multi_frame(header.shared):
        return (header,)
    return _headers(header, lambda: frames_of(dataset, header.path))


def _headers(header: InstanceHeader, read: Callable[[], tuple[Frame, ...]]) -> tuple[InstanceHeader, ...]:
    try:
        return tuple(frame.header for frame in read())
    except DicomError as error:
        return (replace(header, shared=replace(header.shared, fault=str(error))),)


def read_frame_headers(path: Path) -> tuple[Frame, ...]:
    """Return all frames of a multi-frame CT or PET file, without pixels.

    Raises:
        DicomError: The functional groups are missing, damaged, or do not match NumberOfFrames.
        OSError: The file cannot be opened.
    """
    try:
        return frames_of(read_instance_file(path), str(path))
    except (DicomError, OSError):
        raise
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged multi-frame file ({error}); copy it again") from error


def frames_of(dataset: Dataset, path: str) -> tuple[Frame, ...]:
    """Return the frames of a multi-frame dataset with all its elements but pixels.

    Raises:
        DicomError: As in `read_frame_headers`.
    """
    name = Path(path).name
    groups = items_in(dataset, FRAME_GROUPS)
    announced = integer_in(dataset, NUMBER_OF_FRAMES, -1)
    if not groups:
        raise DicomError(f"{name}: multi-frame without PerFrameFunctionalGroupsSequence; its frames have no position")
    if announced != len(groups):
        raise DicomError(
            f"{name}: NumberOfFrames {announced if announced >= 0 else 'missing'}, expected {len(groups)}, "
            "the number of items of PerFrameFunctionalGroupsSequence; the file is damaged, export it again"
        )
    if announced > MAX_FRAMES:
        raise DicomError(f"{name}: {announced} frames, expected at most {MAX_FRAMES}; export it as several files")
    try:
        flats = _flat_datasets(dataset)
    except DicomError as error:
        raise DicomError(f"{name}: {error}") from error
    part = _concatenation(dataset)
    return tuple(_frame(flat, path, number, part) for number, flat in enumerate(flats, start=1))


def _frame(flat: Dataset, path: str, number: int, part: tuple[str, int, int] | None) -> Frame:
    header = header_of(flat, path)
    shared = header.shared if part is None else replace(header.shared, concatenation=part)
    return Frame(replace(header, shared=shared, frame=number), flat)


def _concatenation(dataset: Dataset) -> tuple[str, int, int] | None:
    uid, number = text_in(dataset, CONCATENATION), binary_number(dataset, PART_NUMBER)
    if not uid or number is None:
        return None
    return uid, int(number), int(binary_number(dataset, PARTS) or 0)


def refuse_incomplete(headers: Iterable[InstanceHeader]) -> None:
    """Raise if a part of a concatenation is missing among the instances of a series.

    Raises:
        DicomError: A part is missing; the volume would be too short without any other sign.
    """
    found: dict[tuple[str, int], set[int]] = {}
    for part in {header.shared.concatenation for header in headers} - {None}:
        if part is not None and part[2]:
            found.setdefault((part[0], part[2]), set()).add(part[1])
    for (uid, total), numbers in found.items():
        missing = sorted(set(range(1, min(total, MAX_FRAMES) + 1)) - numbers)
        if missing:
            raise DicomError(f"part {missing[0]} of {total} of concatenation {uid} is missing; send all its parts")


def _flat_datasets(dataset: Dataset) -> list[Dataset]:
    """Return each frame's attributes: per-frame groups override shared ones, macros override unassigned ones."""
    for tag in (RADIOPHARMACEUTICALS, CONTRAST_AGENTS):
        items_in(dataset, tag)  # parsed once here instead of with every frame
    top = elements_of(dataset)
    for tag in (SHARED_GROUPS, FRAME_GROUPS, NUMBER_OF_FRAMES):
        top.pop(BaseTag(tag), None)
    stated = {tag: element for tag, element in top.items() if element.value not in (None, b"", "")}
    shared = first_item(dataset, SHARED_GROUPS)
    unassigned = elements_of(first_item(shared, UNASSIGNED_SHARED))
    macros = _macros(shared)
    flats = []
    for group in items_in(dataset, FRAME_GROUPS):
        of_frame = elements_of(first_item(group, UNASSIGNED_FRAME))
        flat = Dataset({**top, **unassigned, **of_frame, **stated, **macros, **_macros(group)})
        flat.file_meta = getattr(dataset, "file_meta", FileMetaDataset())
        flats.append(flat)
        _name_as_single_frame(flat)
        if text_in(flat, MODALITY) == "PT":
            name_pet_as_single_frame(flat)
    _refuse_time_frames(flats)
    return flats


def _refuse_time_frames(flats: Sequence[Dataset]) -> None:
    """Raise DicomError if frames show one position at several times; beds acquired at different times are allowed."""
    moments: dict[str, set[float | None]] = {}
    for flat in flats:
        place = text_in(flat, POSITION)
        if place:
            moments.setdefault(place, set()).add(binary_number(flat, TEMPORAL_POSITION))
    highest = max(map(len, moments.values()), default=0)
    if highest > 1:
        raise DicomError(
            f"time frames: it has one position at {highest} times (TemporalPositionIndex), expected one; send the "
            "static series"
        )


def _macros(group: Dataset) -> Elements:
    """Return the attributes of a functional group, flattened."""
    elements: Elements = {}
    for tag in FLAT_MACROS:
        elements |= elements_of(first_item(group, tag))
    for tag in KEPT_MACROS:
        if tag in group:
            elements[BaseTag(tag)] = group[tag]
    return elements


def _name_as_single_frame(flat: Dataset) -> None:
    """Set the single-frame attributes that functional groups have under other keywords."""
    frame_type = text_in(flat, FRAME_TYPE)
    if frame_type:
        set_text(flat, IMAGE_TYPE, frame_type)
    acquisition = binary_number(flat, FRAME_ACQUISITION_NUMBER)
    if acquisition is not None:
        set_text(flat, ACQUISITION_NUMBER, f"{acquisition:.0f}")
    moment = local_moment(flat, text_in(flat, FRAME_ACQUISITION_DATETIME) or text_in(flat, ACQUISITION_DATETIME))
    if moment is not None and not text_in(flat, ACQUISITION_TIME):
        set_text(flat, ACQUISITION_DATE, f"{moment:%Y%m%d}")
        set_text(flat, ACQUISITION_TIME, f"{moment:%H%M%S.%f}")
    duration_ms = binary_number(flat, FRAME_ACQUISITION_DURATION)
    if duration_ms is not None and not text_in(flat, FRAME_DURATION):
        set_text(flat, FRAME_DURATION, f"{duration_ms:.10g}")
    agents = _contrast_agents(flat)
    if agents and not text_in(flat, CONTRAST_AGENT):
        set_text(flat, CONTRAST_AGENT, agents)


def _contrast_agents(flat: Dataset) -> str:
    """Return the names of the contrast agents administered when the frame was acquired."""
    usages = items_in(flat, CONTRAST_USAGE)
    administered = {
        binary_number(usage, AGENT_NUMBER) for usage in usages if text_in(usage, AGENT_ADMINISTERED) != "NO"
    }
    agents = [
        text_in(agent, CODE_MEANING) or "contrast agent"
        for agent in items_in(flat, CONTRAST_AGENTS)
        if not usages or binary_number(agent, AGENT_NUMBER) in administered
    ]
    return ", ".join(agents)
