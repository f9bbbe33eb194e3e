"""How far a synthetic PET may be off, voxel by voxel: the absolute error to expect, in SUV.

It is read from the synthetic SUV itself, by a curve fitted on patients the model was not trained on: spreads over
stages, mirrored CTs and an ensemble predicted the error less well (docs/decisions/0009-uncertainty.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.errors import CheckpointError, InputError
from lib.imaging.orientation import VoxelOrder, canonical_geometry
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.metrics.calibration import Calibration
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer
from lib.types import BoolArray, Progress, no_progress

UNCERTAINTY_DESCRIPTION = (
    "Absolute error to expect of the synthetic PET, SUVbw, on average over voxels of that synthetic SUV in validation "
    "patients; 0 outside the body, where nothing was fitted. It cannot point at a lesion that the CT does not show."
)


def apply_with_uncertainty(
    synthesizer: Synthesizer | Ensemble,
    ct: Volume,
    slices: slice | None = None,
    *,
    progress: Progress = no_progress,
) -> tuple[Volume, Volume]:
    """Return the synthetic PET on the CT's grid and the absolute error to expect of each of its voxels, both SUVbw.

    Args:
        synthesizer: Its card must carry a calibration; that of an ensemble carries none.
        ct: The whole CT in HU, also when only a slab is wanted.
        slices: Which slices; all when not given. A slab equals the same slices of the whole, in both volumes.
        progress: Told after every slice.

    Raises:
        CheckpointError: The card carries no calibration, or a damaged one.
        InputError: The volume is not in HU, or the slices leave it.
    """
    calibration = card_calibration(synthesizer.card)  # refused before the work, not after it
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
    """Return the absolute error to expect of a synthetic PET, SUVbw, 0 outside the body.

    Args:
        pet: On the CT's grid, or on a slab of it.
        ct: The whole CT in HU.
        calibration: Of the model.
        slices: Which slices of the CT the PET lies on; all when not given.
        progress: Called after every axial slice.
    """
    order = VoxelOrder.of(ct.geometry)
    error_suv = np.zeros(pet.geometry.shape, dtype=np.float32)
    # views: what is written in canonical order lies in the stored one
    pets, errors = order.canonical(pet.array), order.canonical(error_suv)
    for number, (pet_slice, error_slice, body) in enumerate(
        zip(pets, errors, _bodies(ct, order, slices or slice(None)), strict=True), start=1
    ):
        error_slice[body] = calibration.expected_error_suv(pet_slice[body])
        progress(number, len(pets), "expecting errors")
    return Volume(error_suv, pet.geometry, pet.unit)


def mean_expected_error_suv(pet: Volume, ct: Volume, calibration: Calibration) -> float:
    """Return the absolute error to expect of a synthetic PET, SUVbw, mean over the body's voxels; both on one grid.

    Raises:
        InputError: The CT shows no body.
    """
    total, voxels = 0.0, 0
    order = VoxelOrder.of(ct.geometry)
    for pet_slice, body in zip(order.canonical(pet.array), _bodies(ct, order, slice(None)), strict=True):
        total += float(calibration.expected_error_suv(pet_slice[body]).sum(dtype=np.float64))
        voxels += int(body.sum())
    if not voxels:
        raise InputError("the CT shows no body (nothing above -500 HU), so there is no error to expect")
    return total / voxels


def _bodies(ct: Volume, order: VoxelOrder, slices: slice) -> Iterator[BoolArray]:
    """Yield where each axial slice of a slab shows the body; slice by slice, so that memory stays flat."""
    from lib.imaging.body import body_mask  # needs SimpleITK, which a machine that only trains may lack

    axial, rows, columns = order.box(slices)
    geometry, ct_hu = canonical_geometry(ct.geometry), order.canonical(ct.array)
    for k in range(axial.start, axial.stop):
        of_slice = Volume(np.ascontiguousarray(ct_hu[k : k + 1]), geometry.slab(slice(k, k + 1)), ct.unit)
        yield body_mask(of_slice)[0][rows, columns]


def card_calibration(card: ModelCard) -> Calibration:
    """Return what a model's validation patients told of its errors.

    Raises:
        CheckpointError: The card has no calibration, or a damaged one.
    """
    if card.calibration is None:
        raise CheckpointError(
            f"the model card of {card.name} carries no calibration, so what error to expect is unknown; give one "
            "model that was trained with validation patients (split.unit patient, split.validation above 0)"
        )
    try:
        return Calibration.from_json(card.calibration)
    except InputError as error:
        raise CheckpointError(f"the model card of {card.name}: {error}; train it again") from error
