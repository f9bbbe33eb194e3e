"""JSON from outside, as requests and files hold it: taken only where it can be sent back to every client.

Python reads more than JSON allows, and more than it can write again: NaN, halves of characters (lone surrogates),
nesting without end. One such value in a record makes every response that lists the record fail.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2pet_app.errors import RequestError

logger = logging.getLogger(__name__)

MAX_DEPTH = 8
MAX_VALUES = 10_000
MAX_TEXT = 10_000  # characters of one text in a request
MAX_KEY = 100
MAX_INTEGER = 2**53  # larger ones are not the same number in every client
MAX_FILE_BYTES = 16 * 1024 * 1024


def require_plain(params: Mapping[str, Any]) -> None:
    """Return where the parameters of a request are short, flat and free of what cannot be stored or sent back.

    Raises:
        RequestError: A value is not; the message names its key.
    """
    for key, value in params.items():
        why = _why_not(key, limit=MAX_KEY) or why_unsendable(value, max_text=MAX_TEXT)
        if why:
            raise RequestError(f"{str(key)[:40]!a}: {why}")


def why_unsendable(value: Any, *, max_text: int | None = None) -> str:
    """Return why a JSON value cannot be taken; empty where it can. Never recurses, however deep the value is."""
    waiting = [(value, 1)]
    seen = 0
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES and max_text is not None:
            return f"holds more than {MAX_VALUES} values"
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} deep; expected a text, a number or a list of these"
        if isinstance(one, Mapping):
            waiting += [(part, depth + 1) for item in one.items() for part in item]
        elif isinstance(one, list | tuple):
            waiting += [(part, depth + 1) for part in one]
        else:
            why = _why_not(one, limit=max_text)
            if why:
                return why
    return ""


def to_sendable(value: Any) -> Any:
    """Return a value as JSON can hold it: None for a number that is not finite, `?` for half of a character."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {to_sendable(key): to_sendable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_sendable(part) for part in value]
    return value


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file; None, and a line in the log, where it is damaged; None where there is no file.

    A damaged file costs what it says, and nothing else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("too large")
        return json_object(content.decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged and left out (%s)", path.name, type(error).__name__)
        return None


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError: The text is none, or one that could not be sent back.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    why = why_unsendable(value)
    if why:
        raise ValueError(why)
    return value


def _why_not(value: Any, *, limit: int | None) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int):
        return "" if abs(value) <= MAX_INTEGER else f"expected a number up to {MAX_INTEGER}"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"expected a finite number, found {value}"
    if not isinstance(value, str):
        return f"expected a text or a number, found {type(value).__name__}"
    if limit is not None and len(value) > limit:
        return f"expected at most {limit} characters, found {len(value)}"
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        return "holds half of a character (a lone surrogate)"
    if limit is not None and any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        return "holds a control character"
    return ""
