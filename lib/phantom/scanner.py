"""Simulation of the scanner: HU and SUVbw of an anatomy on a grid, with blur and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lib.imaging.geometry import Geometry
from lib.phantom.anatomy import Anatomy, Lesion, Wave
from lib.phantom.tissues import TYPICAL, Point, Tissue, grid_axes_mm, paint
from lib.types import BoolArray, FloatArray

CT_BLUR_FWHM_MM = 1.8
FWHM_TO_SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))
MARGIN_SLICES = 3  # painted beyond both ends for the blur
LUNG_SAG_HU = 60.0  # increase of lung density from the centre of the chest to its back
LUNG_SAG_SUV = 0.25  # relative increase of lung uptake
HOLLOW = (Tissue.AIR, Tissue.AIRWAY, Tissue.LUNG)  # excluded from lesions that are not visible on CT
AXES = ((1, 1, -1), (1, -1, 1), (-1, 1, 1))  # x, y, z as columns, rows, slices

Vector = NDArray[np.float64]


def scan_ct(
    anatomy: Anatomy, grid: Geometry, *, origin_mm: Point, noise_hu: float, rng: np.random.Generator
) -> FloatArray:
    """Return integer HU on an axial grid, -1024 to 3071, shape (K, R, C)."""
    labels = paint(anatomy.shapes, grid, origin_mm=origin_mm)
    ct_hu = np.array([TYPICAL[tissue][0] for tissue in Tissue], dtype=np.float32)[labels]
    _, y, _ = grid_axes_mm(grid, origin_mm=origin_mm)
    backwards = (y / anatomy.half_depth_mm).astype(np.float32)[None, :, None]
    ct_hu += np.where(labels == Tissue.LUNG, LUNG_SAG_HU * backwards, np.float32(0))
    _, row_mm, column_mm = grid.spacing_mm
    sigma = (0.0, CT_BLUR_FWHM_MM * FWHM_TO_SIGMA / row_mm, CT_BLUR_FWHM_MM * FWHM_TO_SIGMA / column_mm)
    ct_hu = blur(ct_hu, sigma) + noise_hu * smooth_noise(rng, grid.shape, sigma)
    return np.asarray(np.clip(np.rint(ct_hu), -1024, 3071), dtype=np.float32)


def scan_pet(
    anatomy: Anatomy,
    grid: Geometry,
    *,
    origin_mm: Point,
    psf_fwhm_mm: float,
    noise_suv: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Return SUVbw on an axial grid, at least 0, shape (K, R, C).

    The uptake is painted at half the pixel size, averaged and blurred. The noise is blurred as in a reconstruction,
    with a standard deviation of `noise_suv` x the square root of the uptake.
    """
    slices, rows, columns = grid.shape
    affine = grid.affine.copy()
    affine[:3, 3] -= MARGIN_SLICES * affine[:3, 2]
    padded_grid = Geometry((slices + 2 * MARGIN_SLICES, rows, columns), affine)
    fine = true_uptake(anatomy, padded_grid.with_pixels(2 * rows, 2 * columns), origin_mm=origin_mm)
    sigma = [psf_fwhm_mm * FWHM_TO_SIGMA / spacing for spacing in grid.spacing_mm]
    suv_bw = blur(fine.reshape(padded_grid.shape[0], rows, 2, columns, 2).mean(axis=(2, 4)), sigma)
    # 0.02 represents counts in air from scatter and randoms
    suv_bw += noise_suv * np.sqrt(suv_bw + np.float32(0.02)) * smooth_noise(rng, padded_grid.shape, sigma)
    return np.asarray(np.maximum(suv_bw[MARGIN_SLICES : MARGIN_SLICES + slices], 0), dtype=np.float32)


def true_uptake(anatomy: Anatomy, grid: Geometry, *, origin_mm: Point) -> FloatArray:
    """Return SUVbw at the voxel centres of an axial grid without blur and noise, shape (K, R, C)."""
    labels = paint(anatomy.shapes, grid, origin_mm=origin_mm)
    suv_bw = np.array([anatomy.suv_bw[tissue] for tissue in Tissue], dtype=np.float32)[labels]
    x, y, z = grid_axes_mm(grid, origin_mm=origin_mm)
    backwards = (y / anatomy.half_depth_mm).astype(np.float32)[None, :, None]
    suv_bw *= np.where(labels == Tissue.LUNG, 1 + LUNG_SAG_SUV * backwards, np.float32(1))
    for wave in anatomy.waves:
        suv_bw *= _factor(wave, x, y, z)
    solid = ~np.isin(labels, HOLLOW)
    for lesion in anatomy.lesions:
        suv_bw[_ball(lesion, x, y, z) & solid] = lesion.suv_bw
    return np.asarray(suv_bw, dtype=np.float32)


def blur(array: FloatArray, sigma_voxels: Sequence[float]) -> FloatArray:
    """Return the array blurred by a Gaussian with one sigma per axis and edge padding.

    Sums of shifted arrays, unlike a matrix product, are bit-identical for any number of threads.
    """
    for axis, kernel in enumerate(_kernel(sigma) for sigma in sigma_voxels):
        reach = len(kernel) // 2
        if reach == 0:
            continue
        padded = np.pad(array, [(reach, reach) if i == axis else (0, 0) for i in range(array.ndim)], mode="edge")
        blurred = np.zeros_like(array)
        for shift, weight in enumerate(kernel):
            window = [slice(None)] * array.ndim
            window[axis] = slice(shift, shift + array.shape[axis])
            blurred += np.float32(weight) * padded[tuple(window)]
        array = blurred
    return array


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], sigma_voxels: Sequence[float]) -> FloatArray:
    """Return blurred white noise with standard deviation 1."""
    white = rng.standard_normal(shape, dtype=np.float32)
    gain = np.prod([np.sqrt(np.sum(np.square(_kernel(sigma)))) for sigma in sigma_voxels])
    return np.asarray(blur(white, sigma_voxels) / np.float32(gain))


def _kernel(sigma: float) -> Vector:
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 1e-6)))
    return np.asarray(weights / weights.sum())


def _factor(wave: Wave, x: Vector, y: Vector, z: Vector) -> FloatArray:
    # cos(a + b) = cos a cos b - sin a sin b: cosines only of a slice and of a column
    in_plane = wave.per_mm[0] * x[None, :] + wave.per_mm[1] * y[:, None] + wave.phase
    along = wave.per_mm[2] * z
    field = np.multiply.outer(np.cos(along), np.cos(in_plane)) - np.multiply.outer(np.sin(along), np.sin(in_plane))
    return np.asarray(1 + wave.amplitude * field, dtype=np.float32)


def _ball(lesion: Lesion, x: Vector, y: Vector, z: Vector) -> BoolArray:
    squares = [
        np.square(along - middle).reshape(axis)
        for along, middle, axis in zip((x, y, z), lesion.centre_mm, AXES, strict=True)
    ]
    return np.asarray(squares[0] + squares[1] + squares[2] <= lesion.radius_mm**2)
