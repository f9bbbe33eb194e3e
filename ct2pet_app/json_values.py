"""Validate JSON that clients send, and repair JSON that is sent back.

Whatever passes `checked_json_object` can be stored, read and returned as strict JSON in UTF-8. `sendable` is for values
of another origin: files on disk, DICOM headers, and what older versions stored without validation.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2pet_app.errors import RequestError

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_BYTES = 64 * 1024  # of one object, as JSON
MAX_DEPTH = 12
MAX_VALUES = 4096  # keys, numbers and strings of one object, counted together
MAX_KEY_CHARACTERS = 200
MAX_LINE_CHARACTERS = 10_000  # of a parameter of a task
MAX_INTEGER = 2**63 - 1
SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile("[\x00-\x1f\x7f]")  # not in keys
CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # tab, line feed and carriage return are text
REPLACEMENT = "\ufffd"


def checked_json_object(value: Any, what: str, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return a JSON object that can be stored and sent back.

    Args:
        value: As parsed from JSON.
        what: The name of the field, for the error.
        max_bytes: Of the object as JSON.

    Raises:
        RequestError: Not an object; numbers that are not finite or too large; lone surrogates or control characters;
            nested too deeply; too many values; too many bytes.
    """
    if not isinstance(value, dict):
        raise RequestError(f'{what} is a JSON object such as {{"slices": "10:20"}}, found {shown(value)}')
    _refuse_unsendable(value, what)
    size = len(json.dumps(value))
    if size > max_bytes:
        raise RequestError(f"{what}: {size} bytes as JSON, at most {max_bytes} are accepted")
    return value


def require_plain(params: Mapping[str, Any]) -> None:
    """Return when each parameter of a request is one line of text, or values that can be stored and sent back.

    Raises:
        RequestError: As `checked_json_object`; the message names the key.
    """
    for key, value in params.items():
        _refuse_key(key, "params")
        _refuse_unsendable(value, key, refused=CONTROL, max_characters=MAX_LINE_CHARACTERS)


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text holds.

    Raises:
        ValueError: It holds none, or one that could not be sent back.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    if sendable(found) != found:
        raise ValueError("holds values that JSON in UTF-8 cannot carry")
    return found


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file; None, with a line in the log, where it is damaged; None without a file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("too large")
        return json_object(content.decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s is damaged and left out (%s)", path.name, type(error).__name__)
        return None


def sendable(value: Any) -> Any:
    """Return a copy that strict JSON can hold: lone surrogates become U+FFFD, numbers that JSON lacks null."""
    if isinstance(value, str):
        return value if value.isascii() else SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, int):
        return value if abs(value) <= MAX_INTEGER else None
    if value is None:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {sendable(str(key)): sendable(member) for key, member in value.items()}
    if isinstance(value, tuple):
        return tuple(sendable(member) for member in value)
    if isinstance(value, list | set | frozenset):
        return [sendable(member) for member in value]
    return sendable(str(value))


def stored_json_object(text: Any) -> dict[str, Any] | None:
    """Return the object that was stored as JSON, repaired where it cannot be sent; None where it is no object."""
    try:
        found = json.loads(text)
        return sendable(found) if isinstance(found, dict) else None
    except (ValueError, TypeError, RecursionError):
        return None


def shown(value: Any) -> str:
    """Return the start of a value, in ASCII."""
    try:
        return ascii(value)[:60]
    except (ValueError, RecursionError):  # a number with thousands of digits, or nested too deeply
        return type(value).__name__


def _refuse_unsendable(
    value: Any, what: str, *, refused: re.Pattern[str] = CONTROL_IN_TEXT, max_characters: int = MAX_BYTES
) -> None:
    """Walk all members without recursion, so that depth is refused rather than met."""
    pending: list[tuple[Any, int]] = [(value, 1)]
    count = 0
    while pending:
        member, depth = pending.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise RequestError(f"{what}: nested more than {MAX_DEPTH} levels deep")
        if count > MAX_VALUES:
            raise RequestError(f"{what}: more than {MAX_VALUES} values")
        if isinstance(member, dict):
            for key in member:
                _refuse_key(key, what)
            pending += [(inner, depth + 1) for inner in member.values()]
        elif isinstance(member, list):
            pending += [(inner, depth + 1) for inner in member]
        else:
            _refuse_scalar(member, what, refused, max_characters)


def _refuse_key(key: Any, what: str) -> None:
    if not isinstance(key, str) or len(key) > MAX_KEY_CHARACTERS or SURROGATE.search(key) or CONTROL.search(key):
        raise RequestError(
            f"{what}: key {shown(key)}: give text of at most {MAX_KEY_CHARACTERS} characters without control "
            "characters or lone surrogates"
        )


def _refuse_scalar(value: Any, what: str, refused: re.Pattern[str], max_characters: int) -> None:
    if isinstance(value, str):
        if len(value) > max_characters:
            raise RequestError(f"{what}: {len(value)} characters, at most {max_characters} are accepted")
        if SURROGATE.search(value) or refused.search(value):
            raise RequestError(f"{what}: {shown(value)} holds control characters or lone surrogates, which JSON in "
                               "UTF-8 cannot carry; leave them out")  # fmt: skip
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RequestError(f"{what}: {value} is not a finite number")
    elif isinstance(value, int):  # bool included
        if abs(value) > MAX_INTEGER:
            raise RequestError(f"{what}: a whole number beyond 64 bits")
    elif value is not None:
        raise RequestError(f"{what}: {type(value).__name__} is no JSON value")
