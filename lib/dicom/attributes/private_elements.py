"""The private elements of a PET that bear on SUV: whose they are, and where a file keeps them."""

from __future__ import annotations

from pydicom.dataset import Dataset

from lib.dicom.attributes.elements import raw_text

GE_PET, SIEMENS_PET, PHILIPS_PET = "GEMS_PETD_01", "SIEMENS MED PT", "Philips PET Private Group"
PRIVATE_GROUPS = {GE_PET: 0x0009, SIEMENS_PET: 0x0071, PHILIPS_PET: 0x7053}
PRIVATE_ELEMENTS = {GE_PET: (0x0D, 0x3B), SIEMENS_PET: (0x22,), PHILIPS_PET: (0x00, 0x09)}
USUAL_BLOCK = 0x10  # which block of a group a creator reserves differs by console; nearly all take the first
BLOCKS = range(USUAL_BLOCK, 0x18)
PRIVATE_TAGS = frozenset(
    tag
    for creator, group in PRIVATE_GROUPS.items()
    for block in BLOCKS
    for tag in (group << 16 | block, *(group << 16 | block << 8 | element for element in PRIVATE_ELEMENTS[creator]))
)


def private_tag(dataset: Dataset, creator: str, element: int) -> int:
    """Return the tag of a private element: in the block its creator reserved, else, without creators, the first."""
    group = PRIVATE_GROUPS[creator]
    tags = dataset.keys()  # the Dataset itself yields its elements
    if not any(tag >> 16 == group for tag in tags):
        return 0  # as in most files that were de-identified
    for block in BLOCKS:
        if raw_text(dataset, group << 16 | block) == creator:
            return group << 16 | block << 8 | element
    if any(raw_text(dataset, group << 16 | block) for block in BLOCKS):
        return 0  # the group belongs to others
    return group << 16 | USUAL_BLOCK << 8 | element
