"""A server with accounts and two phantoms, and its viewer in Chromium."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit, Volume
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model, save_sensitive_model
from tests.dicom.builders import write_series
from tests.learning.familiarity.limbs import limb_reference
from tests.learning.known_intervals import known_intervals
from tests.server.processes import PASSWORD, REPOSITORY, RunningServer, running_server, write_users
from tests.viewer.chromium import WatchedPage, find_chromium, launch_chromium, new_context, wait_until, watched_page

SMALL = PhantomSettings(slices=24, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
TINY = ("pixel_mm=12.8", "depth=1", "context_slices=1", "normalization=none", "base_channels=2")
CONSTANT_SUV = 4.0


@dataclass(frozen=True)
class Clinic:
    """A running server, and the UIDs of its two phantoms' CTs: of training, and new to the models."""

    server: RunningServer
    trained: str
    new: str

    @property
    def url(self) -> str:
        """The address of the viewer."""
        return f"{self.server.url}/ct2pet/viewer/"


@contextlib.contextmanager
def running_clinic(folder: Path, *, small_cts: int = 0) -> Iterator[Clinic]:
    """Start a server; stop it at the end.

    Version 1 of its unet predicts 4 SUV with intervals; version 2, which is served, follows the CT. Its cascade2 was
    trained on limbs, and the phantoms are chests.

    Args:
        folder: Gets everything.
        small_cts: Number of CTs of two slices, besides the phantoms.
    """
    find_chromium()  # skips before a server is started
    write_phantoms(folder / "studies", patients=2, settings=SMALL)
    trained, new = (found.series.uid for found in scan_folder(folder / "studies").usable("CT"))
    if small_cts:
        write_small_cts(folder / "studies", small_cts)
    trained_on = ["PHANTOM_0001"]
    constant = save_constant_model(
        folder / "constant.safetensors", CONSTANT_SUV, stages=1, trained_on=trained_on, intervals=known_intervals()
    )
    limbs = save_constant_model(folder / "limbs.safetensors", 1.0, stages=2, familiarity=limb_reference())
    sensitive = save_sensitive_model(folder / "sensitive.safetensors", TINY)
    users = write_users(folder)
    conf = {"models": "unet,cascade2", "users": str(users)}
    with running_server("ct2pet_app", folder / "studies", folder, cwd=REPOSITORY, **conf) as running:
        admin = running.logged_in_as("ada")
        for model, file in (("unet", constant), ("unet", sensitive), ("cascade2", limbs)):
            response = admin.request("PUT", f"/model/{model}", files={"file": file.read_bytes()})
            assert response.status_code == 200, response.text
        yield Clinic(running.logged_in_as("una"), trained, new)


def write_small_cts(folder: Path, count: int) -> None:
    """Write CTs of two slices, SMALL_1000, SMALL_1001, ...: copies of one, whose numbers are replaced in the bytes."""
    uids = {
        "StudyInstanceUID": "1.2.9.1000",
        "SeriesInstanceUID": "1.2.9.1000.1",
        "FrameOfReferenceUID": "1.2.9.1000.9",
    }
    paths = write_series(folder / "1000", count=2, PatientID="SMALL_1000", StudyDate="20190101", **uids)
    templates = [path.read_bytes() for path in paths]
    for number in range(1001, 1000 + count):
        (folder / str(number)).mkdir()
        for path, template in zip(paths, templates, strict=True):
            content = template.replace(b"1.2.9.1000", b"1.2.9.%d" % number).replace(b"SMALL_1000", b"SMALL_%d" % number)
            (folder / str(number) / path.name).write_bytes(content)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A server with two phantoms."""
    with running_clinic(tmp_path_factory.mktemp("viewer")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium; while it runs, no test of this process can call `asyncio.run`."""
    find_chromium()
    with launch_chromium() as browser:
        yield browser


def sign_in(page: Page) -> None:
    """Sign in as una."""
    page.locator("#login").wait_for()
    page.fill("#user", "una")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.locator("#login").wait_for(state="hidden")


def open_ct(page: Page, clinic: Clinic, uid: str) -> None:
    """Open a CT and wait for its whole synthetic PET; sign in if the page asks for it."""
    page.goto(f"{clinic.url}#/ct/{uid}")
    wait_until(
        page, "document.getElementById('login').open || document.getElementById('at-ct').dataset.value !== undefined"
    )
    if page.locator("#login").is_visible():
        sign_in(page)
    wait_until_complete(page)


def wait_until_complete(page: Page) -> None:
    """Wait until the progress says that the synthetic PET is complete."""
    wait_until(page, "document.getElementById('progress').textContent.endsWith(': complete')")


@pytest.fixture(scope="module")
def volumes(clinic: Clinic, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Volume]:
    """The files of the CT, its synthetic PET of the served version, and the measured one."""
    folder = tmp_path_factory.mktemp("volumes")
    label = clinic.server.json(f"/datastore/image/info?image={clinic.trained}")["pet"]["series_instance_uid"]
    responses = {
        "ct": clinic.server.request("GET", f"/datastore/image?image={clinic.trained}"),
        "synthetic": clinic.server.infer("unet", image=clinic.trained, output="image"),
        "real": clinic.server.request("GET", f"/datastore/label?label={label}&tag=final"),
    }
    found = {}
    for name, response in responses.items():
        assert response.status_code == 200, response.text
        (folder / f"{name}.nrrd").write_bytes(response.content)
        unit = Unit.HU if name == "ct" else Unit.SUV_BW
        found[name] = read_volume_file(folder / f"{name}.nrrd", unit=unit)
    return found


@pytest.fixture(scope="module")
def opened(clinic: Clinic, chromium: Browser) -> Iterator[WatchedPage]:
    """The page of the first phantom, complete."""
    with new_context(chromium) as context:
        watched = watched_page(context)
        open_ct(watched.page, clinic, clinic.trained)
        yield watched
