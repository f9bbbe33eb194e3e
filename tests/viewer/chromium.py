"""Open pages in the system's Chromium, headless, with playwright. No browser is downloaded."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.conftest import missing

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
VARIABLE = "CT2PET_CHROMIUM"
WIDTH_PX, HEIGHT_PX = 1400, 900
PAGE_TIMEOUT_S = 120.0
POLL_INTERVAL_MS = 50
WEBGL_WITHOUT_GPU = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def find_chromium() -> str:
    """Return the path of Chromium, or skip the test; it fails where CT2PET_REQUIRE names `chromium`."""
    configured = os.environ.get(VARIABLE, "")
    path = next(filter(None, (shutil.which(name) for name in (configured, *PROGRAMS) if name)), "")
    if not path:
        missing("chromium", "there is no Chromium (Debian: chromium)")
    return path


@contextlib.contextmanager
def launch_chromium() -> Iterator[Browser]:
    """Launch headless Chromium and close it at the end. One at a time in a thread, as playwright requires."""
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start as root, as in a container
        browser = playwright.chromium.launch(
            executable_path=find_chromium(),
            chromium_sandbox=os.geteuid() != 0,
            args=list(WEBGL_WITHOUT_GPU),
            timeout=1000 * PAGE_TIMEOUT_S,
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class WatchedPage:
    """A page with what it asked for and complained about.

    Attributes:
        problems: Errors and warnings of the console, and uncaught exceptions.
        requests: URLs of all requests.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def watched_page(context: BrowserContext) -> WatchedPage:
    """Return a new page of a context, whose console and requests are recorded."""
    watched = WatchedPage(context.new_page())

    def on_console(message: ConsoleMessage) -> None:
        # WebGL without a GPU is slow, and Chromium says so
        if message.type in ("error", "warning", "assert") and "GPU stall" not in message.text:
            watched.problems.append(message.text)

    watched.page.set_default_timeout(1000 * PAGE_TIMEOUT_S)
    watched.page.on("console", on_console)
    watched.page.on("pageerror", lambda error: watched.problems.append(str(error)))
    watched.page.on("request", lambda request: watched.requests.append(request.url))
    return watched


def new_context(browser: Browser, *, width: int = WIDTH_PX, height: int = HEIGHT_PX) -> BrowserContext:
    """Return an empty context: a user's browser with its own storage."""
    return browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)


def wait_until(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression is true; playwright's own waiting needs `eval`, which the page forbids."""
    deadline = time.monotonic() + PAGE_TIMEOUT_S
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(POLL_INTERVAL_MS)
