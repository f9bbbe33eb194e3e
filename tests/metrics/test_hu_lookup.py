"""The share of a PET that HU alone explains, on values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import InputError
from lib.metrics.baselines import BaselineSample, fit_baselines
from lib.metrics.hu_lookup import LOOKUP_SHARE, hu_share

ALL = np.ones((1, 1, 4), bool)
TWO_TISSUES = np.array([[[-804.0, -804.0, 36.0, 36.0]]], np.float32)


@pytest.mark.parametrize(
    ("suv", "share"),
    [
        ((1, 1, 3, 3), 1.0),  # explained by the tissue
        ((1, 3, 1, 3), 0.0),  # both tissues have a mean of 2
        ((0, 2, 2, 4), 0.5),  # between tissues 4 x 1, in all 4 + 0 + 0 + 4
    ],
)
def test_the_share_of_variance(suv: tuple[float, ...], share: float) -> None:
    assert hu_share(TWO_TISSUES, np.array([[suv]], np.float32), ALL) == pytest.approx(share)


def test_only_voxels_inside_the_mask_are_used() -> None:
    suv = np.array([[[1, 1, 3, 99]]], np.float32)
    assert hu_share(TWO_TISSUES, suv, np.array([[[True, True, True, False]]])) == pytest.approx(1)


def test_lookup_tables_are_recognised_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    ct_hu = rng.uniform(-900, 900, (4, 40, 40)).astype(np.float32)
    inside = np.ones(ct_hu.shape, bool)
    noise = rng.gamma(2, 1, ct_hu.shape).astype(np.float32)
    baselines = fit_baselines([BaselineSample(ct_hu, noise + (ct_hu > 0), inside)])
    for name in ("hu_mean", "hu_median"):
        assert hu_share(ct_hu, baselines.predict(name, ct_hu, inside), inside) > LOOKUP_SHARE
    assert hu_share(ct_hu, noise, inside) < 0.1


@pytest.mark.parametrize("inside", [ALL, ~ALL], ids=["a flat PET", "no voxels"])
def test_the_share_of_a_constant_is_undefined(inside: np.ndarray) -> None:
    assert math.isnan(hu_share(TWO_TISSUES, np.ones((1, 1, 4), np.float32), inside))


def test_different_shapes_are_rejected() -> None:
    with pytest.raises(InputError, match="must have the same shape"):
        hu_share(TWO_TISSUES, np.ones((1, 1, 3), np.float32), ALL)
