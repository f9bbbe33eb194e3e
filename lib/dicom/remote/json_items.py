"""Streaming parser of the items of a DICOM JSON array (PS3.18 F.2), without the entire body in memory.

Parsed JSON can take thirty times its size in memory. Hence the number of values of an item is checked before parsing.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

MAX_ITEM_CHARACTERS = 2**24  # a multi-frame instance of 3,000 frames has 12 million
MAX_ITEM_VALUES = 10**6  # of about 100 bytes each in memory; 3,000 frames have about 900,000
SPACE = re.compile(r"[ \t\r\n\ufeff]*")
# NaN and Infinity are not JSON (RFC 8259) but an extension of Python; they are treated as missing values
ENDS = tuple(",]} \t\r\n")  # of a number
DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def json_items(chunks: Iterable[bytes]) -> Iterator[Any]:
    """Yield the items of a JSON array; any other value itself; nothing for an empty body.

    Raises:
        ValueError: The content is not JSON, or an item is too large.
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
        """Return the next character that is not white space, without consuming it; empty at the end."""
        while True:
            self._at = SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read(1):
                return ""

    def skip_character(self) -> None:
        """Consume one character."""
        self._at += 1

    def take_value(self) -> Any:
        """Consume and return one JSON value."""
        while True:
            values = sum(self._text.count(separator, self._at) for separator in ",[{")
            if values > MAX_ITEM_VALUES:
                raise ValueError(f"an item has more than {MAX_ITEM_VALUES} values")
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._read(len(self._text) - self._at):  # doubling limits the total cost of repeated parsing
                    raise
                continue
            if isinstance(value, int | float) and self._text[end : end + 1] not in ENDS and self._read(1):
                continue  # a number may continue
            self._at = end
            return value

    def _read(self, count: int) -> bool:
        """Read at least `count` more characters, unless the stream ends; return whether any were read."""
        pieces = [self._text[self._at :]]
        received = 0
        while received <= count:
            piece = next(self._pieces, None)
            if piece is None:
                break
            pieces.append(piece)
            received += len(piece)
        self._text, self._at = "".join(pieces), 0
        if received and len(self._text) > 2 * MAX_ITEM_CHARACTERS:
            raise ValueError(f"an item is longer than {MAX_ITEM_CHARACTERS} characters, or no JSON")
        return received > 0
