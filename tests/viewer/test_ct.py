"""One CT in the viewer: its values against the server's files, keys, regions, versions, warnings, downloads."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit, Volume
from tests.viewer.chromium import WatchedPage, new_context, wait_until, watched_page
from tests.viewer.conftest import CONSTANT_SUV, SMALL, Clinic, open_ct, wait_until_complete
from tests.viewer.views import PLANES, VOXELS, go_to, pixels, saturation, set_range, value

pytestmark = [pytest.mark.server, pytest.mark.slow]
WARNING = "SYNTHETIC - NOT FOR DIAGNOSIS"


@pytest.mark.parametrize("voxel", VOXELS)
def test_values_at_the_crosshair_are_the_volumes(
    opened: WatchedPage, volumes: dict[str, Volume], voxel: tuple[int, int, int]
) -> None:
    go_to(opened.page, voxel)
    column, row, k = voxel
    synthetic = float(volumes["synthetic"].array[k, row, column])
    assert value(opened.page, "ct") == round(float(volumes["ct"].array[k, row, column]))
    assert value(opened.page, "synthetic") == pytest.approx(synthetic, abs=1e-6)
    point = volumes["ct"].geometry.to_world(np.array([voxel], dtype=np.float64))
    nearest = np.rint(volumes["real"].geometry.to_voxel(point)[0]).astype(int)
    real = volumes["real"].array[nearest[2], nearest[1], nearest[0]]
    assert value(opened.page, "real") == pytest.approx(float(real), abs=1e-6)
    assert opened.page.inner_text("#at-synthetic").startswith("Estimated SUV ")
    assert opened.page.inner_text("#at-real").startswith("Measured SUV ")


def test_slices_arrive_round_the_one_looked_at(clinic: Clinic, chromium: Browser) -> None:
    with new_context(chromium) as context:
        page = context.new_page()
        slabs: list[tuple[int, int]] = []

        def note(request: object) -> None:
            body = getattr(request, "post_data", None) or ""
            if "/infer/" in getattr(request, "url", ""):
                start, stop = json.loads(body[body.index("{") : body.rindex("}") + 1])["slices"].split(":")
                slabs.append((int(start), int(stop)))

        page.on("request", note)
        open_ct(page, clinic, clinic.new)
    middle = SMALL.slices // 2
    assert slabs[0][0] <= middle < slabs[0][1]
    assert sorted(k for start, stop in slabs for k in range(start, stop)) == list(range(SMALL.slices))
    lows, highs = zip(*slabs, strict=True)
    reach = [max(highs[: n + 1]) - min(lows[: n + 1]) for n in range(len(slabs))]
    assert reach == list(np.cumsum([stop - start for start, stop in slabs]))  # without gaps


def test_every_view_is_labelled_and_shows_the_pet_in_colour(opened: WatchedPage) -> None:
    page = opened.page
    go_to(page, VOXELS[0])
    for plane in (*PLANES, "projection"):
        assert page.inner_text(f"#view-{plane} .label") == WARNING
        assert WARNING in str(page.get_attribute(f"#view-{plane}", "aria-label"))
        assert np.mean(saturation(pixels(page, plane)) > 30) > 0.05, plane
    assert page.inner_text("#band") == WARNING


def test_without_opacity_or_above_the_threshold_only_the_ct_is_visible(opened: WatchedPage) -> None:
    page = opened.page
    for name, number, before in (("opacity", 0, 50), ("threshold", 10, 0.3)):
        set_range(page, name, number)
        page.wait_for_timeout(500)
        for plane in (*PLANES, "projection"):
            grey = pixels(page, plane)
            assert grey.std() > 5, plane
            assert np.mean(saturation(grey) > 30) < 0.01, (name, plane)
        set_range(page, name, before)
    page.wait_for_timeout(500)


def test_a_wheel_and_keys_move_the_slice(opened: WatchedPage) -> None:
    page = opened.page
    go_to(page, (30, 34, 12))
    box = page.locator("#view-axial").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, 100)
    wait_until(page, "document.getElementById('at-position').dataset.value !== '30 34 12'")
    go_to(page, (30, 34, 12))
    for key, expected in (
        ("PageUp", "30 34 13"), ("PageDown", "30 34 12"), ("ArrowRight", "31 34 12"), ("ArrowUp", "31 33 12"),
        ("Home", "31 33 0"), ("End", f"31 33 {SMALL.slices - 1}"),
    ):  # fmt: skip
        page.locator("#view-axial").press(key)
        assert page.get_attribute("#at-position", "data-value") == expected


def test_tab_reaches_views_and_controls(opened: WatchedPage) -> None:
    page = opened.page
    page.locator("#theme").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || ''"))
    for name in ("view-axial", "view-coronal", "view-sagittal", "Axial slice", "window-low", "window-high", "opacity",
                 "threshold", "colormap", "ct-window", "radius", "measure", "model", "compare"):  # fmt: skip
        assert name in reached, name


def test_a_click_moves_the_crosshair_to_the_place_on_screen(opened: WatchedPage) -> None:
    page = opened.page
    go_to(page, (30, 34, 12))
    box = page.locator("#view-axial").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4)
    wait_until(page, "document.getElementById('at-position').dataset.value !== '30 34 12'")
    column, row, k = map(int, str(page.get_attribute("#at-position", "data-value")).split())
    assert (column > 32, row < 32, k) == (True, True, 12)  # the patient's left is on the right, the front at the top


def test_a_region_has_the_values_of_the_server(opened: WatchedPage, clinic: Clinic, volumes: dict[str, Volume]) -> None:
    page = opened.page
    go_to(page, (30, 34, 12))
    center = volumes["ct"].geometry.to_world(np.array([[30.0, 34.0, 12.0]]))[0].tolist()
    sphere = {"center_mm": center, "radius_mm": 15}
    expected = clinic.server.request("POST", f"/ct2pet/regions/unet?image={clinic.trained}", json=sphere).json()
    page.fill("#radius", "15")
    page.click("#measure")
    row = page.locator("#regions li").last
    wait_until(page, "document.querySelector('#regions li:last-child').dataset.mean !== undefined")
    assert float(str(row.get_attribute("data-mean"))) == pytest.approx(expected["suv_mean"])
    assert float(str(row.get_attribute("data-max"))) == pytest.approx(expected["suv_max"])
    assert "Mean estimated SUV " in row.inner_text() and "Measured mean SUV " in row.inner_text()
    assert page.locator("#view-axial circle").count() == 1
    row.get_by_role("button").click()
    assert page.locator("#view-axial circle").count() == 0


def test_two_versions_are_compared(opened: WatchedPage) -> None:
    page = opened.page
    page.select_option("#compare", "unet/1")
    wait_until(page, "document.getElementById('progress').textContent === 'unet version 1: complete'")
    go_to(page, (30, 34, 12))
    assert value(page, "other") == pytest.approx(CONSTANT_SUV, rel=1e-2)
    assert page.inner_text("#at-other").startswith("unet version 1 estimates SUV 4.0, ")
    page.get_by_label("Synthetic: unet version 1").check()
    page.click("#card summary")
    card = page.inner_text("#card-text")
    assert "unet version 1" in card and "unet version 2, served" in card
    page.select_option("#compare", "")
    assert page.inner_text("#at-other") == ""


def test_the_measured_pet_is_labelled_as_measured(opened: WatchedPage) -> None:
    page = opened.page
    page.get_by_label("Measured", exact=True).check()
    assert page.inner_text("#view-axial .label") == "MEASURED PET - NOT FOR DIAGNOSIS"
    assert page.inner_text("#band") == WARNING
    page.get_by_label("Synthetic: unet version 2").check()
    assert page.inner_text("#view-axial .label") == WARNING


@pytest.mark.parametrize(("name", "suffix"), [("NRRD", ".nrrd"), ("NIfTI", ".nii.gz"), ("DICOM", ".zip")])
def test_the_pet_can_be_downloaded(
    opened: WatchedPage, volumes: dict[str, Volume], name: str, suffix: str, tmp_path: Path
) -> None:
    with opened.page.expect_download() as waiting:
        opened.page.get_by_role("button", name=name, exact=True).click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.name.endswith(f"unet-version-2{suffix}")
    if suffix == ".zip":
        with zipfile.ZipFile(path) as zipped:
            assert len(zipped.namelist()) == SMALL.slices
    else:
        found = read_volume_file(path, unit=Unit.SUV_BW)
        assert found.array == pytest.approx(volumes["synthetic"].array, abs=1e-5)


def test_the_page_complains_about_nothing(opened: WatchedPage) -> None:
    assert [problem for problem in opened.problems if "status of 401" not in problem] == []


@pytest.fixture
def page(clinic: Clinic, chromium: Browser) -> Iterator[Page]:
    """An empty page of another user's browser."""
    with new_context(chromium, width=390, height=800) as context:
        yield watched_page(context).page


