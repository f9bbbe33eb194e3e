"""Differences of two PETs as a map over the CT, against the server's files."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page

from lib.imaging.volume import Volume
from tests.viewer.chromium import WatchedPage, wait_until
from tests.viewer.views import PLANES, VOXELS, go_to, pixels, saturation, set_range, value

pytestmark = [pytest.mark.server, pytest.mark.slow]


def differences(volumes: dict[str, Volume]) -> np.ndarray:
    """Return the synthetic minus the measured PET, nearest voxel by nearest voxel; NaN where none was measured."""
    synthetic, real = volumes["synthetic"], volumes["real"]
    indices = np.indices(synthetic.array.shape).reshape(3, -1).T[:, ::-1]
    points = synthetic.geometry.to_world(indices.astype(np.float64))
    column, row, k = np.rint(real.geometry.to_voxel(points)).astype(int).T
    slices, rows, columns = real.array.shape
    inside = (k >= 0) & (k < slices) & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    measured = np.full(len(indices), np.nan)
    measured[inside] = real.array[k[inside], row[inside], column[inside]]
    return synthetic.array - measured.reshape(synthetic.array.shape)


def signs_drawn(page: Page) -> np.ndarray:
    """Return 1 where the axial view is orange, -1 where it is blue, 0 elsewhere, of the middle 32 x 32 voxels of 64."""
    found = pixels(page, "axial", share=0.5)
    centres = ((np.arange(32) + 0.5) / 32 * len(found)).astype(int)
    red, _, blue = np.moveaxis(found[np.ix_(centres, centres)], -1, 0)
    return np.where(np.abs(red - blue) > 15, np.sign(red - blue), 0)


def test_the_difference_map_is_the_synthetic_minus_the_measured_pet(
    opened: WatchedPage, volumes: dict[str, Volume]
) -> None:
    page, expected = opened.page, differences(volumes)
    before = [page.inner_text(f"#at-{name}") for name in ("ct", "synthetic", "real")]
    page.get_by_label("Difference from the measured PET").check()
    assert [page.inner_text(f"#at-{name}") for name in ("ct", "real")] == [before[0], before[2]]
    assert page.inner_text("#view-axial .label") == "SYNTHETIC MINUS MEASURED PET - NOT FOR DIAGNOSIS"
    assert page.inner_text("#view-projection .plane") == "Projection, largest difference"
    for column, row, k in VOXELS:
        go_to(page, (column, row, k))
        assert value(page, "difference") == pytest.approx(float(expected[k, row, column]), abs=1e-5)
    k = 12
    go_to(page, (30, 34, k))
    set_range(page, "opacity", 100)
    for threshold in (0.3, 1.0):
        set_range(page, "threshold", threshold)
        page.wait_for_timeout(500)
        signs = np.sign(expected[k]) * (np.abs(expected[k]) >= threshold)
        assert np.mean(signs_drawn(page) == signs[16:48, 16:48]) > 0.95, threshold
    set_range(page, "threshold", 10)
    page.wait_for_timeout(500)
    for plane in (*PLANES, "projection"):
        assert np.mean(saturation(pixels(page, plane)) > 30) < 0.01, plane
    for name, number in (("opacity", 50), ("threshold", 0.3)):
        set_range(page, name, number)
    page.get_by_label("Synthetic: unet version 2").check()
    assert page.inner_text("#at-difference") == ""


def test_two_versions_are_subtracted(opened: WatchedPage) -> None:
    page = opened.page
    page.select_option("#compare", "unet/1")
    wait_until(page, "document.getElementById('progress').textContent === 'unet version 1: complete'")
    page.get_by_label("Difference from unet version 1").check()
    for voxel in VOXELS:
        go_to(page, voxel)
        assert value(page, "difference") == pytest.approx(value(page, "synthetic") - value(page, "other"), abs=1e-5)
    assert page.inner_text("#view-axial .label") == "DIFFERENCE OF TWO SYNTHETIC PETS - NOT FOR DIAGNOSIS"
    page.select_option("#compare", "")
    assert page.get_by_label("Synthetic: unet version 2").is_checked()


def test_the_window_of_a_difference_is_symmetrical(opened: WatchedPage) -> None:
    page = opened.page
    page.get_by_label("Difference from the measured PET").check()
    assert not page.locator("#window-low").is_visible() and not page.locator("#colormap").is_visible()
    page.fill("#difference-window", "3")
    assert (page.inner_text("#bar-low"), page.inner_text("#bar-high")) == ("-3 SUV, lower", "higher, +3 SUV")
    page.get_by_label("Measured", exact=True).check()
    assert not page.locator("#difference-window").is_visible()
    assert page.inner_text("#bar-low") == "SUV 0"


def test_the_page_complains_about_nothing(opened: WatchedPage) -> None:
    assert [problem for problem in opened.problems if "status of 401" not in problem] == []
