"""The items of a DICOM JSON array (PS3.18 F.2), one at a time as they arrive: neither the body nor all of them is held.

What is parsed of a body can take thirty times its size. So an item is refused by the number of its values first.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

MAX_ITEM_CHARACTERS = 2**24  # a multi-frame instance of 3,000 frames has 12 million
MAX_ITEM_VALUES = 10**6  # of about 100 bytes each in memory; 3,000 frames have some 900,000
SPACE = re.compile(r"[ \t\r\n\ufeff]*")
# NaN and Infinity are no JSON (RFC 8259), but Python's own word for numbers that are none: a value that is missing
DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def json_items(chunks: Iterable[bytes]) -> Iterator[Any]:
    """Yield the items of a JSON array; of any other value that value alone, of an empty body nothing.

    Raises:
        ValueError: No JSON, or an item that is too large.
        RecursionError: An item is nested too deeply.
    """
    stream = _Stream(chunks)
    first = stream.next_character()
    if first not in ("", "["):
        yield stream.take_value()
        return
    while first:
        stream.skip_character()
        if stream.next_character() == "]":
            return
        yield stream.take_value()
        first = stream.next_character()
        if first == "]":
            return
        if first != ",":
            raise ValueError(f"expected , or ] between the items of an array, found {first!r:.8}")


class _Stream:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._pieces = codecs.iterdecode(chunks, "utf-8", errors="replace")
        self._text, self._at = "", 0

    def next_character(self) -> str:
        """Return the next character that is no white space, without taking it; empty at the end."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read(1):
                return ""

    def skip_character(self) -> None:
        """Take one character."""
        self._at += 1

    def take_value(self) -> Any:
        """Take one JSON value."""
        while True:
            values = sum(self._text.count(mark, self._at) for mark in ",[{")
            if values > MAX_ITEM_VALUES:
                raise ValueError(f"an item holds more than {MAX_ITEM_VALUES} values")
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._read(len(self._text) - self._at):  # as much again: parsed anew, it costs twice at most
                    raise
                continue
            if end == len(self._text) and self._read(1):  # a number may go on
                continue
            self._at = end
            return value

    def _read(self, count: int) -> bool:
        """Read at least so many characters more, unless it ends before; return whether any came."""
        pieces = [self._text[self._at :]]
        come = 0
        while come <= count:
            piece = next(self._pieces, None)
            if piece is None:
                break
            pieces.append(piece)
            come += len(piece)
        self._text, self._at = "".join(pieces), 0
        if come and len(self._text) > 2 * MAX_ITEM_CHARACTERS:
            raise ValueError(f"an item is longer than {MAX_ITEM_CHARACTERS} characters, or no JSON")
        return come > 0
