"""Image metrics: values computed by hand, comparison with MONAI and scikit-image, and voxels that are ignored."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric, SSIMMetric
from skimage.metrics import structural_similarity

from lib.errors import InputError
from lib.metrics.image import ImageMetrics, library_versions, mean_metrics, measure_slices

ERRORS_ONLY: frozenset = frozenset()


def volumes(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A body of uptake 1 with a hot spot, a noisy copy, and the body's mask."""
    rng = np.random.default_rng(seed)
    _, r, c = shape
    y, x = np.mgrid[:r, :c]
    body = np.broadcast_to(((y - r / 2) / (0.4 * r)) ** 2 + ((x - c / 2) / (0.35 * c)) ** 2 < 1, shape).copy()
    spot = 6 * np.exp(-((y - 0.4 * r) ** 2 + (x - 0.55 * c) ** 2) / 30)
    real = (body * (1 + spot)).astype(np.float32)
    synthetic = np.maximum(real + rng.normal(0, 0.4, shape) * body, 0).astype(np.float32)
    return synthetic, real, body


def test_errors_computed_by_hand() -> None:
    synthetic = np.array([[[1, 2, 0, 5]]], dtype=np.float32)
    real = np.array([[[1, 4, 1, 5]]], dtype=np.float32)
    body = np.array([[[True, True, False, True]]])
    found = measure_slices(synthetic, real, body, groups=ERRORS_ONLY)
    assert found.mae_suv == pytest.approx((0 + 2 + 1 + 0) / 4)
    assert found.mse == pytest.approx((0 + 4 + 1 + 0) / 4)
    assert found.psnr_db == pytest.approx(10 * math.log10(100 / 1.25))
    assert found.mae_suv_body == pytest.approx(2 / 3)
    assert found.mse_body == pytest.approx(4 / 3)
    assert found.psnr_db_body == pytest.approx(18.7506, abs=1e-4)  # 10 log10(75)
    assert found.bias_suv_body == pytest.approx(-2 / 3)
    # inside, thirds from the mean: -5 -2 7 and -7 2 5; products 35 - 4 + 35 = 66, squares 78 each
    assert found.correlation_body == pytest.approx(66 / 78)


def test_the_psnr_range_is_fixed_whatever_the_images_hold() -> None:
    body = np.ones((1, 2, 2), dtype=bool)
    for hottest in (1.0, 40.0):
        real = np.full((1, 2, 2), hottest, dtype=np.float32)
        found = measure_slices(real + 1, real, body, groups=ERRORS_ONLY)
        assert found.psnr_db == pytest.approx(20.0)  # an error of 1 SUV in a range of 10


def test_a_diverged_pet_has_infinite_error() -> None:
    _, real, body = volumes((3, 48, 48))
    with np.errstate(over="ignore"):  # 1e30 squared overflows float32
        found = measure_slices(np.full_like(real, 1e30), real, body)
    assert (found.mse, found.psnr_db, found.as_json()["psnr_db"]) == (math.inf, -math.inf, None)


def test_equal_images_are_perfect() -> None:
    _, real, body = volumes((3, 180, 176))
    found = measure_slices(real, real, body)
    assert found.mae_suv == found.mse == found.bias_suv_body == 0
    assert found.psnr_db == found.psnr_db_body == math.inf
    for name in ("ssim", "ssim_body", "ms_ssim", "ms_ssim_body", "vif", "vif_body", "correlation_body"):
        assert getattr(found, name) == pytest.approx(1, abs=1e-6), name


