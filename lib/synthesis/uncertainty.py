"""The expected absolute error of a synthetic PET, voxel by voxel, in SUV.

It is computed from the synthetic SUV, by a curve fitted on patients that the model was not trained on: the spread over
stages, mirrored CTs or an ensemble predicted the error less well (docs/decisions/0009-uncertainty.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.errors import CheckpointError, InputError
from lib.imaging.orientation import VoxelOrder, canonical_geometry
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.metrics.calibration import Calibration
from lib.metrics.conformal.intervals import Intervals
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer
from lib.types import BoolArray, Progress, no_progress

UNCERTAINTY_DESCRIPTION = (
    "Expected absolute error of the synthetic PET, SUVbw: the mean over voxels of the same synthetic SUV in validation "
    "patients; 0 outside the body, where nothing was fitted. It gives no warning of a lesion that the CT does not show."
)


def apply_with_uncertainty(
    synthesizer: Synthesizer | Ensemble,
    ct: Volume,
    slices: slice | None = None,
    *,
    progress: Progress = no_progress,
) -> tuple[Volume, Volume]:
    """Return the synthetic PET on the CT's grid and the expected absolute error of each voxel, both SUVbw.

    Args:
        synthesizer: Its card must have a calibration; that of an ensemble has none.
        ct: The full CT in HU, also for a slab.
        slices: Slices to synthesise; all by default. A slab equals the same slices of the full volumes.
        progress: Called after every slice.

    Raises:
        CheckpointError: The card has no calibration, or a damaged one.
        InputError: The volume is not in HU, or lacks a requested slice.
    """
    calibration = card_calibration(synthesizer.card)  # fail early
    pet = synthesizer.apply(ct, slices, progress=progress)
    return pet, expected_error(pet, ct, calibration, slices=slices, progress=progress)


def expected_error(
    pet: Volume,
    ct: Volume,
    calibration: Calibration,
    *,
    slices: slice | None = None,
    progress: Progress = no_progress,
) -> Volume:
    """Return the expected absolute error of a synthetic PET, SUVbw, 0 outside the body.

    Args:
        pet: On the CT's grid, or on a slab of it.
        ct: The full CT in HU.
        calibration: Of the model.
        slices: Slices of the CT that the PET covers; all by default.
        progress: Called after every axial slice.
    """
    order = VoxelOrder.of(ct.geometry)
    error_suv = np.zeros(pet.geometry.shape, dtype=np.float32)
    # views: writing in canonical order fills the stored arrays
    pets, errors = order.canonical(pet.array), order.canonical(error_suv)
    for number, (pet_slice, error_slice, body) in enumerate(
        zip(pets, errors, _bodies(ct, order, slices or slice(None)), strict=True), start=1
    ):
        error_slice[body] = calibration.expected_error_suv(pet_slice[body])
        progress(number, len(pets), "estimating errors")
    return Volume(error_suv, pet.geometry, pet.unit)


def mean_expected_error_suv(pet: Volume, ct: Volume, calibration: Calibration) -> float:
    """Return the mean expected absolute error over the body, SUVbw; PET and CT are on one grid.

    Raises:
        InputError: The CT shows no body.
    """
    total, voxels = 0.0, 0
    order = VoxelOrder.of(ct.geometry)
    for pet_slice, body in zip(order.canonical(pet.array), _bodies(ct, order, slice(None)), strict=True):
        total += float(calibration.expected_error_suv(pet_slice[body]).sum(dtype=np.float64))
        voxels += int(body.sum())
    if not voxels:
        raise InputError("the CT shows no body (nothing above -500 HU), so the expected error is undefined")
    return total / voxels


def _bodies(ct: Volume, order: VoxelOrder, slices: slice) -> Iterator[BoolArray]:
    """Yield the body mask of each axial slice of a slab, one at a time to keep memory constant."""
    from lib.imaging.body import body_mask  # needs SimpleITK, which a training machine may lack

    axial, rows, columns = order.box(slices)
    geometry, ct_hu = canonical_geometry(ct.geometry), order.canonical(ct.array)
    for k in range(axial.start, axial.stop):
        one_slice = Volume(np.ascontiguousarray(ct_hu[k : k + 1]), geometry.slab(slice(k, k + 1)), ct.unit)
        yield body_mask(one_slice)[0][rows, columns]


def card_intervals(card: ModelCard) -> Intervals | None:
    """Return the intervals of a model; None where its card has none.

    Raises:
        CheckpointError: They are damaged.
    """
    try:
        return None if card.intervals is None else Intervals.from_json(card.intervals)
    except InputError as error:
        raise CheckpointError(f"the model card of {card.name}: {error}; train the model again") from error


def card_calibration(card: ModelCard) -> Calibration:
    """Return the calibration of a model, fitted on its validation patients.

    Raises:
        CheckpointError: The card has no calibration, or a damaged one.
    """
    if card.calibration is None:
        raise CheckpointError(
            f"the model card of {card.name} carries no calibration, so what error to expect is unknown; give one "
            "model that was trained with validation patients (split.unit patient, split.validation above 0)",
            code="no_calibration",
            model=card.name,
        )
    try:
        return Calibration.from_json(card.calibration)
    except InputError as error:
        raise CheckpointError(f"the model card of {card.name}: {error}; train the model again") from error
