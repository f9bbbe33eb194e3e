"""Whether a CT and a PET of the scene may be submitted as a pair to learn from; the same questions as the server's.

`gather` takes arrays out of the scene (main thread), `check` reckons with them alone (worker thread). The server checks
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from CT2PETLib.scene import node_attributes, resampling
from CT2PETLib.scene.volume import SceneError, ijk_to_ras, is_suv, voxels

# The server's own limits (lib/pairing/quality_checks/plausibility.py), chosen on 36 real pairs
MIN_COVERAGE = 0.75
MIN_OUTLINE = 0.85
MEDIAN_SUV = (0.05, 10.0)
EVERY = 4  # voxels between those looked at, in the plane: a PET resolves no more
SAMPLE = 20000


@dataclass(frozen=True)
class Check:
    """One question: what was looked at, what was found, whether that is well."""

    question: str
    found: str
    ok: bool


@dataclass(frozen=True)
class Pair:
    """Arrays of a pair, out of the scene; matrices lead from voxel (i, j, k) to RAS in mm.

    The PET's numbers are SUVbw where `is_suv`; else of a unit that the check does not know, as Bq/mL.
    """

    ct_hu: np.ndarray
    pet: np.ndarray
    ct_matrix: np.ndarray
    pet_matrix: np.ndarray
    is_suv: bool


def gather(ct: Any, pet: Any) -> Pair:
    """Return what is checked and sent.

    Raises:
        SceneError: One was drawn by a model, both are the same, or they lie under different transforms.
    """
    for node in (ct, pet):
        if node.GetAttribute(node_attributes.ROLE):
            raise SceneError(f"{node.GetName()}: was made by this module; a model may learn from measured images only")
    if ct is pet:
        raise SceneError(f"{ct.GetName()}: is chosen as CT and as PET; choose the measured PET of that CT")
    if ct.GetTransformNodeID() != pet.GetTransformNodeID():
        raise SceneError(f"{pet.GetName()}: lies under another transform than the CT; harden both transforms first")
    return Pair(voxels(ct), voxels(pet), ijk_to_ras(ct), ijk_to_ras(pet), is_suv(pet))


def check(pair: Pair) -> tuple[Check, ...]:
    """Return every question with its answer; touches no MRML."""
    ct = pair.ct_hu[:, ::EVERY, ::EVERY]
    coarse = pair.ct_matrix @ np.diag([EVERY, EVERY, 1.0, 1.0])
    pet = resampling.resample(pair.pet, ijk_to_ras=pair.pet_matrix, onto_ijk_to_ras=coarse, shape=ct.shape)
    body, measured = resampling.body_mask(ct), np.isfinite(pet)
    low, high = float(ct.min()), float(ct.max())
    air_and_bone = f"{low:.0f} to {high:.0f} HU"
    coverage = float((body & measured).sum() / max(1, body.sum()))
    inside, outside = pet[body & measured], pet[~body & measured]
    median = float(np.median(inside)) if inside.size else float("nan")
    outline = _outline(inside, outside)
    return (
        Check("The CT is in HU: holds air and tissue", air_and_bone, low < -500 < 0 < high),
        Check("The PET was measured where the body is", f"{coverage:.0%} of the body", coverage >= MIN_COVERAGE),
        _median(median) if pair.is_suv else Check("SUV is plausible", "other unit here: the server looks", ok=True),
        Check("Uptake follows the body's outline", f"{outline:.2f} (chance is 0.50)", outline >= MIN_OUTLINE),
    )


def _median(median: float) -> Check:
    return Check("SUV is plausible", f"median {median:.2f} in the body", MEDIAN_SUV[0] <= median <= MEDIAN_SUV[1])


def _outline(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return how often a voxel of the body has more uptake than one outside it; NaN where one side has no voxel."""
    if not inside.size or not outside.size:
        return float("nan")
    one, other = _spread(inside), np.sort(_spread(outside))
    below = np.searchsorted(other, one, side="left")
    up_to = np.searchsorted(other, one, side="right")
    return float((below + up_to).mean() / (2 * other.size))


def _spread(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, values.size // SAMPLE)]
