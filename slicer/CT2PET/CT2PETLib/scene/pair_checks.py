"""Checks of a CT and a PET of the scene before they are submitted as training pair; the same checks as the server's.

`gather` gets arrays from the scene (main thread), `check` evaluates them (worker thread). The server repeats them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from CT2PETLib.i18n import _
from CT2PETLib.scene import node_attributes, resampling
from CT2PETLib.scene.volume import SceneError, ijk_to_ras, is_suv, voxels

# The server's limits (lib/pairing/quality_checks/plausibility.py), chosen on 36 real pairs
MIN_COVERAGE = 0.75
MIN_OUTLINE = 0.85
MEDIAN_SUV = (0.05, 10.0)
STRIDE = 4  # in-plane sampling in voxels, about the resolution of a PET
MAX_SAMPLES = 20000


@dataclass(frozen=True)
class Check:
    """Result of a check: what was checked, what was found, and whether it passed."""

    question: str
    found: str
    ok: bool


@dataclass(frozen=True)
class PairArrays:
    """Arrays of a pair, and matrices from voxel (i, j, k) to RAS in mm.

    The values of the PET are SUVbw if `is_suv`; otherwise in a unit that is not checked here, such as Bq/mL.
    """

    ct_hu: np.ndarray[Any, Any]
    pet: np.ndarray[Any, Any]
    ct_matrix: np.ndarray[Any, Any]
    pet_matrix: np.ndarray[Any, Any]
    is_suv: bool


def gather(ct: Any, pet: Any) -> PairArrays:
    """Return the arrays of a pair.

    Raises:
        SceneError: One is synthetic, both are the same, or they have different parent transforms.
    """
    for node in (ct, pet):
        if node.GetAttribute(node_attributes.ROLE):
            raise SceneError(
                _("{volume} was created by this module; models are trained on measured images only.").format(
                    volume=node.GetName()
                )
            )
    if ct is pet:
        raise SceneError(
            _("{volume} is chosen as CT and as PET; choose the measured PET of that CT.").format(volume=ct.GetName())
        )
    if ct.GetTransformNodeID() != pet.GetTransformNodeID():
        raise SceneError(
            _("{volume} and the CT have different parent transforms; harden both transforms first.").format(
                volume=pet.GetName()
            )
        )
    return PairArrays(voxels(ct), voxels(pet), ijk_to_ras(ct), ijk_to_ras(pet), is_suv(pet))


def check(pair: PairArrays) -> tuple[Check, ...]:
    """Return the results of all checks; does not use MRML."""
    ct = pair.ct_hu[:, ::STRIDE, ::STRIDE]
    coarse = pair.ct_matrix @ np.diag([STRIDE, STRIDE, 1.0, 1.0])
    pet = resampling.resample(pair.pet, ijk_to_ras=pair.pet_matrix, target_ijk_to_ras=coarse, shape=ct.shape)
    body, measured = resampling.body_mask(ct), np.isfinite(pet)
    low, high = float(ct.min()), float(ct.max())
    hu_range = _("{low:.0f} to {high:.0f} HU").format(low=low, high=high)
    coverage = float((body & measured).sum() / max(1, body.sum()))
    inside, outside = pet[body & measured], pet[~body & measured]
    median = float(np.median(inside)) if inside.size else float("nan")
    outline = _outline(inside, outside)
    return (
        Check(_("CT in HU: contains air and tissue"), hu_range, low < -500 < 0 < high),
        Check(
            _("PET covers the body"),
            _("{percent:.0f} % of the body").format(percent=100 * coverage),
            coverage >= MIN_COVERAGE,
        ),
        _median(median)
        if pair.is_suv
        else Check(_("SUV is plausible"), _("not in SUV: checked by the server"), ok=True),
        Check(
            _("Uptake follows the body outline"),
            _("{outline:.2f} (chance is 0.50)").format(outline=outline),
            outline >= MIN_OUTLINE,
        ),
    )


def _median(median: float) -> Check:
    return Check(
        _("SUV is plausible"),
        _("body median {median:.2f} SUV").format(median=median),
        MEDIAN_SUV[0] <= median <= MEDIAN_SUV[1],
    )


def _outline(inside: np.ndarray[Any, Any], outside: np.ndarray[Any, Any]) -> float:
    """Return the probability that a voxel of the body has more uptake than one outside; NaN if either is empty."""
    if not inside.size or not outside.size:
        return float("nan")
    one, other = _subsample(inside), np.sort(_subsample(outside))
    below = np.searchsorted(other, one, side="left")
    up_to = np.searchsorted(other, one, side="right")
    return float((below + up_to).mean() / (2 * other.size))


def _subsample(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values[:: max(1, values.size // MAX_SAMPLES)]
