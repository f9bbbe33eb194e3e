"""Rigid registration of a PET to the CT of the same patient by mutual information.

Mattes' mutual information (IEEE TMI 22, 120-128, 2003) in SimpleITK, with every voxel of a 5 mm grid, without random
sampling and in one thread, so that the same volumes give the same result on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.errors import PairingError
from lib.imaging.body import body_mask
from lib.imaging.geometry import Geometry
from lib.imaging.resample import to_sitk
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.rigid import RigidRegistration
from lib.imaging.volume import Volume

FINE_MM = 5.0  # about a PET voxel; finer grids take longer and give the same result
COARSE = 2  # factor of the coarser grid that the search begins on
BINS = 32
STARTS = 3  # number of start positions that are optimised, the best of those tried
STEP_MM = 30.0  # between start positions along the body, if one scan is longer than the other
CT_AIR, CT_BRIGHT = -1000.0, 300.0  # HU; bone and contrast medium are clipped to the same value
PET_BRIGHT = 95.0  # percentile at which uptake is clipped, or a bladder would dominate
PET_BODY = 0.15  # fraction of it above which a voxel counts as body for the start positions
MIN_VOXELS = 4  # along an axis of the coarse grid
SLACK_STEPS_MM = (2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 25.0, 30.0)
# Relative drop of mutual information from which a position counts as distinguishable from the result. On the sarcoma
# patients, positions within it are about as far away as the result is from the headers (docs/decisions/0024).
MIN_INFORMATION_DROP = 0.04
MIN_SHARED = 0.5  # fraction of the shorter scan's length inside the other one; with less, mutual information is noise


def register_rigid(ct: Volume, pet: Volume) -> RigidRegistration:
    """Return the rigid transform that registers a PET to a CT.

    Args:
        ct: HU.
        pet: SUV or activity, NaN where not measured.

    Raises:
        PairingError: A volume is too small or empty, or the two do not overlap anywhere.
    """
    with _one_thread():
        return _register(ct, pet)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run ITK in one thread, for reproducible sums; the metric ignores the number of threads of its method."""
    usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)


def _register(ct: Volume, pet: Volume) -> RigidRegistration:
    fixed_image, moving_image = _ct_image(ct), _pet_image(pet)
    fixed, moving = (sitk.BinShrink(image, _factors(image)) for image in (fixed_image, moving_image))
    for image, name in ((fixed, "CT"), (moving, "PET")):
        if min(image.GetSize()) < MIN_VOXELS:
            raise PairingError(
                f"the {name} is too small for registration: {image.GetSize()} voxels of the coarse grid, expected at "
                f"least {MIN_VOXELS} along each axis"
            )
    centre = _middle(fixed)
    before = _information(fixed_image, moving_image, _transform(centre, np.zeros(3)))
    starts = [(_information(fixed, moving, start), start) for start in _starts(fixed, moving, centre)]
    usable = sorted(((value, n) for n, (value, _) in enumerate(starts) if value is not None), reverse=True)
    if not usable:
        raise PairingError("registration failed: the CT and the PET do not overlap in any position")
    optimised = [_optimised(fixed, moving, starts[n][1]) for _, n in usable[:STARTS]]
    best = max(optimised, key=lambda transform: _information(fixed, moving, transform) or 0.0)
    result = _optimised(fixed_image, moving_image, best)
    after = _information(fixed_image, moving_image, result)
    if after is None:
        raise PairingError("registration failed: the optimiser moved the PET off the CT")
    slack_mm = _slack_mm(fixed_image, moving_image, result, after)
    return _registration(result, pet.geometry, before=before, after=after, slack_mm=slack_mm)


def _ct_image(ct: Volume) -> sitk.Image:
    """Return the CT without table, clipped, on the fine grid."""
    rows, columns = (
        max(1, round(n * mm / FINE_MM)) for n, mm in zip(ct.geometry.shape[1:], ct.geometry.spacing_mm[1:], strict=True)
    )
    geometry = ct.geometry.with_pixels(rows, columns)
    coarse = Volume(resample_in_plane(ct.array, rows, columns), geometry, ct.unit)
    hu = np.where(body_mask(coarse), np.clip(coarse.array, CT_AIR, CT_BRIGHT), CT_AIR).astype(np.float32)
    return _on_grid(to_sitk(Volume(hu, geometry, ct.unit)), CT_AIR)


def _pet_image(pet: Volume) -> sitk.Image:
    """Return the square root of the uptake, 0 to 1, on the fine grid."""
    uptake = np.clip(np.nan_to_num(pet.array), 0, None)
    if not uptake.any():
        raise PairingError("registration failed: the PET is 0 everywhere")
    brightest = float(np.percentile(uptake[uptake > 0], PET_BRIGHT))
    bounded = np.sqrt(np.clip(uptake / brightest, 0, 1)).astype(np.float32)
    return _on_grid(to_sitk(Volume(bounded, pet.geometry, pet.unit)), 0.0)


