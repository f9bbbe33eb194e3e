"""The files that a run is resumed from: the newest, and its predecessor in case the newest is damaged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

KEPT_RESUME_FILES = 2
PREFIX = "resume"


def newest_state(run: Path) -> dict[str, Any] | None:
    """Return the state in the newest resume file that can be read, on the CPU; remove the older files."""
    newest_first = sorted(run.glob(f"{PREFIX}_*.pt"), key=_epoch_of, reverse=True)
    for path in newest_first[KEPT_RESUME_FILES:]:
        path.unlink(missing_ok=True)
    for path in newest_first:
        try:
            saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises various errors for a damaged file
            logger.warning("%s cannot be read (%s); trying the previous one", path, type(error).__name__)
            continue
        return saved
    return None


def _epoch_of(path: Path) -> int:
    digits = "".join(character for character in path.stem if character.isdigit())
    return int(digits or 0)
