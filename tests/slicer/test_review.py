"""Tests of the review page: the real script, a live server with accounts, and the page in headless Chromium."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from scripts.review_page.browser import launch_chromium, new_page
from tests.conftest import REPOSITORY
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import PASSWORD, RunningServer, running_server, write_users
from tests.slicer.environment import review_script
from tests.slicer.review_page import (
    VIEWS,
    ReviewPage,
    Views,
    are_equal,
    are_grey,
    press,
    saturation,
    wait_for_views,
    wait_until_settled,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]
SMALL = PhantomSettings(slices=40, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
TINY = "pixel_mm=12.8;depth=1;context_slices=1;normalization=none"
SYNTHETIC_SUV = 2.0
WARNING = "SYNTHETIC PET - NOT FOR DIAGNOSIS"
HALF_WINDOW_STEPS = 8  # of 0.5 SUV, from 8 down to 4
UNKNOWN_UID = "1.2.3.4"
SLIDER_STATE = """JSON.stringify(Object.fromEntries(Object.entries(trame.state.state).filter(([name]) =>
  /^(opacity|window_suv|threshold_suv|foreground)$|value$/.test(name))))"""


@dataclass(frozen=True)
class Clinic:
    """A server with one phantom, whose name must not be shown."""

    server: RunningServer
    ct_uid: str
    patient_name: str

    def command(self, *options: str, ct_uid: str = "", user: str = "una") -> list[str]:
        """Return the command line of the script, as a user types it."""
        login = ["--user", user, "--password-stdin"] if user else []
        return [review_script(), ct_uid or self.ct_uid, "--server", self.server.url, "--port", "0", *login, *options]


def run(command: list[str], password: str = PASSWORD, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        command, input=f"{password}\n", env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A server with accounts, a model that predicts 2 SUV everywhere, and an untrained one."""
    review_script()  # skips before a server is started
    folder = tmp_path_factory.mktemp("review")
    write_phantoms(folder / "studies", patients=1, settings=SMALL)
    ct = scan_folder(folder / "studies").usable("CT")[0].series
    name = str(pydicom.dcmread(ct.files[0], stop_before_pixels=True).PatientName)
    save_constant_model(folder / "models" / "unet" / "model.safetensors", SYNTHETIC_SUV, stages=1)
    users = write_users(folder)
    with running_server(
        REPOSITORY / "ct2pet_app", folder / "studies", folder, models="unet,cascade2", width="2", set=TINY, users=users
    ) as server:
        yield Clinic(server, ct.uid, name)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium."""
    review_script()  # skips where Chromium is missing
    with launch_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def review(clinic: Clinic, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewPage]:
    """The page in Chromium; at the end the script is stopped as by Ctrl-C."""
    log = tmp_path_factory.mktemp("page") / "stderr.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            clinic.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{PASSWORD}\n")
        process.stdin.close()
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url, log.read_text()
        page = new_page(chromium)
        review = ReviewPage(page, url[0], log)
        review.open()
        yield review
        page.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture(scope="module")
def initial(review: ReviewPage) -> tuple[str, Views]:
    """The state of the sliders when the page opens, as JSON, and the views."""
    return review.page.evaluate(SLIDER_STATE), wait_until_settled(review.page)


@pytest.fixture
def before(review: ReviewPage, initial: tuple[str, Views]) -> Views:
    """The views as the page opens: half opaque, 0 to 8 SUV, the synthetic PET. Undoes what earlier tests did."""
    sliders, views = initial
    review.page.evaluate(f"trame.state.update({sliders})")
    return wait_for_views(review.page, lambda now: are_equal(now, views))


def test_the_page_shows_what_it_is_without_the_patients_name(review: ReviewPage, clinic: Clinic) -> None:
    text = review.page.inner_text("body")
    model = clinic.server.logged_in_as("una").json("/info/")["models"]["unet"]
    assert review.page.inner_text("#warning") == WARNING
    assert "The libraries of 3D Slicer in a web page; useful where Slicer is not installed." in text
    assert clinic.ct_uid in text
    assert f"unet version {model['version']}" in text
    assert model["checksum"][:12] in text
    assert "not a measurement of metabolism" in text  # the server's own notice
    assert clinic.patient_name not in review.page.content()
    assert review.page.title() == f"SYNTHETIC PET of {clinic.ct_uid}"


@pytest.mark.parametrize(("view", "plane"), VIEWS.items())
def test_every_view_is_labelled(review: ReviewPage, before: Views, view: str, plane: str) -> None:
    assert review.page.get_attribute(f"#view-{view}", "aria-label") == f"{plane}: {WARNING}"
    assert re.search(rf"{plane}\s+[A-Z] [\d.]+ mm", review.page.inner_text("body"))


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_shows_the_pet_in_colour_over_the_ct(before: Views, view: str) -> None:
    assert before[view].std() > 10
    assert np.mean(saturation(before[view]) > 30) > 0.2


def test_without_opacity_only_the_ct_is_visible(review: ReviewPage, before: Views) -> None:
    press(review.page, "Home", slider=".v-slider:has(#opacity)")
    after = wait_for_views(review.page, are_grey)
    for view in VIEWS:
        assert after[view].std() > 10, VIEWS[view]
    assert "Opacity of the PET: 0 %" in review.page.inner_text("body")


def test_half_the_window_shows_the_same_uptake_hotter(review: ReviewPage, before: Views) -> None:
    def are_hotter(views: Views) -> bool:
        has_uptake = {view: saturation(before[view]) > 30 for view in VIEWS}
        return all(views[view][has_uptake[view]].mean() > before[view][has_uptake[view]].mean() + 10 for view in VIEWS)

    press(review.page, "ArrowLeft", slider=".v-range-slider", times=HALF_WINDOW_STEPS)
    review.page.get_by_text("Window: 0 to 4 SUV").wait_for()
    assert are_hotter(wait_for_views(review.page, are_hotter))


def test_above_the_threshold_only_the_ct_is_visible(review: ReviewPage, before: Views) -> None:
    press(review.page, "End", slider=".v-slider:has(#threshold)")
    assert are_grey(wait_for_views(review.page, are_grey))


def test_a_plane_moves_alone(review: ReviewPage, before: Views) -> None:
    label = review.page.inner_text("#view-Red")
    press(review.page, "ArrowRight", slider=".v-slider:has(#slice-Red)", times=6)
    wait_for_views(review.page, lambda views: bool((views["Red"] != before["Red"]).any()))
    after = wait_until_settled(review.page)
    assert (after["Red"] != before["Red"]).any()
    assert review.page.inner_text("#view-Red") != label
    assert (after["Green"] == before["Green"]).all()


def test_the_measured_pet_is_labelled_as_measured(review: ReviewPage, before: Views) -> None:
    review.page.get_by_role("button", name="Measured PET").click()
    wait_for_views(review.page, lambda views: all((views[view] != before[view]).any() for view in VIEWS))
    review.page.get_by_label("Axial: measured PET", exact=True).wait_for()
    assert review.page.inner_text("#warning") == WARNING


def test_the_terminal_shows_the_progress(review: ReviewPage) -> None:
    assert "Synthetic PET: 100%, 40 of 40 slices" in review.log.read_text()


def test_the_console_has_no_errors_and_no_request_leaves_the_computer(review: ReviewPage) -> None:
    assert review.console_errors == []
    assert any(url.startswith("ws://127.0.0.1:") for url in review.requests)
    assert {urlsplit(url).hostname for url in review.requests} <= {"127.0.0.1", None}


def test_without_its_key_the_page_shows_nothing(review: ReviewPage, clinic: Clinic, chromium: Browser) -> None:
    received: list[bytes] = []
    with contextlib.closing(new_page(chromium)) as page:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(frame)))
        with page.expect_console_message(lambda message: "Connection error" in message.text):
            page.goto(review.url.split("?")[0])
        assert page.locator("img.image-display-area").count() == 0
        assert clinic.ct_uid not in page.content()
    assert received
    assert all(b"Authentication failed" in frame for frame in received)


def test_a_screenshot_is_written_and_the_script_ends(clinic: Clinic, tmp_path: Path) -> None:
    done = run(clinic.command("--screenshot", str(tmp_path / "review.png")))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "review.png") as screenshot:
        assert screenshot.size == (1500, 900)


def test_a_failure_of_chromium_is_reported(clinic: Clinic, tmp_path: Path) -> None:
    done = run(clinic.command("--screenshot", str(tmp_path / "review.png")), CT2PET_CHROMIUM="/bin/false")
    assert done.returncode == 2
    assert "Chromium could not take the screenshot: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "changed", "message"),
    [
        (["--server", "http://127.0.0.1:1"], {"user": ""}, "Connection refused on port 1 of 127.0.0.1"),
        (["--server", "ftp://nowhere"], {"user": ""}, "ftp://nowhere is not a server address"),
        ([], {"user": ""}, "requires authentication: give --user NAME or --token-stdin"),
        ([], {"user": "unknown"}, "Wrong user name or password."),
        (
            [],
            {"ct_uid": UNKNOWN_UID},
            f"has no CT '{UNKNOWN_UID}'; expected the SeriesInstanceUID of one of its CTs:\n  ",
        ),
        (["--model", "cascade9"], {}, "has no model 'cascade9': choose --model from unet, cascade2"),
        (["--model", "cascade2"], {}, "No trained weights for cascade2 yet: choose --model from unet"),
        (["--screenshot", "picture.gif"], {}, "expected a file name that ends in .png"),
        (["--port", "99999"], {}, "choose another --port, or 0 for any free port"),
    ],
)
def test_an_error_says_what_to_do(clinic: Clinic, options: list[str], changed: dict[str, str], message: str) -> None:
    done = run(clinic.command(*options, **changed))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_signs_in(clinic: Clinic) -> None:
    command = clinic.command("--token-stdin", "--model", "cascade2", user="")
    assert "No trained weights for cascade2" in run(command, clinic.server.logged_in_as("una").token).stderr
    assert "requires authentication" in run(command, "invalid").stderr


def test_a_port_in_use_is_reported(clinic: Clinic) -> None:
    done = run(clinic.command("--port", str(urlsplit(clinic.server.url).port)))
    assert done.returncode == 2
    assert "Address already in use" in done.stderr


def test_a_computer_that_cannot_render_gets_a_list_of_packages(clinic: Clinic) -> None:
    # makes VTK use a screen, which does not exist
    done = run(clinic.command(), VTK_DEFAULT_OPENGL_WINDOW="vtkXOpenGLRenderWindow", DISPLAY="")
    assert done.returncode == 1
    assert "apt-get install libegl1" in done.stderr
