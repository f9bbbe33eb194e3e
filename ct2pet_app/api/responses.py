"""What the endpoints that do not answer with plain JSON answer with, as the description of the API says it."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

Responses = dict[int | str, dict[str, Any]]


def file_response(*media_types: str) -> dict[str, Any]:
    """Return the arguments of `add_api_route` for an endpoint that always sends a file, of one of these types."""
    return {**file_or_json(*media_types), "response_class": Response}


def file_or_json(*media_types: str) -> dict[str, Any]:
    """Return the arguments of `add_api_route` for an endpoint that sends JSON, or a file of one of these types."""
    content: dict[str, Any] = {media_type: {} for media_type in media_types or ("application/octet-stream",)}
    responses: Responses = {200: {"description": "The file", "content": content}}
    return {"responses": responses}
