"""The serving log of a model: which version was served when, and why. One line of JSON each, append only.

The served file itself decides what is served; a line is added after it is in place. Where a process was killed in
between, the missing line is added before the next one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from ct2pet_app.json_values import json_object
from ct2pet_app.validation import STORED
from lib.learning.tracking.progress import read_json_lines

logger = logging.getLogger(__name__)

MAX_VERSION = 9_999_999
Action = Literal["published", "served", "rolled back", "uploaded", "found"]


@dataclass(frozen=True, config=STORED)
class Served:
    """One line of the serving log.

    Attributes:
        when: UTC, ISO 8601.
        version, checksum: Of the model served from then on.
        action: `published` after a training, `served` and `rolled back` on request, `uploaded` by PUT; `found` where a
            file was put there manually, or a process was killed before it could write its line.
        why: The reason, for display.
    """

    when: str
    version: Annotated[int, Field(gt=0, le=MAX_VERSION)]
    checksum: str
    action: Action
    why: str


def add_line(path: Path, served: Served) -> None:
    """Append a line; on a full disk only a warning is logged, because the served model has changed already."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            torn = os.fstat(handle).st_size and not path.read_bytes().endswith(b"\n")
            os.write(handle, (b"\n" if torn else b"") + json.dumps(asdict(served)).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        logger.warning("%s: version %d is served, but that could not be recorded (%s)", path, served.version, error)


def read_lines(path: Path) -> tuple[Served, ...]:
    """Return the lines, oldest first; a truncated line is skipped."""
    return read_json_lines(path, lambda line: Served(**json_object(line)))


def served_before(lines: Sequence[Served], kept: Collection[int]) -> int | None:
    """Return the version that was served before the last one, of those still kept; None if there is none.

    Rolling back twice goes back two versions: a version that was rolled back from no longer counts.
    """
    stack: list[int] = []
    for line in lines:
        if line.action == "rolled back" and line.version in stack:
            while stack[-1] != line.version:
                stack.pop()
        elif line.version in kept and stack[-1:] != [line.version]:
            stack.append(line.version)
    return stack[-2] if len(stack) > 1 else None
