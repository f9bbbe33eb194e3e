"""VIF of known pairs, and agreement with independent implementations."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from lib.metrics.vif import visual_information_fidelity


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of blobs over a flat background, and noisy copies."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :80]
    real = np.zeros((3, 1, 64, 80))
    for image in real[:, 0]:
        for _ in range(6):
            r, c, size = rng.uniform(12, 52), rng.uniform(12, 68), rng.uniform(3, 9)
            image += rng.uniform(20, 200) * np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / (2 * size**2))
    real[real < 1] = 0
    synthetic = np.maximum(0.8 * real + rng.normal(0, 6, real.shape), 0)
    return torch.as_tensor(synthetic), torch.as_tensor(real)


def vif_by_hand(synthetic: np.ndarray, real: np.ndarray) -> float:
    """The published algorithm in numpy and scipy, one image, written from the paper's equations alone."""

    def smooth(image: np.ndarray, window: int) -> np.ndarray:
        x = np.arange(window) - window // 2
        g = np.exp(-(x**2) / (2 * (window / 5) ** 2))
        g /= g.sum()
        half = window // 2
        return correlate1d(correlate1d(image, g, axis=0), g, axis=1)[half:-half, half:-half]

    kept = available = 0.0
    for scale in range(1, 5):
        window = 2 ** (5 - scale) + 1
        if scale > 1:
            synthetic, real = smooth(synthetic, window)[::2, ::2], smooth(real, window)[::2, ::2]
        mean_s, mean_r = smooth(synthetic, window), smooth(real, window)
        var_s = np.maximum(smooth(synthetic**2, window) - mean_s**2, 0)
        var_r = np.maximum(smooth(real**2, window) - mean_r**2, 0)
        covariance = smooth(synthetic * real, window) - mean_s * mean_r
        for s2, r2, c in zip(var_s.ravel(), var_r.ravel(), covariance.ravel(), strict=True):
            if r2 >= 1e-10:
                available += np.log10(1 + r2 / 2)
                if c > 0 and s2 >= 1e-10:
                    gain = c / (r2 + 1e-10)
                    kept += np.log10(1 + gain**2 * r2 / (max(s2 - gain * c, 1e-10) + 2))
    return kept / available


def test_vif_of_equal_images_is_one(pair) -> None:
    np.testing.assert_allclose(visual_information_fidelity(pair[1], pair[1]), 1, atol=1e-9)


def test_vif_of_a_blank_image_is_zero(pair) -> None:
    np.testing.assert_allclose(visual_information_fidelity(torch.zeros_like(pair[1]), pair[1]), 0, atol=1e-9)


def test_vif_of_more_contrast_is_above_one(pair) -> None:
    assert (visual_information_fidelity(pair[1] * 1.5, pair[1]) > 1).all()


def test_vif_falls_with_noise(pair) -> None:
    noise = torch.as_tensor(np.random.default_rng(1).normal(0, 1, pair[1].shape))
    values = [visual_information_fidelity(pair[1] + sigma * noise, pair[1]).mean() for sigma in (0, 2, 5, 20)]
    assert values == sorted(values, reverse=True)


def test_vif_of_a_flat_real_image_is_undefined(pair) -> None:
    assert visual_information_fidelity(pair[0], torch.full_like(pair[1], 7.0)).isnan().all()


def test_vif_agrees_with_the_equations(pair) -> None:
    expected = [vif_by_hand(s[0].numpy(), r[0].numpy()) for s, r in zip(*pair, strict=True)]
    np.testing.assert_allclose(visual_information_fidelity(*pair), expected, rtol=1e-6)


def test_vif_agrees_with_torchmetrics(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file itself, without the package around it, which imports torchvision; its one import is replaced.
    package = importlib.util.find_spec("torchmetrics")
    if package is None or package.origin is None:
        pytest.skip("torchmetrics is not installed")
    placeholder = types.ModuleType("torchmetrics.utilities.data")
    placeholder.dim_zero_cat = lambda x: x  # type: ignore[attr-defined]
    for name in ("torchmetrics", "torchmetrics.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, placeholder.__name__, placeholder)
    source = Path(package.origin).parent / "functional" / "image" / "vif.py"
    spec = importlib.util.spec_from_file_location("torchmetrics_vif", source)
    torchmetrics_vif = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(torchmetrics_vif)
    theirs = torchmetrics_vif.visual_information_fidelity(*pair, reduction="none")
    np.testing.assert_allclose(visual_information_fidelity(*pair), theirs, rtol=1e-6)
