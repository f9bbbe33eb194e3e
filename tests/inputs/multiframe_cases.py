"""Inputs with multi-frame files: Enhanced and Legacy Converted Enhanced CT and PET, valid, damaged and unsuitable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset

from tests.dicom.enhanced import Kind, read_slices, write_multi_frame
from tests.dicom.enhanced_macros import code
from tests.inputs.study import Change, InputCase

Edit = Callable[[FileDataset], None]


def multi_frame(kind: Kind, *folders: str, repeats: int = 1, **layout: Any) -> Change:
    """Return a change that converts a study's CT, PET or both to multi-frame files."""

    def change(study: Path) -> None:
        for name in folders or ("CT", "PET"):
            folder = study / name
            slices = read_slices(folder) * repeats
            for path in folder.glob("*.dcm"):
                path.unlink()
            write_multi_frame(slices, folder, kind=kind, **layout)

    return change


def _shared(dataset: FileDataset) -> Dataset:
    group: Dataset = dataset.SharedFunctionalGroupsSequence[0]
    return group


def _set(**attributes: Any) -> Edit:
    def edit(dataset: FileDataset) -> None:
        for keyword, value in attributes.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return edit


def _set_frame_type(**attributes: Any) -> Edit:
    return lambda dataset: _set(**attributes)(_shared(dataset).CTImageFrameTypeSequence[0])


def _dose_in_bq(dataset: FileDataset) -> None:
    agent = dataset.RadiopharmaceuticalInformationSequence[0]
    agent.RadionuclideTotalDose = f"{float(agent.RadionuclideTotalDose) * 1e6:.0f}"


def _no_rescale(dataset: FileDataset) -> None:
    del _shared(dataset).PixelValueTransformationSequence


def _no_position(dataset: FileDataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def _units(value: str) -> Edit:
    def edit(dataset: FileDataset) -> None:
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence = code(value, "UCUM", value)

    return edit


def _no_units(dataset: FileDataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.RealWorldValueMappingSequence


def _two_times(dataset: FileDataset) -> None:
    """Assign the second half of the frames to a second time."""
    groups = dataset.PerFrameFunctionalGroupsSequence
    for number, group in enumerate(groups):
        group.FrameContentSequence[0].TemporalPositionIndex = 1 + 2 * number // len(groups)


def _part_of_two(dataset: FileDataset) -> None:
    _set(ConcatenationUID="2.25.77", InConcatenationNumber=1, InConcatenationTotalNumber=2)(dataset)


MULTI_FRAME_CASES: dict[str, tuple[InputCase, ...]] = {
    "Multi-frame files": (
        InputCase("Enhanced CT and PET", multi_frame("enhanced"), "read"),
        InputCase("Legacy Converted Enhanced CT and PET", multi_frame("legacy"), "read"),
        InputCase("Enhanced, frames shuffled over two files", multi_frame("enhanced", files=2, seed=1), "read"),
        InputCase("Legacy Converted, every macro per frame", multi_frame("legacy", per_frame=True), "read"),
        InputCase("Legacy Converted, slopes unassigned", multi_frame("legacy", rescale_unassigned=True), "read"),
        InputCase("Enhanced, RLE", multi_frame("enhanced", rle=True), "read"),
        InputCase("Enhanced CT, single-frame PET", multi_frame("enhanced", "CT"), "read"),
        InputCase("Enhanced PET, dose in Bq instead of MBq", multi_frame("enhanced", "PET", edit=_dose_in_bq), "read"),
        InputCase(
            "Enhanced PET, no DecayCorrectionDateTime",
            multi_frame("enhanced", "PET", edit=_set(DecayCorrectionDateTime=None)),
            "read in Bq/mL only",
            "DecayCorrection is missing",
        ),
        InputCase(
            "Enhanced PET, real world values in counts",
            multi_frame("enhanced", "PET", edit=_units("{propcounts}")),
            "refused",
            "Units PROPCNTS",
        ),
        InputCase(
            "Enhanced PET, no real world value mapping",
            multi_frame("enhanced", "PET", edit=_no_units),
            "refused",
            "Units is missing",
        ),
        InputCase(
            "Enhanced PET, AttenuationCorrected NO",
            multi_frame("enhanced", "PET", edit=_set(AttenuationCorrected="NO")),
            "refused",
            "not attenuation-corrected",
        ),
        InputCase(
            "Enhanced PET with two times",
            multi_frame("enhanced", "PET", repeats=2, edit=_two_times),
            "refused",
            "time frames: it has one position at 2 times",
        ),
        InputCase(
            "Enhanced CT with two times",
            multi_frame("enhanced", "CT", repeats=2, edit=_two_times),
            "refused",
            "time frames: it has one position at 2 times",
        ),
        InputCase(
            "NumberOfFrames too small",
            multi_frame("legacy", "CT", edit=_set(NumberOfFrames=9)),
            "refused",
            "NumberOfFrames 9, expected 10",
        ),
        InputCase(
            "a file that declares a million frames",
            multi_frame("enhanced", "CT", edit=_set(NumberOfFrames=10**6)),
            "refused",
            "truncated",
        ),
        InputCase(
            "no per-frame functional groups",
            multi_frame("enhanced", "CT", edit=_set(PerFrameFunctionalGroupsSequence=None)),
            "refused",
            "without PerFrameFunctionalGroupsSequence",
        ),
        InputCase(
            "a frame without a position",
            multi_frame("enhanced", "CT", edit=_no_position),
            "refused",
            "ImagePositionPatient is missing in 1 of 10 slices",
        ),
        InputCase(
            "Enhanced CT without PixelValueTransformationSequence",
            multi_frame("enhanced", "CT", edit=_no_rescale),
            "refused",
            "RescaleSlope is missing",
        ),
        InputCase(
            "FrameType MAX_IP",
            multi_frame("enhanced", "CT", edit=_set_frame_type(FrameType=["DERIVED", "PRIMARY", "AXIAL", "MAX_IP"])),
            "refused",
            "a projection",
        ),
        InputCase(
            "VolumetricProperties DISTORTED",
            multi_frame("enhanced", "CT", edit=_set_frame_type(VolumetricProperties="DISTORTED")),
            "refused",
            "a curved reformat",
        ),
        InputCase(
            "the first of two parts of a concatenation",
            multi_frame("enhanced", "CT", edit=_part_of_two),
            "refused",
            "part 2 of 2 of concatenation 2.25.77 is missing",
        ),
    ),
}
