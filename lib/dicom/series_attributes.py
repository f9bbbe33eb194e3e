"""Interpretation of kernel, contrast agent and description of CT and PET series.

The same vocabulary serves headers (pairing) and an archive's index (download). It was compiled from the descriptions of
the collections with CT and PET in idc-index-data 25.0.5 and from the vendors' kernel names.
"""

from __future__ import annotations

import re
from enum import IntEnum

# Matched against `normalized`: capitals, with one space in place of everything that is not a letter or digit.
NOT_CORRECTED = r"NAC\d?\b|\bNO[NT]? ?(AC\b|ATT)|UNCORR"
CORRECTED = r"AC\d?\b|CORR|ATT(N|EN)|\bSUV\b"
GATED = r"GATED|\b4D\b|\bDYN|\bCINE|PHASE"
FOR_THE_PET = r"(?<!CARDI)(?<!ILI)(?<!CELI)AC\b|\bWB\b|WHOLE ?BODY|ATT(N|EN)|\bPET\b|LOW ?DOSE"
RESAMPLED = r"FUSION"
WITH_CONTRAST = r"CONTRAST|ENHANCED|\bCE(CT)?\b|\bKM\b|\bI ?V\b|ARTERIAL|VENOUS|\bPORTAL"
WITHOUT_CONTRAST = (
    r"\b(NO|NON|WITHOUT|W O|WO|OHNE|SANS) ?(I ?V ?)?(CONTRAST|KM|CE|ENHANCE)|UNENHANCED|NONCONTRAST|\bNATIVE?\b"
)
NO_AGENT = frozenset({"", "NO", "NON", "NONE", "N", "0", "N A", "NA", "NIL", "UNKNOWN", "NATIVE", "NATIV"})


class Sharpness(IntEnum):
    """How strongly a reconstruction kernel enhances edges, and with them noise."""

    SOFT = 0  # also the default
    MEDIUM = 1
    SHARP = 2


# Siemens: one or two letters, then the sharpness: B30f, I70f, Br38, Bl57, Hr64; 50 and more is sharp, B45 soft tissue.
# GE: names. Philips: one letter, or Y and a letter for bone and lung. Canon: FC and a number. UIH: B_SOFT_B, LUNG_B.
SHARP_KERNELS = (
    r"\b[BIHDUQST]R?[A-Z]?[5-9]\d[FSHU]?\b",
    r"LUNG|BONE|\bEDGE\b|\bULTRA\b|SHARP|\bHRES\b",
    r"\bFC ?[358]\d\b",
)
MEDIUM_KERNELS = (r"\bDETAIL\b|\bCHST\b",)
SHARP_LETTERS = frozenset({"D", "E", "F", "L", "LI", "YA", "YB", "YC", "YD", "YE"})
MEDIUM_LETTERS = frozenset({"C"})
# In descriptions, letters and numbers have other meanings too (T12, S60); only older Siemens names are unambiguous.
SHARP_IN_DESCRIPTIONS = r"\b[BI][5-9]\d[FS]?\b|\bB[LRF][5-9]\d\b|LUNG|BONE|\bFC ?[58]\d\b"


def normalized(text: str) -> str:
    """Return a text in capitals, with one space in place of everything that is not a letter or digit."""
    return " ".join(re.split(r"[^A-Z0-9]+", text.upper())).strip()


def sharpness(kernel: str, description: str) -> Sharpness:
    """Return the sharpness of a CT by its ConvolutionKernel, or by its description if the kernel is empty."""
    name = normalized(kernel)
    if not name:
        return Sharpness.SHARP if re.search(SHARP_IN_DESCRIPTIONS, normalized(description)) else Sharpness.SOFT
    first = name.split(" ")[0]
    if first in SHARP_LETTERS or any(re.search(pattern, name) for pattern in SHARP_KERNELS):
        return Sharpness.SHARP
    if first in MEDIUM_LETTERS or any(re.search(pattern, name) for pattern in MEDIUM_KERNELS):
        return Sharpness.MEDIUM
    return Sharpness.SOFT


def has_contrast(agent: str, description: str) -> bool:
    """Return whether ContrastBolusAgent names an agent or, if it is empty, whether the description does."""
    text = normalized(agent or description)
    if re.search(WITHOUT_CONTRAST, text):
        return False
    return text not in NO_AGENT if agent else bool(re.search(WITH_CONTRAST, text))


def is_acquired_for_pet(description: str) -> bool:
    """Return whether a CT's description marks it as acquired for the PET: attenuation correction, whole body."""
    return bool(re.search(FOR_THE_PET, normalized(description)))


def is_resampled(description: str) -> bool:
    """Return whether a CT's description marks it as a console's resampled copy on the PET's grid."""
    return bool(re.search(RESAMPLED, normalized(description)))
