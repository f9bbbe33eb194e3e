"""Labels of a synthetic PET: its name, its attributes, and the annotation of every view."""

from __future__ import annotations

from typing import Any

import numpy as np

SYNTHETIC = "SYNTHETIC PET - NOT FOR DIAGNOSIS"
ELSEWHERE = "in another view: " + SYNTHETIC
MEASURED = "measured PET"

# Attributes of the volume node, saved with the scene
WARNING = "CT2PET.Warning"
MODEL = "CT2PET.Model"
VERSION = "CT2PET.Version"
CHECKSUM = "CT2PET.Checksum"  # SHA-256 of the weights
CT_NODE = "CT2PET.CT"  # also the node reference role
ERROR_MAP = "CT2PET.ErrorMap"  # node reference role, of the uncertainty map of a PET
DIFFERENCE_MAP = "CT2PET.Difference"  # node reference role, of synthetic minus real
PRESENT = "CT2PET.SlicesPresent"  # "3:9,12:20", slice indices along the third axis
ROLE = "CT2PET.Role"  # one of the following
SYNTHETIC_PET = "synthetic PET"
UNCERTAINTY = "expected error of a synthetic PET"
DIFFERENCE = "synthetic minus real PET"
REAL_ON_GRID = "real PET on the CT's grid"


def pet_name(ct_name: str, model: str) -> str:
    """Return the name for the node of a synthetic PET."""
    # what it is comes first: selectors and views cut a long name off at its end
    return f"SYNTHETIC PET {model} (not for diagnosis) of {ct_name}"


def version_number(node: object) -> int | None:
    """Return the number of the model version that predicted a volume; None if its server has no versions."""
    text = node.GetAttribute(VERSION) or ""  # type: ignore[attr-defined]
    return int(text) if text.isdecimal() and len(text) < 8 else None  # eight characters are the start of a checksum


def is_synthetic(node: object) -> bool:
    """Return whether a volume node was predicted by a model, or derived from a prediction."""
    return node is not None and node.GetAttribute(ROLE) in (SYNTHETIC_PET, UNCERTAINTY, DIFFERENCE)  # type: ignore[attr-defined]


def ranges_text(present: np.ndarray[Any, Any]) -> str:
    """Return the indices of the present slices as text such as `3:9,12:20`; empty if there are none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(present, dtype=np.int8), [0]))))
    return ",".join(f"{start}:{stop}" for start, stop in zip(edges[::2], edges[1::2]))


def ranges_mask(text: str, slices: int) -> np.ndarray[Any, Any]:
    """Return the slices named by a text such as `3:9,12:20`, booleans, shape (slices,)."""
    present = np.zeros(slices, dtype=bool)
    for part in filter(None, text.split(",")):
        start, stop = part.split(":")
        present[int(start) : int(stop)] = True
    return present
