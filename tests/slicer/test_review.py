"""The review page: the real script, a live server with accounts, and the real page in headless Chromium."""

from __future__ import annotations

import io
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

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from scripts.review_page.browser import Page, browsing
from scripts.review_page.ready import READY
from tests.conftest import REPOSITORY
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import PASSWORD, RunningServer, running_server, write_users
from tests.slicer.environment import review_script

pytestmark = [pytest.mark.server, pytest.mark.slow]
SMALL = PhantomSettings(slices=40, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
TINY = "pixel_mm=12.8;depth=1;context_slices=1;normalization=none"
DRAWN_SUV = 2.0
WARNING = "SYNTHETIC PET - NOT FOR DIAGNOSIS"
VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
# of a window of 0 to 20 SUV in steps of 0.5, from 8 down to 4
HALVED = 8
NOBODY = "1.2.3.4"
LOOKS = 300  # far more than a slow machine needs


@dataclass(frozen=True)
class Clinic:
    """A server with one phantom, and what must not be seen of it."""

    server: RunningServer
    ct_uid: str
    patient_name: str

    def command(self, *words: str, ct_uid: str = "", user: str = "una") -> list[str]:
        """Return the command line of the script, as a person types it."""
        who = ["--user", user, "--password-stdin"] if user else []
        return [review_script(), ct_uid or self.ct_uid, "--server", self.server.url, "--port", "0", *who, *words]


def run(command: list[str], password: str = PASSWORD, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        command, input=f"{password}\n", env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A server with accounts, a model that draws 2 SUV everywhere, and one that nobody has trained."""
    review_script()  # no server is started where the test will be skipped
    folder = tmp_path_factory.mktemp("review")
    write_phantoms(folder / "studies", patients=1, settings=SMALL)
    ct = scan_folder(folder / "studies").usable("CT")[0].series
    name = str(pydicom.dcmread(ct.files[0], stop_before_pixels=True).PatientName)
    save_constant_model(folder / "models" / "unet" / "model.safetensors", DRAWN_SUV, stages=1)
    users = write_users(folder)
    with running_server(
        REPOSITORY / "ct2pet_app", folder / "studies", folder, models="unet,cascade2", width="2", set=TINY, users=users
    ) as server:
        yield Clinic(server, ct.uid, name)


@dataclass(frozen=True)
class Shown:
    """The page on screen, its address and what the script told."""

    page: Page
    url: str
    log: Path


@pytest.fixture(scope="module")
def shown(clinic: Clinic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The page in a browser; at the end the script is stopped as by Ctrl-C."""
    log = tmp_path_factory.mktemp("page") / "told.txt"
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
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address, log.read_text()
        with browsing(address[0]) as page:
            page.wait_for(READY)
            yield Shown(page, address[0], log)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def seen(page: Page, view: str) -> np.ndarray:
    """Return the middle of a view, without words and sliders, shape (rows, columns, RGB), 0 to 255."""
    pixels = np.asarray(Image.open(io.BytesIO(page.picture(f"#view-{view}"))).convert("RGB"), dtype=np.float64)
    rows, columns, _ = pixels.shape
    return pixels[rows // 4 : -rows // 4, columns // 4 : -columns // 4]


def seen_after(page: Page, before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the middle of the views once each of them has changed and stays as it is."""
    now = {view: seen(page, view) for view in before}
    for _ in range(LOOKS):
        last, now = now, {view: seen(page, view) for view in before}
        if all((now[view] != before[view]).any() and (now[view] == last[view]).all() for view in before):
            return now
        page.rest()
    unchanged = [VIEWS[view] for view in before if (now[view] == before[view]).all()]
    pytest.fail(f"no change in {unchanged}, or no end of it")


def colour(pixels: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from grey: 0 where the CT alone is seen."""
    return pixels.max(axis=-1) - pixels.min(axis=-1)


def thumb(slider: str) -> str:
    """Return the CSS selector of what is moved of a slider."""
    return f".v-slider:has(#{slider}) [role=slider]"


@pytest.fixture(scope="module")
def fresh(shown: Shown) -> tuple[str, dict[str, np.ndarray]]:
    """What the sliders say when the page comes up, as JSON, and what the views show."""
    said = shown.page.evaluate(
        "JSON.stringify(Object.fromEntries(Object.entries(trame.state.state).filter(([name]) =>"
        " /^(opacity|window_suv|threshold_suv|over_the_ct)$|value$/.test(name))))"
    )
    alike, pictures = 0, {view: seen(shown.page, view) for view in VIEWS}
    while alike < 5:  # the last of what was drawn while the page came up
        shown.page.rest()
        last, pictures = pictures, {view: seen(shown.page, view) for view in VIEWS}
        alike = alike + 1 if all((last[view] == pictures[view]).all() for view in VIEWS) else 0
    return said, pictures


@pytest.fixture
def before(shown: Shown, fresh: tuple[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The views as they came up: half opaque, 0 to 8 SUV, the synthetic PET; what tests did before is undone."""
    said, pictures = fresh
    shown.page.evaluate(f"trame.state.update({said})")
    for _ in range(LOOKS):
        if all((seen(shown.page, view) == pictures[view]).all() for view in VIEWS):
            return pictures
        shown.page.rest()
    pytest.fail("the views do not come back to what they were")


def test_the_page_says_what_it_is_and_whose(shown: Shown, clinic: Clinic) -> None:
    words = shown.page.evaluate("document.body.innerText")
    model = clinic.server.known_as("una").json("/info/")["models"]["unet"]
    assert shown.page.evaluate("document.querySelector('#warning').innerText") == WARNING
    assert "The libraries of 3D Slicer in a web page; useful where Slicer is not installed." in words
    assert clinic.ct_uid in words
    assert f"unet version {model['version']}" in words
    assert model["checksum"][:12] in words
    assert "not a measurement of metabolism" in words  # the server's own notice
    assert clinic.patient_name not in shown.page.evaluate("document.documentElement.outerHTML")
    assert shown.page.evaluate("document.title") == f"SYNTHETIC PET of {clinic.ct_uid}"


@pytest.mark.parametrize(("view", "plane"), VIEWS.items())
def test_every_view_says_what_it_shows(shown: Shown, before: dict[str, np.ndarray], view: str, plane: str) -> None:
    assert shown.page.evaluate(f"document.querySelector('#view-{view}').ariaLabel") == f"{plane}: {WARNING}"
    assert re.search(rf"{plane}\s+[A-Z] [\d.]+ mm", shown.page.evaluate("document.body.innerText"))


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_shows_the_pet_in_colour_over_the_ct(before: dict[str, np.ndarray], view: str) -> None:
    assert before[view].std() > 10
    assert np.mean(colour(before[view]) > 30) > 0.2


def test_without_opacity_the_ct_alone_is_seen(shown: Shown, before: dict[str, np.ndarray]) -> None:
    shown.page.press("Home", at=thumb("opacity"))
    after = seen_after(shown.page, before)
    for view in VIEWS:
        assert colour(after[view]).max() <= 1, VIEWS[view]
        assert after[view].std() > 10
    assert "Opacity of the PET: 0 %" in shown.page.evaluate("document.body.innerText")


def test_half_the_window_shows_the_same_uptake_hotter(shown: Shown, before: dict[str, np.ndarray]) -> None:
    shown.page.press("ArrowLeft", at=".v-range-slider .v-slider-thumb:last-of-type", times=HALVED)
    shown.page.wait_for("document.body.innerText.includes('Window: 0 to 4 SUV')")
    after = seen_after(shown.page, before)
    for view in VIEWS:
        drawn = colour(before[view]) > 30
        assert after[view][drawn].mean() > before[view][drawn].mean() + 10, VIEWS[view]


def test_above_the_threshold_the_ct_alone_is_seen(shown: Shown, before: dict[str, np.ndarray]) -> None:
    shown.page.press("End", at=thumb("threshold"))
    after = seen_after(shown.page, before)
    assert all(colour(after[view]).max() <= 1 for view in VIEWS)


def test_a_plane_moves_alone(shown: Shown, before: dict[str, np.ndarray]) -> None:
    told = shown.page.evaluate("document.querySelector('#view-Red').innerText")
    shown.page.press("ArrowRight", at=thumb("slice-Red"), times=6)
    after = seen_after(shown.page, {"Red": before["Red"]})
    assert (after["Red"] != before["Red"]).any()
    assert shown.page.evaluate("document.querySelector('#view-Red').innerText") != told
    assert (seen(shown.page, "Green") == before["Green"]).all()


def test_the_measured_pet_is_called_measured(shown: Shown, before: dict[str, np.ndarray]) -> None:
    shown.page.evaluate("[...document.querySelectorAll('#which button')][1].click()")
    seen_after(shown.page, before)
    label = shown.page.evaluate("document.querySelector('#view-Red').ariaLabel")
    assert label == "Axial: measured PET"
    assert shown.page.evaluate("document.querySelector('#warning').innerText") == WARNING


def test_the_terminal_tells_how_far_it_is(shown: Shown) -> None:
    assert "Synthetic PET: 100%, 40 of 40 slices" in shown.log.read_text()


def test_the_console_has_no_errors_and_nothing_comes_from_outside(shown: Shown) -> None:
    assert shown.page.complaints == []
    elsewhere = [url for url in shown.page.asked if urlsplit(url).hostname not in ("127.0.0.1", None)]
    assert elsewhere == []


def test_without_its_key_the_page_shows_nothing(shown: Shown) -> None:
    with browsing(shown.url.split("?")[0]) as stranger:
        stranger.wait_for("document.body?.innerText.includes('connect')")  # it says that it could not
        assert stranger.evaluate("document.querySelectorAll('img.image-display-area').length") == 0


def test_a_screenshot_is_written_and_the_script_ends(clinic: Clinic, tmp_path: Path) -> None:
    done = run(clinic.command("--screenshot", str(tmp_path / "review.png")))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "review.png") as picture:
        assert picture.size == (1500, 900)


@pytest.mark.parametrize(
    ("words", "changed", "sentence"),
    [
        (["--server", "http://127.0.0.1:1"], {"user": ""}, "Nobody listens on port 1 of 127.0.0.1"),
        (["--server", "ftp://nowhere"], {"user": ""}, "ftp://nowhere is no server address"),
        ([], {"user": ""}, "wants to know who you are: give --user NAME, or --token-stdin"),
        ([], {"user": "nobody"}, "Wrong user name or password."),
        ([], {"ct_uid": NOBODY}, f"has no CT '{NOBODY}'; CT_UID is the SeriesInstanceUID of one that it has:\n  "),
        (["--model", "cascade9"], {}, "has no model 'cascade9': choose --model of unet, cascade2"),
        (["--model", "cascade2"], {}, "Nobody has trained the model cascade2 yet: choose --model of unet"),
        (["--screenshot", "picture.gif"], {}, "give a file that ends in .png"),
        (["--port", "99999"], {}, "choose another --port, or 0 for any that is free"),
    ],
)
def test_what_goes_wrong_is_said_with_the_way_out(
    clinic: Clinic, words: list[str], changed: dict[str, str], sentence: str
) -> None:
    done = run(clinic.command(*words, **changed))
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_says_who_asks(clinic: Clinic) -> None:
    command = clinic.command("--token-stdin", "--model", "cascade2", user="")
    assert "Nobody has trained" in run(command, clinic.server.known_as("una").token).stderr
    assert "wants to know who you are" in run(command, "made up").stderr


def test_a_port_that_is_taken_is_named(clinic: Clinic) -> None:
    done = run(clinic.command("--port", str(urlsplit(clinic.server.url).port)))
    assert done.returncode == 2
    assert "Address already in use" in done.stderr


def test_a_machine_that_cannot_draw_is_told_what_it_lacks(clinic: Clinic) -> None:
    # VTK is told to use a screen, and there is none
    done = run(clinic.command(), VTK_DEFAULT_OPENGL_WINDOW="vtkXOpenGLRenderWindow", DISPLAY="")
    assert done.returncode == 1
    assert "apt-get install libegl1" in done.stderr
