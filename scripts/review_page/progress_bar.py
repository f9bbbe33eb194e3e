"""Progress in the terminal: one line that is rewritten, or several lines if the output is a file."""

from __future__ import annotations

import sys
from typing import TextIO

WIDTH = 28
FILE_STEP = 0.25  # fraction after which another line is written to a file


class ProgressBar:
    """A bar for each step of the work."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream, by default to standard error."""
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._label = ""
        self._last_fraction = -1.0
        self._line = ""

    def show(self, label: str, fraction: float, details: str) -> None:
        """Show that a fraction, 0 to 1, of a step is done."""
        fraction = min(1.0, max(0.0, fraction))
        if label != self._label:
            self._end_line()
            self._label, self._last_fraction = label, -1.0
        if not self._is_terminal:
            last = self._last_fraction
            if last < 0 or fraction - last >= FILE_STEP or (fraction >= 1 > last):
                self._last_fraction = fraction
                self._write(f"{label}: {fraction:.0%}, {details}\n")
            return
        full = round(fraction * WIDTH)
        line = f"{label:14s} [{'#' * full}{'.' * (WIDTH - full)}] {details}"
        if line != self._line:
            self._write(f"\r{line}\033[K")
            self._line = line

    def print_line(self, message: str) -> None:
        """Write a message on a line of its own."""
        self._end_line()
        self._write(f"{message}\n")

    def _end_line(self) -> None:
        if self._line:
            self._write("\n")
            self._line = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
