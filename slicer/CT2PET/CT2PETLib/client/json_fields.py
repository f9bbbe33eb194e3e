"""Words of loose JSON: read tolerantly, for a server may be older or newer than this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from CT2PETLib.client.errors import InvalidResponseError


def plain(content: bytes) -> Any:
    """Return the JSON of an answer.

    Raises:
        AnswerError: It is none.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidResponseError("The answer is not understood: it is no JSON.") from error


def number(value: Any) -> float | None:
    """Return a number, or None where there is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def must(told: Any, key: str) -> Any:
    """Return what every answer of this kind holds.

    Raises:
        AnswerError: It does not.
    """
    if not isinstance(told, dict) or key not in told:
        raise InvalidResponseError(f"The answer is not understood: it holds no {key}.")
    return told[key]


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def word(value: Any) -> str:
    """Return a word; an empty one where there is none."""
    return "" if value is None else str(value)


def count(value: Any) -> int:
    """Return a whole number; 0 where there is none."""
    return int(value) if isinstance(value, (int, float)) else 0
