"""How far it is, for the person in front of the terminal: one line that is rewritten, or lines where it is a file."""

from __future__ import annotations

import sys
from typing import TextIO

WIDTH = 28
STEP = 0.25  # of a line in a file


class Progress:
    """A bar for each thing that is waited for."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream; the standard error where none is given."""
        self._stream = stream or sys.stderr
        self._rewrites = self._stream.isatty()
        self._what = ""
        self._told = -1.0
        self._line = ""

    def show(self, what: str, fraction: float, words: str) -> None:
        """Tell that a fraction, 0 to 1, of something is done; once all of it is, the line stays."""
        fraction = min(1.0, max(0.0, fraction))
        if what != self._what:
            self._end_line()
            self._what, self._told = what, -1.0
        if not self._rewrites:
            if self._told < 0 or fraction - self._told >= STEP or (fraction >= 1 > self._told):
                self._told = fraction
                self._stream.write(f"{what}: {fraction:.0%}, {words}\n")
                self._stream.flush()
            return
        full = round(fraction * WIDTH)
        line = f"{what:14s} [{'#' * full}{'.' * (WIDTH - full)}] {words}"
        if line != self._line:
            self._stream.write(f"\r{line}\033[K")
            self._stream.flush()
            self._line = line

    def say(self, sentence: str) -> None:
        """Tell a sentence, in a line of its own."""
        self._end_line()
        self._stream.write(f"{sentence}\n")
        self._stream.flush()

    def _end_line(self) -> None:
        if self._line:
            self._stream.write("\n")
            self._line = ""
