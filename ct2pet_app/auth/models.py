"""Logging in."""

from __future__ import annotations

from ct2pet_app.api_object import ApiObject


class LoginSettings(ApiObject):
    """Whether this server requires a token."""

    enabled: bool
    client_id: str
    realm: str


class Token(ApiObject):
    """A bearer token, valid for `expires_in` seconds."""

    access_token: str
    token_type: str
    expires_in: int
