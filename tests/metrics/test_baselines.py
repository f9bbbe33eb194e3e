"""Baselines, fitted on voxels few enough to count by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lib.errors import InputError
from lib.metrics.baselines import BASELINE_NAMES, Baselines, BaselineSample, fit_baselines


def sample(voxels: list[tuple[float, float]], outside: int = 0) -> BaselineSample:
    """One row of (HU, SUV) voxels in the body, and hot voxels outside it, which must be ignored."""
    ct_hu = np.array([[[hu for hu, _ in voxels] + [0.0] * outside]], dtype=np.float32)
    suv_bw = np.array([[[suv for _, suv in voxels] + [9.0] * outside]], dtype=np.float32)
    body = np.array([[[True] * len(voxels) + [False] * outside]])
    return BaselineSample(ct_hu, suv_bw, body)


@pytest.fixture
def fitted() -> Baselines:
    """Lung at -804 (bin -804 to -794) and soft tissue at 36 (bin 36 to 46), from two patients."""
    first = sample([(-804, 0.3), (-800, 0.5), (36, 1.0), (40, 2.0)], outside=5)
    second = sample([(-795, 1.0), (45, 9.0), (45.9, 4.0)])
    return fit_baselines([first, second])


def predicted(baselines: Baselines, name: str, *ct_hu: float) -> list[float]:
    array = np.array([[ct_hu]], dtype=np.float32)
    return baselines.predict(name, array, np.ones(array.shape, dtype=bool)).ravel().tolist()


def test_the_order_of_names() -> None:
    assert BASELINE_NAMES == ("zero", "constant", "hu_mean", "hu_median")


def test_constant_is_the_median_of_all_bodies(fitted: Baselines) -> None:
    assert fitted.constant_suv == 1.0  # of 0.3 0.5 1 1 2 4 9
    assert predicted(fitted, "constant", -800, 0, 3000) == [1, 1, 1]


def test_means_and_medians_by_hu(fitted: Baselines) -> None:
    assert predicted(fitted, "hu_mean", -800, 40) == pytest.approx([0.6, 4.0])  # 1.8 / 3 and 16 / 4
    assert predicted(fitted, "hu_median", -800, 40) == pytest.approx([0.5, 3.0])  # of 1 2 4 9: between 2 and 4


def test_zero_is_zero(fitted: Baselines) -> None:
    assert predicted(fitted, "zero", -800, 40) == [0, 0]


def test_empty_bins_take_the_nearest_filled_one(fitted: Baselines) -> None:
    # bins 22 (-804) and 106 (36) are filled; bin 64 (-384 to -374) is as far from both and takes the lower
    assert predicted(fitted, "hu_mean", -2000, -900, -380, -373, 900, 5000) == pytest.approx([0.6] * 3 + [4.0] * 3)


def test_bins_begin_at_their_lower_edge() -> None:
    baselines = fit_baselines([sample([(-1024, 1.0), (-1014, 2.0), (-1014.01, 3.0)])])
    assert baselines.hu_bin_edges[:3].tolist() == [-1024, -1014, -1004]
    assert predicted(baselines, "hu_mean", -1014.5, -1014, -1004.5) == pytest.approx([2.0, 2.0, 2.0])
    assert predicted(baselines, "hu_median", -1020, -1010) == pytest.approx([2.0, 2.0])


def test_hu_outside_the_range_are_counted_in_the_outermost_bins() -> None:
    baselines = fit_baselines([sample([(-3024, 1.0), (3071, 5.0)])])
    assert predicted(baselines, "hu_median", -1024, -3024, 1499, 3071) == pytest.approx([1, 1, 5, 5])


def test_every_baseline_is_zero_outside_the_body(fitted: Baselines) -> None:
    ct_hu = np.full((2, 3, 4), 40, dtype=np.float32)
    body = np.zeros(ct_hu.shape, dtype=bool)
    body[0, 1, 2] = True
    for name in BASELINE_NAMES:
        suv_bw = fitted.predict(name, ct_hu, body)
        assert suv_bw.dtype == np.float32 and suv_bw.shape == (2, 3, 4)
        assert not suv_bw[~body].any()


def test_unmeasured_voxels_are_ignored() -> None:
    baselines = fit_baselines([sample([(40, 2.0), (40, float("nan")), (40, 4.0)])])
    assert predicted(baselines, "hu_mean", 40) == pytest.approx([3.0])


def test_medians_are_exact_to_half_a_step() -> None:
    rng = np.random.default_rng(0)
    suv = rng.gamma(2, 1.5, 10_001)
    baselines = fit_baselines([sample([(40, x) for x in suv])])
    assert baselines.constant_suv == pytest.approx(np.median(suv), abs=0.0051)
    assert predicted(baselines, "hu_mean", 40) == pytest.approx([suv.mean()], abs=1e-3)


def test_samples_are_read_one_at_a_time() -> None:
    alive = []

    def stream():
        for _ in range(3):
            alive.append(True)
            yield sample([(40, 1.0)])

    assert fit_baselines(stream()).constant_suv == 1.0
    assert len(alive) == 3


def test_order_of_patients_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    samples = [sample([(hu, suv) for hu, suv in rng.uniform((-1000, 0), (200, 8), (50, 2))]) for _ in range(4)]
    one, other = fit_baselines(samples), fit_baselines(reversed(samples))
    assert one.to_json() == other.to_json()


def test_json_round_trip(fitted: Baselines) -> None:
    card = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
    again = Baselines.from_json(card)
    ct_hu = np.linspace(-1200, 1600, 500, dtype=np.float32).reshape(5, 10, 10)
    body = np.ones(ct_hu.shape, dtype=bool)
    for name in BASELINE_NAMES:
        np.testing.assert_array_equal(again.predict(name, ct_hu, body), fitted.predict(name, ct_hu, body))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "expected"),
        ({"constant_suv": "high"}, "not numbers"),
        ({"mean_suv_by_hu": [1.0]}, "1 means and"),
        ({"mean_suv_by_hu": [[1.0]]}, "plain lists"),
        ({"median_suv_by_hu": [float("nan")]}, "finite"),
        ({"hu_bin_edges": [3.0, 2.0], "mean_suv_by_hu": [1.0], "median_suv_by_hu": [1.0]}, "must be increasing"),
    ],
)
def test_a_damaged_card_is_rejected(fitted: Baselines, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Baselines.from_json({**fitted.to_json(), **change})


def test_a_card_without_a_key_is_rejected(fitted: Baselines) -> None:
    card = fitted.to_json()
    del card["constant_suv"]
    with pytest.raises(InputError, match="expected"):
        Baselines.from_json(card)


def test_no_voxel_is_rejected() -> None:
    with pytest.raises(InputError, match="no voxel inside a body"):
        fit_baselines([sample([], outside=3)])


def test_an_unknown_name_is_rejected(fitted: Baselines) -> None:
    with pytest.raises(InputError, match="unknown baseline 'best'; expected one of zero, constant"):
        predicted(fitted, "best", 0)


def test_unequal_shapes_are_rejected() -> None:
    with pytest.raises(InputError, match="must have the same shape"):
        BaselineSample(np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 2), bool))
