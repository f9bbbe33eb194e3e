"""The content of a request: uploaded files, and JSON in a form field."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fastapi import UploadFile

from ct2pet_app.errors import RequestError
from ct2pet_app.json_values import checked_json_object


def received(file: UploadFile, path: Path) -> Path:
    """Return where an uploaded file was put."""
    with path.open("wb") as kept:
        shutil.copyfileobj(file.file, kept)
    return path


def json_object(text: str, what: str) -> dict[str, Any]:
    """Return the JSON object that a form's field holds; it can be stored and sent back.

    Raises:
        RequestError: Something else, or what `checked_json_object` refuses.
    """
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{what} is not JSON: send an object of strings, numbers and lists") from error
    return checked_json_object(found, what)
