"""Organ means and the baseline `organ_median`, with numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import InputError
from lib.imaging.label_map import Organs
from lib.metrics.organs import MIN_VOXELS, OrganBaseline, OrganSample, fit_organ_baseline, organ_means

ROW = 40  # voxels


def sample(*rows: tuple[int, float], names: tuple[str, ...] = ("liver", "spleen")) -> OrganSample:
    """One row of voxels per (label, SUV); all are inside the body."""
    labels = np.array([[[label] * ROW for label, _ in rows]], np.uint16)
    suv_bw = np.array([[[suv] * ROW for _, suv in rows]], np.float32)
    return OrganSample(suv_bw, np.ones(labels.shape, np.bool_), Organs(labels, names))


def test_the_median_is_over_the_voxels_of_all_volumes() -> None:
    first, second = sample((1, 2.0), (1, 3.0), (2, 1.0)), sample((2, 4.0), (1, 9.0), names=("spleen", "liver"))
    fitted = fit_organ_baseline([first, second])
    # liver: two rows of the first volume, one of the second (4.0): median 3; spleen: 1 and 9: halfway
    assert fitted is not None and fitted.suv_by_organ == {"liver": 3.0, "spleen": 5.0}
    assert fitted.volumes_by_organ == {"liver": 2, "spleen": 2}


def test_unmeasured_voxels_air_and_tiny_organs_are_not_counted() -> None:
    one = sample((1, 2.0), (1, 5.0), (2, 1.0))
    one.suv_bw[0, 1] = np.nan
    one.body[0, 2, MIN_VOXELS - 1 :] = False
    fitted = fit_organ_baseline([one])
    assert fitted is not None and fitted.suv_by_organ == {"liver": 2.0}
    one.body[:] = False
    assert fit_organ_baseline([one]) is None and fit_organ_baseline([]) is None


def test_the_baseline_fills_known_organs_of_the_body_only() -> None:
    one = sample((1, 0.0), (2, 0.0), (0, 0.0))
    one.body[0, :, 0] = False
    other = np.full(one.suv_bw.shape, 0.5, np.float32)
    found = OrganBaseline({"liver": 2.0, "kidney": 9.0}, {}).predict(other, one.organs, one.body)
    assert found[0, :, 0].tolist() == [0, 0, 0]
    assert found[0, :, 1].tolist() == [2.0, 0.5, 0.5]  # no training patient has a spleen


def test_the_baseline_survives_a_model_card() -> None:
    one = OrganBaseline({"liver": 2.12345}, {"liver": 3})
    assert OrganBaseline.from_json(one.to_json()) == OrganBaseline({"liver": 2.1235}, {"liver": 3})
    for broken in (
        {},
        {"suv_by_organ": {"liver": "x"}, "volumes_by_organ": {}},
        {"suv_by_organ": {"liver": float("inf")}, "volumes_by_organ": {}},
        {"suv_by_organ": [1], "volumes_by_organ": {}},
    ):
        with pytest.raises(InputError, match="organ baseline"):
            OrganBaseline.from_json(broken)


def test_means_are_over_the_measured_voxels_of_each_organ() -> None:
    one = sample((1, 2.0), (2, 1.0), (0, 7.0))
    one.body[0, 0, :5] = False
    found = organ_means({"real": one.suv_bw, "model": one.suv_bw + 1}, one.organs, one.body)
    assert found == {"liver": (35, {"real": 2.0, "model": 3.0}), "spleen": (40, {"real": 1.0, "model": 2.0})}
    one.body[0, 1, MIN_VOXELS - 1 :] = False
    assert list(organ_means({"real": one.suv_bw}, one.organs, one.body)) == ["liver"]


def test_different_shapes_are_refused() -> None:
    one = sample((1, 2.0))
    with pytest.raises(InputError, match="must have the same shape"):
        OrganSample(one.suv_bw[:, :, :3], one.body, one.organs)
