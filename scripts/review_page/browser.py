"""A page in headless Chromium, driven over two pipes: nothing to install beside Chromium, and no port is opened.

Chromium speaks its DevTools protocol over the file descriptors 3 and 4 (`--remote-debugging-pipe`), as JSON with a zero
byte after each message. Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
VARIABLE = "CT2PET_CHROMIUM"
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--disable-gpu", "--force-device-scale-factor=1", "--password-store=basic",
)  # fmt: skip
ANSWER_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.1
# DevTools' name, and the number that tells Windows' key, which pages still ask for
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Tab": 9}


class BrowserError(Exception):
    """There is no browser, or the page did not do what was waited for."""


def find_chromium() -> str:
    """Return the path of Chromium; empty where there is none."""
    named = os.environ.get(VARIABLE, "")
    return next(filter(None, (shutil.which(name) for name in (named, *PROGRAMS) if name)), "")


class Page:
    """The one page of a browser.

    Attributes:
        complaints: What the page wrote to its console as error or warning, and what it threw.
        asked: Addresses of all that it loaded.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        """Speak over these file descriptors."""
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._read_fd, self._write_fd = read_fd, write_fd
        self._come = b""
        self._number = 0
        self._session = ""

    def open(self, url: str, *, width: int, height: int) -> None:
        """Load an address in a window of so many pixels."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._ask("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression, as JSON has it.

        Raises:
            BrowserError: The page threw.
        """
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script[:200]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, script: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Return the value of a JavaScript expression once it is true.

        Raises:
            BrowserError: It never was.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            value = self.evaluate(script)
            if value:
                return value
            self.rest()
        raise BrowserError(f"not within {timeout_s:.0f} s: {script[:300]}; the page's complaints: {self.complaints}")

    def rest(self) -> None:
        """Let the page go on for a moment."""
        time.sleep(POLL_INTERVAL_S)

    def picture(self, of: str = "") -> bytes:
        """Return the window as PNG, or the part that an element (a CSS selector) takes."""
        clip = {}
        if of:
            box = self.evaluate(
                f"(() => {{ const b = document.querySelector({json.dumps(of)}).getBoundingClientRect();"
                " return {x: b.x, y: b.y, width: b.width, height: b.height}; })()"
            )
            clip = {"clip": {**box, "scale": 1}}
        return base64.b64decode(self._ask("Page.captureScreenshot", format="png", **clip)["data"])

    def press(self, key: str, *, at: str, times: int = 1) -> None:
        """Press a key of `KEYS` on an element (a CSS selector)."""
        self.evaluate(f"document.querySelector({json.dumps(at)}).focus()")
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def _ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_fd, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            told = self._next(deadline, method)
            if told.get("id") != self._number:
                self._take_note(told)
            elif "error" in told:
                raise BrowserError(f"{method}: {told['error'].get('message')}")
            else:
                return dict(told["result"])

    def _next(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._come:
            ready, _, _ = select.select([self._read_fd], [], [], max(0.0, deadline - time.monotonic()))
            some = os.read(self._read_fd, 1 << 20) if ready else b""
            if not some:
                why = "has ended" if ready else f"did not answer within {ANSWER_TIMEOUT_S:.0f} s"
                raise BrowserError(f"Chromium {why} ({method})")
            self._come += some
        first, _, self._come = self._come.partition(b"\0")
        return dict(json.loads(first))

    def _take_note(self, told: dict[str, Any]) -> None:
        method, of = told.get("method"), told.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(of["exceptionDetails"].get("exception", {}).get("description", of)))
        elif method == "Runtime.consoleAPICalled" and of["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in of["args"]))
        elif method == "Log.entryAdded" and of["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{of['entry']['text']} {of['entry'].get('url', '')}")
        elif method in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            self.asked.append(of["request"]["url"] if "request" in of else of["url"])


@contextlib.contextmanager
def browsing(url: str, *, width: int = 1500, height: int = 900) -> Iterator[Page]:
    """Open an address in a Chromium without a window; it is ended, and its profile deleted, whatever happens.

    Raises:
        BrowserError: There is no Chromium.
    """
    program = find_chromium()
    if not program:
        raise BrowserError(f"there is no Chromium; on Debian: apt-get install chromium, or name one in {VARIABLE}")
    to_child, from_child = os.pipe(), os.pipe()
    # away from 3 and 4, which they become in the child
    theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_child[0], from_child[1])]

    def as_three_and_four() -> None:
        """Give the child its ends of the pipes where it looks for them."""
        os.dup2(theirs[0], 3)
        os.dup2(theirs[1], 4)

    with tempfile.TemporaryDirectory(prefix="ct2pet-browser-", ignore_cleanup_errors=True) as profile:
        # Chromium's sandbox does not start as root, as in a container; the only page it opens is ours
        alone = ("--no-sandbox",) if os.geteuid() == 0 else ()
        process = subprocess.Popen(
            [program, *FLAGS, *alone, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(3, 4), preexec_fn=as_three_and_four, start_new_session=True,
        )  # fmt: skip
        for fd in (to_child[0], from_child[1], *theirs):
            os.close(fd)
        try:
            page = Page(from_child[0], to_child[1])
            page.open(url, width=width, height=height)
            yield page
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(to_child[1])
            os.close(from_child[0])
