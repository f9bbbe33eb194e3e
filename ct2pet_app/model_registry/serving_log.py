"""What was served when, and why: a file that only grows, one line of JSON each time, for people to read.

The served file itself says what is served now; a line is added after it is in place. A process that is killed in
between leaves a line out, which is made up for before the next one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ct2pet_app.server.json_values import json_object
from lib.learning.tracking.progress import read_json_lines

logger = logging.getLogger(__name__)

MAX_VERSION = 9_999_999
Action = Literal["published", "served", "rolled back", "uploaded", "found"]


@dataclass(frozen=True)
class Served:
    """One line.

    Attributes:
        when: UTC, ISO 8601.
        version, checksum: What was served from then on.
        action: `published` after a training, `served` and `rolled back` on request, `uploaded` by PUT; `found` where a
            file was put there by hand, or a process was killed before it could write its line.
        why: In words.
    """

    when: str
    version: int
    checksum: str
    action: Action
    why: str


def add_line(path: Path, served: Served) -> None:
    """Add a line; on a full disk a warning in the log takes its place, for what is served has changed already."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            torn = os.fstat(handle).st_size and not path.read_bytes().endswith(b"\n")
            os.write(handle, (b"\n" if torn else b"") + json.dumps(asdict(served)).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        logger.warning("%s: version %d is served, but that cannot be written down (%s)", path, served.version, error)


def read_lines(path: Path) -> tuple[Served, ...]:
    """Return the lines, oldest first; one that was cut off is left out."""
    return read_json_lines(path, lambda line: _served(json_object(line)))


def _served(record: Mapping[str, Any]) -> Served:
    """Return a line; TypeError or ValueError where it is none of ours."""
    served = Served(**record)
    texts = (served.when, served.checksum, served.why)
    if (
        type(served.version) is not int
        or not 0 < served.version <= MAX_VERSION
        or not all(isinstance(text, str) for text in texts)
    ):
        raise ValueError("a value of another type")
    if served.action not in get_args(Action):
        raise ValueError("an unknown action")
    return served


def served_before(lines: Sequence[Served], kept: Collection[int]) -> int | None:
    """Return the version that was served before the last one, of those still kept; None where there is none.

    Going back twice goes back twice: what was rolled back from does not count any more.
    """
    stack: list[int] = []
    for line in lines:
        if line.action == "rolled back" and line.version in stack:
            while stack[-1] != line.version:
                stack.pop()
        elif line.version in kept and stack[-1:] != [line.version]:
            stack.append(line.version)
    return stack[-2] if len(stack) > 1 else None
