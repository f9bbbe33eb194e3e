"""What a cohort has written, for comparisons."""

from __future__ import annotations

from pathlib import Path


def files_of(out: Path) -> dict[str, bytes]:
    """Return the content of each file of the series of a cohort, by its path in the folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted((out / "series").rglob("*.dcm"))}


def leftovers(out: Path) -> list[str]:
    """Return the names of what is in the folder of the series and is no series."""
    return [path.name for path in (out / "series").iterdir() if path.name.startswith(".")]
