"""Open pages in the system's Chromium, headless, with playwright. No browser is downloaded."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Error, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
VARIABLE = "CT2PET_CHROMIUM"
WIDTH_PX, HEIGHT_PX = 1500, 900
PAGE_TIMEOUT_S = 60.0  # to start Chromium, to load the page, to render it
# All three views have an image of the size that they have on screen, and no request of the page is pending
RENDERED = """(() => {
  const images = [...document.querySelectorAll('img.image-display-area')];
  const full = (image) => image.naturalWidth > 50 && Math.abs(image.naturalWidth - image.clientWidth) < 3;
  return images.length === 3 && images.every(full) && window.trame?.state?.get('trame__busy') === 0;
})()"""


class BrowserError(Exception):
    """Chromium does not start, or the page does not show its images."""


def find_chromium() -> str:
    """Return the path of Chromium; empty if it is not installed."""
    configured = os.environ.get(VARIABLE, "")
    return next(filter(None, (shutil.which(name) for name in (configured, *PROGRAMS) if name)), "")


@contextlib.contextmanager
def launch_chromium() -> Iterator[Browser]:
    """Launch headless Chromium and close it at the end. One at a time in a thread, as playwright requires."""
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start as root, as in a container
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), chromium_sandbox=os.geteuid() != 0, timeout=1000 * PAGE_TIMEOUT_S
        )
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser) -> Page:
    """Return an empty page with its own cache and cookies, whose waits end after `PAGE_TIMEOUT_S`."""
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
    page.set_default_timeout(1000 * PAGE_TIMEOUT_S)
    return page


def wait_until_rendered(page: Page) -> None:
    """Wait until the review page shows its three images.

    Raises:
        Error: It does not within `PAGE_TIMEOUT_S`.
    """
    page.wait_for_function(RENDERED)


def save_screenshot(url: str, file: Path) -> None:
    """Write a PNG of the review page at an address.

    Raises:
        BrowserError: Chromium does not start, or the page does not show its images.
    """
    try:
        with launch_chromium() as browser:
            page = new_page(browser)
            page.goto(url)
            wait_until_rendered(page)
            page.screenshot(path=file, type="png")
    except Error as error:
        raise BrowserError(f"Chromium could not take the screenshot: {error.message.splitlines()[0]}") from error
