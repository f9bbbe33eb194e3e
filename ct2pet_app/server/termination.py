"""Call a function at SIGTERM or SIGINT; uvicorn itself first waits for all running requests."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_termination(close: Callable[[], None]) -> None:
    """Call `close` in a thread at SIGTERM and SIGINT, before the existing handlers; to be called in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):
            signal.signal(number, _then(close, before))


def _then(close: Callable[[], None], before: Callable[[int, FrameType | None], object]) -> Callable[..., None]:
    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=close, name="termination", daemon=True).start()
        before(number, frame)

    return handle
