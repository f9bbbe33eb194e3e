"""Private elements of PET vendors that affect SUV: their creators and tags."""

from __future__ import annotations

from pydicom.dataset import Dataset

from lib.dicom.attributes.elements import raw_text

GE_PET, SIEMENS_PET, PHILIPS_PET = "GEMS_PETD_01", "SIEMENS MED PT", "Philips PET Private Group"
PRIVATE_GROUPS = {GE_PET: 0x0009, SIEMENS_PET: 0x0071, PHILIPS_PET: 0x7053}
PRIVATE_ELEMENTS = {GE_PET: (0x0D, 0x3B), SIEMENS_PET: (0x22,), PHILIPS_PET: (0x00, 0x09)}
USUAL_BLOCK = 0x10  # the block that a creator reserves differs by console; nearly all use the first
BLOCKS = range(USUAL_BLOCK, 0x18)
PRIVATE_TAGS = frozenset(
    tag
    for creator, group in PRIVATE_GROUPS.items()
    for block in BLOCKS
    for tag in (group << 16 | block, *(group << 16 | block << 8 | element for element in PRIVATE_ELEMENTS[creator]))
)


def private_tag(dataset: Dataset, creator: str, element: int) -> int:
    """Return the tag of a private element in its creator's block; in the first block if the group has no creators."""
    group = PRIVATE_GROUPS[creator]
    tags = dataset.keys()  # iterating over the Dataset itself yields elements
    if not any(tag >> 16 == group for tag in tags):
        return 0  # as in most de-identified files
    for block in BLOCKS:
        if raw_text(dataset, group << 16 | block) == creator:
            return group << 16 | block << 8 | element
    if any(raw_text(dataset, group << 16 | block) for block in BLOCKS):
        return 0  # the group belongs to other creators
    return group << 16 | USUAL_BLOCK << 8 | element
