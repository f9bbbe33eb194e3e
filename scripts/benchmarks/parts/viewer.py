"""The first slab of a PET in the viewer, in Chromium: from the click on a CT that was not read before."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lib.errors import InputError
from scripts.benchmarks.live import TIMEOUT_S, prepare_setup
from scripts.benchmarks.measure import Figure, Ratio, Result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FIRST_S = 1.0  # at most, for 134 slices of 512 x 512 on two cores
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WEBGL_WITHOUT_GPU = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
WIDTH_PX, HEIGHT_PX = 1400, 900
REST_MS = 2000  # between the list and the click: the page prepares its canvas, as while a user reads the list
# The values at the crosshair are written after the CT and the PET of its slice have been drawn
CLICK = """(uid) => new Promise((resolve) => {
  const byId = (id) => document.getElementById(id), value = (id) => byId(id).dataset.value;
  const clicked = performance.now(), passed = () => (performance.now() - clicked) / 1000;
  let first = null;
  document.querySelector(`#images a[href$="${uid}"]`).click();
  const look = () => {
    if (first === null && value("at-ct") && value("at-synthetic")) first = passed();
    const problem = ["message", "unlike"].find((id) => !byId(id).hidden);
    if (problem) resolve({ problem: byId(problem).textContent });
    else if (byId("progress").textContent.endsWith(": complete")) resolve({ first, all: passed() });
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""


def measure(args: argparse.Namespace) -> Result:
    """Open a CT in the viewer, each time of a server that has not read it, in a browser that has not seen the page."""
    first_s, all_s = [], []
    with prepare_setup(args) as setup, _chromium() as browser:
        for _ in range(args.repeats):
            with setup.server() as url, _page(browser) as page:
                page.goto(f"{url}/ct2pet/viewer/")
                page.locator("#images a").first.wait_for()
                page.wait_for_timeout(REST_MS)
                found = page.evaluate(CLICK, setup.ct_uid)
                if "problem" in found:
                    raise InputError(f"the viewer does not show the CT: {' '.join(found['problem'].split())}")
                first_s.append(found["first"])
                all_s.append(found["all"])
    figures = [
        Figure("first slab on screen", "s", tuple(first_s), of="CT not read before"),
        Figure("all slabs", "s", tuple(all_s), of="CT not read before"),
    ]
    ratios = [Ratio(f"first slab on screen / {FIRST_S:g} s", tuple(s / FIRST_S for s in first_s), at_most=1)]
    return Result({"slices": setup.slices, "browser": f"Chromium {browser.version}, no GPU"}, figures, ratios)


@contextlib.contextmanager
def _chromium() -> Iterator[Browser]:
    """Launch the system's Chromium, headless.

    Raises:
        InputError: It, or playwright, is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError("playwright is not installed; pip install -r requirements-dev.txt") from error
    configured = os.environ.get("CT2PET_CHROMIUM", "")
    path = next(filter(None, (shutil.which(name) for name in (configured, *PROGRAMS) if name)), None)
    if path is None:
        raise InputError("there is no Chromium; install it (Debian: chromium), or name its program in CT2PET_CHROMIUM")
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start as root, as in a container
        browser = playwright.chromium.launch(
            executable_path=path, chromium_sandbox=os.geteuid() != 0, args=list(WEBGL_WITHOUT_GPU)
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def _page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": WIDTH_PX, "height": HEIGHT_PX}) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * TIMEOUT_S)
        yield page