def test_a_narrow_screen_shows_the_views_below_each_other(page: Page, clinic: Clinic) -> None:
    open_ct(page, clinic, clinic.new)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.locator(f"#view-{plane}").bounding_box() for plane in PLANES]
    assert all(box and box["x"] < 10 and box["width"] > 350 for box in boxes)
    assert np.mean(saturation(pixels(page, "axial")) > 30) > 0.05


def test_another_ct_is_opened_after_the_first(clinic: Clinic, chromium: Browser) -> None:
    with new_context(chromium) as context:
        watched = watched_page(context)
        page = watched.page
        open_ct(page, clinic, clinic.new)
        page.click("#home")
        page.locator("#images li").first.wait_for()
        page.goto(f"{clinic.url}#/ct/{clinic.trained}")
        wait_until(page, "document.getElementById('title').textContent.startsWith('PHANTOM_0001')")
        wait_until_complete(page)
        page.wait_for_timeout(500)
        for plane in (*PLANES, "projection"):
            assert np.mean(saturation(pixels(page, plane)) > 30) > 0.05, plane
        assert [problem for problem in watched.problems if "status of 401" not in problem] == []


def test_an_unlike_ct_is_warned_about_before_its_pet_is_shown(page: Page, clinic: Clinic) -> None:
    open_ct(page, clinic, clinic.new)
    page.select_option("#model", "cascade2/1")
    page.locator("#unlike").wait_for()
    assert page.inner_text("#unlike-title") == "CT unlike those the model has learnt from"
    assert "field of view" in page.inner_text("#unlike-text")
    assert page.get_attribute("#at-synthetic", "data-value") is None
    page.click("#allow-unlike")
    wait_until_complete(page)
    assert page.inner_text("#notices").startswith("CT unlike those the model has learnt from")
    assert value(page, "synthetic") == pytest.approx(1.0, rel=1e-2)


def test_training_and_intervals_are_told(page: Page, clinic: Clinic) -> None:
    open_ct(page, clinic, clinic.trained)
    page.select_option("#model", "unet/1")
    wait_until(page, "document.getElementById('progress').textContent === 'unet version 1: complete'")
    assert "This CT was part of the training" in page.inner_text("#notices")
    go_to(page, (30, 34, 12))
    wait_until(page, "document.getElementById('at-synthetic').textContent.includes('interval')")
    assert page.inner_text("#at-synthetic") == "Estimated SUV 4.0 (90 % interval 2.9 to 5.3)"