def test_ssim_and_ms_ssim_are_monais() -> None:
    synthetic, real, body = volumes((3, 180, 180))
    found = measure_slices(synthetic, real, body, groups=frozenset({"ssim", "ms_ssim"}))
    tensors = torch.as_tensor(synthetic)[:, None], torch.as_tensor(real)[:, None]
    assert found.ssim == pytest.approx(float(SSIMMetric(2, data_range=10.0)(*tensors).mean()), abs=1e-6)
    assert found.ms_ssim == pytest.approx(float(MultiScaleSSIMMetric(2, data_range=10.0)(*tensors).mean()), abs=1e-6)
    assert math.isnan(found.vif)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((3, 200, 190), slice(0, 7), slice(180, 190)),  # in a corner
        ((3, 200, 190), slice(60, 61), slice(31, 120)),
        ((2, 60, 75), slice(0, 60), slice(0, 75)),  # padded
        ((2, 60, 75), slice(20, 30), slice(40, 41)),
    ],
)
def test_ms_ssim_of_sparse_slices_is_monais(shape: tuple[int, int, int], rows: slice, columns: slice) -> None:
    """Only the surroundings of uptake are computed; MONAI computes all of the padded slice."""
    rng, images = np.random.default_rng(2), np.zeros((2, *shape), dtype=np.float32)
    images[0, :, rows, columns] = rng.gamma(1, 1, images[0, :, rows, columns].shape)
    images[1, 1:, rows, columns] = rng.gamma(1, 1, images[1, 1:, rows, columns].shape)  # the first slice has none
    found = measure_slices(images[0], images[1], np.zeros(shape, dtype=bool), groups=frozenset({"ms_ssim"}))
    around = [((length := max(0, 176 - size)) // 2, length - length // 2) for size in shape[1:]]
    padded = (torch.as_tensor(np.pad(image, ((0, 0), *around)))[:, None] for image in images)
    assert found.ms_ssim == pytest.approx(float(MultiScaleSSIMMetric(2, data_range=10.0)(*padded).mean()), abs=1e-6)
    empty = measure_slices(images[0] * 0, images[1] * 0, images[0] > 9, groups=frozenset({"ms_ssim"}))
    assert empty.ms_ssim == 1


def test_ssim_agrees_with_gaussian_scikit_image_over_slice_and_body() -> None:
    synthetic, real, body = volumes((2, 60, 70))
    found = measure_slices(synthetic, real, body, groups=frozenset({"ssim"}))
    maps = np.stack(
        [
            structural_similarity(
                s, r, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=10.0, full=True
            )[1]
            for s, r in zip(synthetic.astype(float), real.astype(float), strict=True)
        ]
    )[:, 5:-5, 5:-5]
    assert found.ssim == pytest.approx(maps.mean(), abs=1e-5)
    assert found.ssim_body == pytest.approx(maps[body[:, 5:-5, 5:-5]].mean(), abs=1e-5)


def test_an_empty_image_scores_well_only_outside_the_body() -> None:
    _, real, body = volumes((2, 180, 180))
    body[:, :80] = False  # most of the slice is background, as in a real PET
    real[~body] = 0
    found = measure_slices(np.zeros_like(real), real, body)
    assert found.ssim > 0.6 > 0.35 > found.ssim_body
    assert found.vif == pytest.approx(0, abs=1e-9)


def test_unmeasured_voxels_are_ignored() -> None:
    synthetic, real, body = volumes((4, 60, 60))
    measured = np.ones_like(body)
    measured[:, :, 40:] = False
    measured[3] = False
    expected = measure_slices(synthetic, real, body, measured=measured)
    spoiled = np.where(measured, synthetic, np.float32(99))
    assert measure_slices(spoiled, real, body, measured=measured) == expected
    outside_is_nan = np.where(measured, real, np.float32(np.nan))
    assert measure_slices(synthetic, outside_is_nan, body, measured=measured) == replace(expected)
    assert measure_slices(synthetic, outside_is_nan, body) == expected  # NaN marks it without a mask
    assert expected.mae_suv == pytest.approx(np.abs(synthetic - real)[measured].mean(), rel=1e-5)
    three = measure_slices(synthetic[:3], real[:3], body[:3], measured=measured[:3])
    assert (expected.ssim, expected.vif, expected.ssim_body) == (three.ssim, three.vif, three.ssim_body)


def test_voxels_outside_the_body_do_not_affect_its_metrics() -> None:
    synthetic, real, body = volumes((2, 180, 180))
    hot_air = np.where(body, synthetic, np.float32(3))
    one, other = measure_slices(synthetic, real, body), measure_slices(hot_air, real, body)
    for name in (
        "mae_suv_body",
        "mse_body",
        "psnr_db_body",
        "ms_ssim_body",
        "vif_body",
        "correlation_body",
        "bias_suv_body",
    ):
        assert getattr(one, name) == getattr(other, name), name
    assert other.mae_suv > one.mae_suv


def test_many_slices_give_the_same_metrics_as_their_parts() -> None:
    synthetic, real, body = volumes((35, 48, 48))  # three batches of at most 16
    full = measure_slices(synthetic, real, body)
    each = [measure_slices(synthetic[k : k + 1], real[k : k + 1], body[k : k + 1]) for k in range(35)]
    assert full.ssim == pytest.approx(np.mean([x.ssim for x in each]), abs=1e-6)
    assert full.vif == pytest.approx(np.mean([x.vif for x in each]), abs=1e-9)
    assert full.mse == pytest.approx(np.mean([x.mse for x in each]), rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "defined"),
    [
        ((1, 176, 176), {"ssim", "ms_ssim", "vif"}),
        ((1, 41, 41), {"ssim", "ms_ssim", "vif"}),
        ((1, 40, 60), {"ssim", "ms_ssim"}),
        ((1, 10, 60), set()),
    ],
)
def test_metrics_are_undefined_for_images_that_are_too_small(shape, defined) -> None:
    synthetic, real, body = volumes(shape)
    found = measure_slices(synthetic, real, body)
    assert {name for name in ("ssim", "ms_ssim", "vif") if not math.isnan(getattr(found, name))} == defined
    assert found.mae_suv > 0


def test_a_slice_too_small_for_five_scales_is_zero_padded() -> None:
    synthetic, real, body = volumes((2, 60, 75))
    around = ((0, 0), (58, 58), (50, 51))
    wide = [np.pad(array, around) for array in (synthetic, real, body)]
    found, expected = (
        measure_slices(*arrays, groups=frozenset({"ms_ssim"})) for arrays in ((synthetic, real, body), wide)
    )
    assert (found.ms_ssim, found.ms_ssim_body) == (expected.ms_ssim, expected.ms_ssim_body)
    assert 0.9 < found.ms_ssim < 0.999


def test_the_metrics_of_an_empty_body_are_undefined() -> None:
    synthetic, real, body = volumes((2, 60, 60))
    found = measure_slices(synthetic, real, np.zeros_like(body))
    undefined = {name for name, value in found.as_json().items() if value is None}
    assert {name for name in found.as_json() if "_body" in name} <= undefined
    assert found.ssim < 1


def test_a_constant_has_no_correlation() -> None:
    _, real, body = volumes((1, 20, 20))
    assert math.isnan(measure_slices(np.ones_like(real), real, body, groups=ERRORS_ONLY).correlation_body)


def test_json_holds_numbers_or_null() -> None:
    _, real, body = volumes((1, 60, 60))
    card = measure_slices(real, real, body).as_json()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["psnr_db"] is None and card["ms_ssim"] == 1 and card["mae_suv"] == 0


def test_the_mean_ignores_undefined_values() -> None:
    synthetic, real, body = volumes((1, 60, 60))
    one = measure_slices(synthetic, real, body, groups=ERRORS_ONLY)
    first = replace(one, mae_suv=1.0, vif=math.nan, ssim=0.5)
    second = replace(one, mae_suv=3.0, vif=0.4, ssim=math.nan)
    mean = mean_metrics([first, second])
    assert (mean.mae_suv, mean.vif, mean.ssim) == (2.0, 0.4, 0.5)
    assert math.isnan(mean.ms_ssim)
    assert all(math.isnan(value) for value in vars(mean_metrics([])).values())


@pytest.mark.parametrize("which", [0, 1, 2])
def test_different_shapes_are_rejected(which: int) -> None:
    arrays = list(volumes((2, 20, 20)))
    arrays[which] = arrays[which][:1]
    with pytest.raises(InputError, match=r"expected one shape \(K, R, C\)"):
        measure_slices(*arrays, measured=np.ones((2, 20, 20), dtype=bool))


def test_an_unknown_metric_is_named_in_the_error() -> None:
    with pytest.raises(InputError, match=r"unknown metrics fid; expected any of ms_ssim, ssim, vif"):
        measure_slices(*volumes((1, 20, 20)), groups=frozenset({"fid"}))


def test_library_versions_name_the_implementation_of_each_metric() -> None:
    versions = library_versions()
    assert versions["ssim"].startswith("monai 1.") and versions["torch"] == torch.__version__
    assert "ct2pet" in versions["vif"]
    assert {"ssim", "ms_ssim", "vif", "ssim_3d", "ms_ssim_3d"} <= set(versions)


def test_precision_settings_are_restored() -> None:
    before = torch.backends.cudnn.conv.fp32_precision
    measure_slices(*volumes((1, 20, 20)))
    assert torch.backends.cudnn.conv.fp32_precision == before
    assert isinstance(torch.backends.cudnn.allow_tf32, bool)  # reading the older setting does not raise


@pytest.mark.gpu
def test_a_gpu_gives_the_same_metrics() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    arrays = volumes((4, 180, 180))
    on_cpu, on_gpu = measure_slices(*arrays), measure_slices(*arrays, device="cuda")
    for name, value in vars(on_cpu).items():
        assert getattr(on_gpu, name) == pytest.approx(value, abs=1e-5), name


def test_every_contract_name_is_there() -> None:
    names = set(ImageMetrics.__dataclass_fields__)
    for name in ("mae_suv", "psnr_db", "ssim", "ms_ssim", "vif", "mse"):  # DESIGN: `evaluate --json`
        assert {name, f"{name}_body"} <= names
