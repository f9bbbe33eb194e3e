"""A CT of more pixels than a processor draws at once: its picture is coarse, then finer, and stays in its place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import REPOSITORY, RunningServer, running_server
from tests.viewer.chromium import new_context, wait_until
from tests.viewer.conftest import wait_until_complete
from tests.viewer.views import pixels, saturation, value

pytestmark = [pytest.mark.server, pytest.mark.slow]
LARGE = PhantomSettings(slices=10, ct_matrix=300, ct_pixel_mm=1.4, pet_matrix=48, pet_pixel_mm=8.5)
# [step while slices are missing, step when the volume is complete] of 300 x 300 pixels, and what a step of 2 draws
PICTURE = """async () => {
  const [{ Picture, stepFor }, { SlabVolume }, { Grid }] =
    await Promise.all(["picture", "volume", "grid"].map((name) => import(`/ct2pet/viewer/${name}.js`)));
  const affine = [[0.5, 0, 0, 7], [0, -0.5, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]];
  const volume = new SlabVolume(new Grid([3, 5, 7], affine), new Int16Array(3 * 5 * 7), -1000);
  const all = Int16Array.from({ length: 3 * 5 * 7 }, (_, index) => index);
  volume.put(1, all.slice(35, 70));
  const picture = new Picture(volume, 2), before = [...picture.array];
  volume.put(0, all.slice(0, 35));
  volume.put(2, all.slice(70));
  picture.update();
  const suv = new SlabVolume(volume.grid, new Float32Array(3 * 5 * 7));
  suv.put(0, Float32Array.from({ length: 3 * 5 * 7 }, (_, index) => (index === 0 ? 500 : 0.5 - index / 7)));
  const pet = new Picture(suv, 2);
  const large = { grid: { shape: [9, 300, 320] } };
  return {
    shape: picture.grid.shape, before, after: [...picture.array], steps: [stepFor(large, 128), stepFor(large, 256)],
    places: [picture.grid.toWorld([3, 2, 1]), volume.grid.toWorld([6, 4, 1])],
    own: new Picture(volume, 1).array === volume.array, bytes: pet.array.BYTES_PER_ELEMENT,
    suv: [...pet.array].map((stored) => stored * pet.slope),
  };
}"""


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> ScannedSeries:
    folder = tmp_path_factory.mktemp("large")
    write_phantoms(folder / "studies", patients=1, settings=LARGE)
    (found,) = scan_folder(folder / "studies").usable("CT")
    return found


@pytest.fixture(scope="module")
def server(ct: ScannedSeries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without accounts, whose model predicts 4 SUV."""
    folder = tmp_path_factory.mktemp("server")
    studies = next(path for path in ct.series.files[0].parents if path.name == "studies")
    with running_server("ct2pet_app", studies, folder, cwd=REPOSITORY, models="unet") as running:
        model = save_constant_model(folder / "constant.safetensors", 4.0, stages=1)
        response = running.request("PUT", "/model/unet", files={"file": model.read_bytes()})
        assert response.status_code == 200, response.text
        yield running


@pytest.fixture
def page(server: RunningServer, chromium: Browser) -> Iterator[Page]:
    with new_context(chromium) as context:
        page = context.new_page()
        page.goto(f"{server.url}/ct2pet/viewer/")
        yield page


def test_every_second_voxel_is_where_it_is_in_the_volume(page: Page) -> None:
    found = page.evaluate(PICTURE)
    every = np.arange(3 * 5 * 7).reshape(3, 5, 7)[:, ::2, ::2]
    assert found["shape"] == [3, 3, 4]
    assert found["after"] == every.ravel().tolist()
    assert found["before"] == [-1000] * 12 + every[1].ravel().tolist() + [-1000] * 12
    assert found["places"][0] == found["places"][1]
    assert (found["steps"], found["own"]) == ([2, 1], True)
    assert found["bytes"] == 2
    assert found["suv"][0] == pytest.approx(131, abs=0.1)  # brighter than every window
    assert found["suv"][1:] == pytest.approx((0.5 - every.ravel()[1:] / 7).tolist(), abs=0.002)


def test_a_large_ct_is_drawn_in_its_place_with_its_pet(page: Page, ct: ScannedSeries) -> None:
    page.goto(f"{page.url}#/ct/{ct.series.uid}")
    wait_until_complete(page)
    box = page.locator("#view-axial").bounding_box()
    assert box is not None
    side = min(box["width"], box["height"])
    # a fifth of the field of view to the left and in front of the middle, on the screen
    page.mouse.click(box["x"] + box["width"] / 2 - 0.2 * side, box["y"] + box["height"] / 2 - 0.2 * side)
    wait_until(page, "document.getElementById('at-position').dataset.value.split(' ')[0] < 120")
    column, row, k = map(int, str(page.get_attribute("#at-position", "data-value")).split())
    assert column == pytest.approx(90, abs=4) and row == pytest.approx(90, abs=4) and k == LARGE.slices // 2
    assert value(page, "synthetic") == pytest.approx(4.0, abs=0.01)
    for plane in ("axial", "projection"):
        assert np.mean(saturation(pixels(page, plane)) > 30) > 0.05, plane
