"""Base class of the response models.

They are typed dictionaries, which pydantic validates and describes as it does its own models: a response has the keys
that its handler sets, and thousands of entries take no longer than plain dictionaries.
"""

from __future__ import annotations

from pydantic import with_config
from typing_extensions import TypedDict  # pydantic does not accept that of typing before Python 3.12


@with_config(extra="allow")
class ApiObject(TypedDict):
    """A JSON object of the API; keys beyond those described are passed on."""


class Empty(ApiObject):
    """An object without keys."""
