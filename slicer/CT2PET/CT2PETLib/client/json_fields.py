"""Conversion of untyped JSON values. Tolerant, as the server may be older or newer than this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.i18n import _


def parse_json(content: bytes) -> Any:
    """Return the JSON of a response.

    Raises:
        InvalidResponseError: The content is not JSON.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidResponseError(_("Invalid response: expected JSON.")) from error


def require(data: Any, key: str) -> Any:
    """Return the value of a key that every response of this kind has.

    Raises:
        InvalidResponseError: The key is missing.
    """
    if not isinstance(data, dict) or key not in data:
        raise InvalidResponseError(_("Invalid response: {key} is missing.").format(key=key))
    return data[key]


def as_float(value: Any) -> float | None:
    """Return a number as float; None for anything else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def as_int(value: Any) -> int:
    """Return a number as integer; 0 for anything else."""
    return int(value) if isinstance(value, (int, float)) else 0


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_str(value: Any) -> str:
    """Return a value as text; empty for None."""
    return "" if value is None else str(value)
