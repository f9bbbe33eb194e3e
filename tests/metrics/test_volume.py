"""3D metrics: comparison with MONAI and scikit-image, and voxels that are ignored."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from monai.metrics import SSIMMetric
from monai.metrics.regression import compute_ms_ssim
from skimage.metrics import structural_similarity

import lib.metrics.volume as volume_module
from lib.errors import InputError
from lib.metrics.image import measure_slices
from lib.metrics.volume import measure_volume


def volumes(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball of uptake 1 with a hot spot, a noisy copy, and the ball's mask."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    body = sum(axis**2 for axis in axes) < 0.8
    real = body * (1 + 8 * np.exp(-sum((axis - 0.2) ** 2 for axis in axes) / 0.05))
    synthetic = np.maximum(real + rng.normal(0, 0.4, shape) * body, 0)
    return synthetic.astype(np.float32), real.astype(np.float32), body


def test_ssim_is_monais() -> None:
    synthetic, real, body = volumes((37, 30, 34))  # more slices than one batch, and not a multiple of it
    tensors = torch.as_tensor(synthetic)[None, None], torch.as_tensor(real)[None, None]
    expected = float(SSIMMetric(3, data_range=10.0)(*tensors))
    assert measure_volume(synthetic, real, body).ssim_3d == pytest.approx(expected, abs=1e-5)


def test_ssim_agrees_with_gaussian_scikit_image_over_volume_and_body() -> None:
    synthetic, real, body = volumes((20, 26, 31))
    _, ssim = structural_similarity(
        synthetic.astype(float), real.astype(float), data_range=10, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    inner = (slice(5, -5),) * 3
    found = measure_volume(synthetic, real, body)
    assert found.ssim_3d == pytest.approx(ssim[inner].mean(), abs=1e-9)
    assert found.ssim_body_3d == pytest.approx(ssim[inner][body[inner]].mean(), abs=1e-9)


def test_ms_ssim_is_monais(monkeypatch: pytest.MonkeyPatch) -> None:
    # with two scales: five need 176 slices, for which MONAI's convolution takes minutes
    weights = (0.3, 0.7)
    monkeypatch.setattr(volume_module, "SCALE_WEIGHTS", weights)
    monkeypatch.setattr(volume_module, "MIN_MS_SSIM_PIXELS", 22)
    synthetic, real, body = volumes((24, 27, 30))
    tensors = torch.as_tensor(synthetic)[None, None], torch.as_tensor(real)[None, None]
    expected = float(compute_ms_ssim(*tensors, spatial_dims=3, data_range=10.0, weights=weights))
    assert measure_volume(synthetic, real, body).ms_ssim_3d == pytest.approx(expected, abs=1e-5)


def test_errors_are_those_of_the_slices() -> None:
    synthetic, real, body = volumes((5, 12, 13))
    found, slices = measure_volume(synthetic, real, body), measure_slices(synthetic, real, body, groups=frozenset())
    for name in ("mae_suv", "mse", "psnr_db"):
        assert getattr(found, f"{name}_3d") == pytest.approx(getattr(slices, name))
        assert getattr(found, f"{name}_body_3d") == pytest.approx(getattr(slices, f"{name}_body"))


def test_equal_volumes_are_perfect() -> None:
    _, real, body = volumes((12, 12, 12))
    found = measure_volume(real, real, body)
    assert found.mae_suv_3d == found.mse_body_3d == 0 and found.psnr_db_3d == math.inf
    assert found.ssim_3d == pytest.approx(1) and found.ssim_body_3d == pytest.approx(1)


def test_too_few_slices_have_no_ssim_and_fewer_than_176_no_ms_ssim() -> None:
    found = measure_volume(*volumes((10, 40, 40)))
    assert math.isnan(found.ssim_3d) and math.isnan(found.ssim_body_3d) and math.isnan(found.ms_ssim_3d)
    result = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert result["ssim_3d"] is None and result["mae_suv_3d"] > 0


def test_without_a_body_its_metrics_are_undefined() -> None:
    synthetic, real, body = volumes((12, 12, 12))
    result = measure_volume(synthetic, real, np.zeros_like(body)).as_json()
    assert {name for name, value in result.items() if value is None} == {
        *(name for name in result if "_body" in name), "ms_ssim_3d",
    }  # fmt: skip


def test_unmeasured_voxels_are_ignored() -> None:
    synthetic, real, body = volumes((14, 20, 20))
    measured = np.ones_like(body)
    measured[:, :, 15:] = False
    elsewhere, unknown = synthetic.copy(), np.where(measured, real, np.nan).astype(np.float32)
    elsewhere[~measured] = 99
    assert measure_volume(elsewhere, unknown, body) == measure_volume(synthetic, real, body, measured=measured)


def test_unequal_shapes_are_rejected() -> None:
    synthetic, real, body = volumes((4, 5, 6))
    with pytest.raises(InputError, match=r"real \(3, 5, 6\).*expected one shape \(K, R, C\)"):
        measure_volume(synthetic, real[:3], body)
