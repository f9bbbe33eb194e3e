"""JSON that a task's process or a list of runs depends on: short and flat in requests, whole or left out in files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2pet_app.errors import RequestError
from ct2pet_app.server.json_values import checked_json_object, stored_json_object

logger = logging.getLogger(__name__)

MAX_TEXT = 10_000  # characters of one text in a request
MAX_DEPTH = 8
MAX_FILE_BYTES = 16 * 1024 * 1024


def require_plain(params: Mapping[str, Any]) -> None:
    """Return where the parameters of a task are short, flat, and free of what cannot be stored or sent back.

    Raises:
        RequestError: One is not; the message names its key.
    """
    for key, value in params.items():
        what = ascii(str(key)[:40])
        checked_json_object({key: value}, what)
        if _depth(value, at_most=MAX_DEPTH) > MAX_DEPTH:
            raise RequestError(f"{what}: nested more than {MAX_DEPTH} levels deep; expected a text, a number or a list")
        for text in _texts(value):
            if len(text) > MAX_TEXT or any(sign in text for sign in "\n\r\t"):
                raise RequestError(f"{what}: expected one line of at most {MAX_TEXT} characters")


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object that was stored, repaired where it could not be sent.

    Raises:
        ValueError: The text is none, or is nested too deeply.
    """
    value = stored_json_object(text)
    if value is None or _depth(value, at_most=MAX_DEPTH) > MAX_DEPTH:
        raise ValueError("no JSON object of ours")
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


def _depth(value: Any, *, at_most: int) -> int:
    """Return how deep a value is nested, or a number above the limit; never recurses."""
    level, depth = [value], 1
    while depth <= at_most:
        level = [part for one in level for part in _parts(one)]
        if not level:
            return depth
        depth += 1
    return depth


def _texts(value: Any) -> list[str]:
    pending, texts = [value], []
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            texts.append(one)
        pending += _parts(one)
    return texts


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple) else []