def _on_grid(image: sitk.Image, outside: float) -> sitk.Image:
    """Return an image on the fine grid; finer images are smoothed first."""
    spacing = np.asarray(image.GetSpacing())
    size = [max(1, round(n * mm / FINE_MM)) for n, mm in zip(image.GetSize(), spacing, strict=True)]
    sigma = [max(1e-3, 0.4 * (FINE_MM**2 - mm**2) ** 0.5 if mm < FINE_MM else 1e-3) for mm in spacing]
    smooth = sitk.SmoothingRecursiveGaussian(image, sigma) if min(image.GetSize()) >= MIN_VOXELS else image
    step = np.asarray(image.GetSize()) * spacing / np.asarray(size)
    shift = np.asarray(image.GetDirection()).reshape(3, 3) @ ((step - spacing) / 2)
    origin = (np.asarray(image.GetOrigin()) + shift).tolist()
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, origin, step.tolist(), image.GetDirection(), outside
    )


def _factors(image: sitk.Image) -> list[int]:
    return [COARSE if n >= COARSE * MIN_VOXELS else 1 for n in image.GetSize()]


def _starts(fixed: sitk.Image, moving: sitk.Image, centre: NDArray[np.float64]) -> Iterable[sitk.Euler3DTransform]:
    """Yield start positions: the headers' coordinates, then body on body at steps along the longer scan."""
    yield _transform(centre, np.zeros(3))
    ct_body = sitk.GetArrayFromImage(fixed) > CT_AIR + 200
    pet_body = sitk.GetArrayFromImage(moving) > PET_BODY**0.5
    ct_centre, pet_centre = _centroid(fixed, ct_body), _centroid(moving, pet_body)
    yield _transform(centre, pet_centre - ct_centre)
    (low, high), (pet_low, pet_high) = _ends(fixed), _ends(moving)
    first, last = sorted((pet_low - low, pet_high - high))
    for z in np.linspace(first, last, int((last - first) // STEP_MM) + 2):
        yield _transform(centre, np.array([*(pet_centre - ct_centre)[:2], z]))


def _centroid(image: sitk.Image, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not mask.any():
        return _middle(image)
    index = np.argwhere(mask).mean(axis=0)[::-1]
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def _middle(image: sitk.Image) -> NDArray[np.float64]:
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _ends(image: sitk.Image) -> tuple[float, float]:
    first = image.TransformIndexToPhysicalPoint((0, 0, 0))[2]
    last = image.TransformIndexToPhysicalPoint((0, 0, image.GetSize()[2] - 1))[2]
    return min(first, last), max(first, last)


def _transform(centre: NDArray[np.float64], translation_mm: NDArray[np.float64]) -> sitk.Euler3DTransform:
    """Return a transform from the CT's frame to the PET's, the direction that ITK's registration uses."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetTranslation(translation_mm.tolist())
    return transform


def _method() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _information(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float | None:
    """Return the mutual information under a transform, in nats; None if the overlap is too small."""
    if _shared_length(fixed, moving, transform) < MIN_SHARED:
        return None
    method = _method()
    method.SetInitialTransform(transform)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:  # no voxel of one is inside the other
        return None


def _shared_length(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Return the fraction of the shorter scan's length that is inside the other one."""
    (low, high), (pet_low, pet_high) = _ends(fixed), _ends(moving)
    z = transform.TransformPoint(_middle(fixed).tolist())[2] - _middle(fixed)[2]
    shared = min(high + z, pet_high) - max(low + z, pet_low)
    return shared / max(min(high - low, pet_high - pet_low), 1e-6)


def _optimised(fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform) -> sitk.Euler3DTransform:
    method = _method()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.01, numberOfIterations=120, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:  # the optimiser left the moving image
        raise PairingError("registration failed: the optimiser moved the PET off the CT") from error
    return transform


def _slack_mm(fixed: sitk.Image, moving: sitk.Image, result: sitk.Euler3DTransform, after: float) -> float:
    """Return how far the PET can be moved along an axis before the mutual information drops."""
    slack = 0.0
    for axis, sign in ((axis, sign) for axis in range(3) for sign in (-1, 1)):
        for distance in SLACK_STEPS_MM:
            moved = sitk.Euler3DTransform(result)
            offset = np.array(result.GetTranslation())
            offset[axis] += sign * distance
            moved.SetTranslation(offset.tolist())
            information = _information(fixed, moving, moved)
            if information is None or information < after * (1 - MIN_INFORMATION_DROP):
                break
            slack = max(slack, distance)
    return slack


def _registration(
    transform: sitk.Euler3DTransform, pet: Geometry, *, before: float | None, after: float, slack_mm: float
) -> RigidRegistration:
    """Return the transform of the PET, the inverse of ITK's result."""
    rotation = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre, offset = np.asarray(transform.GetCenter()), np.asarray(transform.GetTranslation())
    to_pet = np.eye(4)
    to_pet[:3, :3] = rotation
    to_pet[:3, 3] = centre + offset - rotation @ centre
    matrix = np.linalg.inv(to_pet)
    middle = pet.corners_mm().mean(axis=0)
    x, y, z = matrix[:3, :3] @ middle + matrix[:3, 3] - middle
    angle_deg = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    return RigidRegistration(
        matrix=tuple(tuple(float(value) for value in row) for row in matrix),
        translation_mm=(round(float(x), 2), round(float(y), 2), round(float(z), 2)),
        rotation_deg=round(float(angle_deg), 2),
        information_before=None if before is None else round(before, 4),
        information_after=round(after, 4),
        slack_mm=slack_mm,
    )
