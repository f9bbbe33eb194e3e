"""The review page in Chromium: its requests, its console and the pixels of its slice views."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page

from scripts.review_page.browser import PAGE_TIMEOUT_S, wait_until_rendered

VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
POLL_INTERVAL_MS = 100
SETTLED_POLLS = 10  # unchanged screenshots in a row, after which nothing more is rendered
Views = dict[str, np.ndarray]


@dataclass(frozen=True)
class ReviewPage:
    """The page on screen.

    Attributes:
        url: Its address, with the key.
        log: Standard error of the script.
        console_errors: Errors and warnings of the console, and uncaught exceptions.
        requests: URLs of all requests, those of WebSockets too.
    """

    page: Page
    url: str
    log: Path
    console_errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Record console and requests, and load the page."""

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning", "assert"):
                self.console_errors.append(message.text)

        self.page.on("console", on_console)
        self.page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.goto(self.url)
        wait_until_rendered(self.page)


def view_pixels(page: Page, view: str) -> np.ndarray:
    """Return the middle of a view, without labels and sliders, shape (rows, columns, RGB), 0 to 255."""
    screenshot = Image.open(io.BytesIO(page.locator(f"#view-{view}").screenshot())).convert("RGB")
    pixels = np.asarray(screenshot, dtype=np.float64)
    rows, columns, _ = pixels.shape
    return pixels[rows // 4 : -rows // 4, columns // 4 : -columns // 4]


def all_view_pixels(page: Page) -> Views:
    """Return the middle of each view."""
    return {view: view_pixels(page, view) for view in VIEWS}


def wait_for_views(page: Page, condition: Callable[[Views], bool]) -> Views:
    """Return the middle of each view once they fulfil a condition."""
    deadline = time.monotonic() + PAGE_TIMEOUT_S
    while not condition(pixels := all_view_pixels(page)):
        assert time.monotonic() < deadline, "the views do not show what is expected"
        page.wait_for_timeout(POLL_INTERVAL_MS)
    return pixels


def wait_until_settled(page: Page) -> Views:
    """Return the middle of each view once none of them changes any more."""
    unchanged_polls, last = 0, all_view_pixels(page)

    def is_settled(views: Views) -> bool:
        nonlocal unchanged_polls, last
        unchanged_polls = unchanged_polls + 1 if are_equal(views, last) else 0
        last = views
        return unchanged_polls >= SETTLED_POLLS

    return wait_for_views(page, is_settled)


def are_equal(views: Views, others: Views) -> bool:
    """Return whether all views have equal pixels."""
    return all((views[view] == others[view]).all() for view in VIEWS)


def saturation(pixels: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from grey: 0 where only the CT is visible."""
    return pixels.max(axis=-1) - pixels.min(axis=-1)


def are_grey(views: Views) -> bool:
    """Return whether only the CT is visible in all views."""
    return all(saturation(pixels).max() <= 1 for pixels in views.values())


def press(page: Page, key: str, *, slider: str, times: int = 1) -> None:
    """Press a key on the thumb of a slider (a CSS selector); on the upper one of a range."""
    for _ in range(times):
        page.locator(f"{slider} [role=slider]").last.press(key)
