"""Thumbnails of CTs in a real PACS: one instance each is fetched, and a PACS that is gone blocks no list."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from lib.types import Series
from tests.server.orthanc import Orthanc, running_orthanc, server_of_pacs
from tests.server.processes import RunningServer
from tests.viewer.chromium import new_context, wait_until, watched_page

pytestmark = [pytest.mark.server, pytest.mark.slow]
SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
LISTED_TIMEOUT_S = 60.0
LIST_S = 5.0  # on a loaded machine; the fetch of a thumbnail may take 15 s


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, patients=3, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def cts(studies: Path) -> list[Series]:
    return [found.series for found in scan_folder(studies).usable("CT")]


@pytest.fixture(scope="module")
def orthanc(
    require_program: Callable[[str], str], studies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    with running_orthanc(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc"), studies) as running:
        yield running


@pytest.fixture(scope="module")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without accounts on that PACS, which has listed it; its cache is `cache` next to its log."""
    with server_of_pacs(orthanc, tmp_path_factory.mktemp("server"), models="unet") as running:
        deadline = time.monotonic() + LISTED_TIMEOUT_S
        while running.json("/ct2pet/images")["total"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield running


def thumbnail(server: RunningServer, ct: Series) -> np.ndarray:
    response = server.request("GET", f"/ct2pet/images/thumbnail?image={ct.uid}")
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)), dtype=np.float64)


def test_a_thumbnail_is_the_middle_slice_and_nothing_else_is_fetched(server: RunningServer, cts: list[Series]) -> None:
    found = thumbnail(server, cts[0])
    middle = read_ct(cts[0]).array[SMALL.slices // 2]
    grey = np.clip((middle + 1000) * 255 / 1400, 0, 255)  # -1000 to 400 HU
    assert found.shape == (96, 96)
    same_size = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize((96, 96), Image.Resampling.BOX), np.float64)
    assert np.abs(found - same_size).mean() < 1.0
    assert not list(server.log.parent.rglob("*.dcm"))


def test_the_list_shows_pictures_and_placeholders_once_the_pacs_is_gone(
    server: RunningServer, orthanc: Orthanc, cts: list[Series], chromium: Browser
) -> None:
    before = thumbnail(server, cts[0])
    orthanc.kill()
    np.testing.assert_array_equal(thumbnail(server, cts[0]), before)  # kept
    with new_context(chromium) as context:
        page = watched_page(context).page
        began = time.monotonic()
        page.goto(f"{server.url}/ct2pet/viewer/")
        page.locator("#images li").first.wait_for()
        assert time.monotonic() - began < LIST_S
        assert page.locator("#images li").count() == 3
        wait_until(page, "document.querySelectorAll('#images img[data-missing]').length === 2")
        wait_until(page, "document.querySelectorAll('#images img[src]').length === 1")


def test_a_pacs_that_is_back_gives_pictures(
    server: RunningServer, orthanc: Orthanc, cts: list[Series], chromium: Browser
) -> None:
    orthanc.start()
    assert server.request("POST", "/reload").ok
    with new_context(chromium) as context:
        page = watched_page(context).page
        page.goto(f"{server.url}/ct2pet/viewer/")
        wait_until(page, "[...document.querySelectorAll('#images img')].filter(one => one.naturalWidth).length === 3")
    assert not list(server.log.parent.rglob("*.dcm"))
