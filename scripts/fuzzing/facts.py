"""Redundant attributes of a series: a change is detectable from other slices or other attributes."""

from __future__ import annotations

PIXEL_DATA, POSITION, SLOPE, INTERCEPT = 0x7FE00010, 0x00200032, 0x00281053, 0x00281052
START_TIME, START_DATETIME, DOSE, HALF_LIFE = 0x00181072, 0x00181078, 0x00181074, 0x00181075
SERIES_DATE, SERIES_TIME, ACQUISITION_DATE, ACQUISITION_TIME = 0x00080021, 0x00080031, 0x00080022, 0x00080032
FRAME_REFERENCE_TIME, FRAME_DURATION, DECAY_FACTOR = 0x00541300, 0x00181242, 0x00541321
DECAY_CORRECTION, CORRECTED_IMAGE, NUCLIDE_CODES = 0x00541102, 0x00280051, 0x00540300
TIMES = (SERIES_TIME, ACQUISITION_TIME, FRAME_REFERENCE_TIME, FRAME_DURATION)

# attributes that may differ between slices
PER_SLICE = frozenset(
    {
        PIXEL_DATA, 0x00080018, 0x00020003, 0x00200013, 0x00201041, ACQUISITION_DATE, ACQUISITION_TIME, 0x0008002A,
        0x00080023, 0x00080033, 0x00080012, 0x00080013, FRAME_REFERENCE_TIME, FRAME_DURATION, DECAY_FACTOR, 0x00541330,
        0x00541322, 0x00541323, 0x00280106, 0x00280107, 0x00281050, 0x00281051, 0x00200012,
    }
)  # fmt: skip
# attributes of the same file that contain the same information
REDUNDANT: dict[int, tuple[int, ...]] = {
    START_TIME: (START_DATETIME,),
    START_DATETIME: (START_TIME,),
    HALF_LIFE: (NUCLIDE_CODES,),
    DECAY_CORRECTION: (CORRECTED_IMAGE,),
    CORRECTED_IMAGE: (DECAY_CORRECTION,),
    SERIES_DATE: (ACQUISITION_DATE,),
    ACQUISITION_DATE: (SERIES_DATE,),
    **{time: tuple(other for other in TIMES if other != time) for time in TIMES},
    0x00280010: (PIXEL_DATA,),  # Rows, Columns, SamplesPerPixel, NumberOfFrames, BitsAllocated: length of PixelData
    0x00280011: (PIXEL_DATA,),
    0x00280002: (PIXEL_DATA,),
    0x00280008: (PIXEL_DATA,),
    0x00280100: (PIXEL_DATA,),
    0x00280101: (0x00280102,),  # BitsStored, HighBit
    0x00020010: (PIXEL_DATA,),  # TransferSyntaxUID: encoding of the data set
    0x00080016: (0x00020002,),  # SOPClassUID, MediaStorageSOPClassUID
    0x00080060: (0x00080016,),  # Modality, SOPClassUID
}
SUV_TOLERANCE, SAME_TOLERANCE = 0.01, 1e-4  # a conflict below 1 % of SUV needs no warning


def contradiction(
    tag: int, *, modality: str, one_slice: bool, is_value: bool, present: frozenset[int]
) -> tuple[str, float]:
    """Return which data of the series contradict a changed attribute, and the tolerated relative difference.

    Args:
        tag: Tag of the attribute.
        modality: CT or PT.
        one_slice: Whether it was changed in one file, not equally in all files.
        is_value: Whether the new value is valid for the attribute.
        present: Tags of all attributes of the file.

    Returns:
        The contradicting data, empty if there are none; and the tolerance.
    """
    if tag == PIXEL_DATA:
        return "", SAME_TOLERANCE
    if not is_value:
        return "the value is invalid: any other value is a guess", SAME_TOLERANCE
    per_slice = tag in PER_SLICE or (modality == "PT" and tag in (SLOPE, INTERCEPT))
    if one_slice and not per_slice:
        return "the other slices", SAME_TOLERANCE
    others = REDUNDANT.get(tag, ())
    if others and present.issuperset(others):
        return "another attribute of the file", SUV_TOLERANCE
    return "", SAME_TOLERANCE
