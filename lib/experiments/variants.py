"""The variants of a recipe that an ablation compares, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from lib.errors import RecipeError

REFERENCE = "reference"


@dataclass(frozen=True)
class Variant:
    """One variant of the reference recipe.

    Attributes:
        topic: Kind of change: loss, context, augmentation, ...
        name: Unique name.
        settings: `key=value` changes to the reference.
        patients: Number of each fold's training patients to use, for a learning curve; 0 for all.
    """

    topic: str
    name: str
    settings: tuple[str, ...] = ()
    patients: int = 0

    def __post_init__(self) -> None:
        if self.patients < 0:
            raise RecipeError(f"variant {self.name!r}: patients must be at least 0, found {self.patients}")


def read_variants(path: Path) -> tuple[Variant, ...]:
    """Read a TOML file of `[[choice]]` tables with topic and name, and optional settings and patients.

    Raises:
        RecipeError: The file is invalid, or two variants have the same name.
    """
    try:
        tables = tomllib.loads(path.read_text())["choice"]
        variants = tuple(Variant(**{**table, "settings": tuple(table.get("settings", ()))}) for table in tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{path}: expected [[choice]] tables with topic and name, and optional settings, patients ({error})"
        ) from error
    names = [variant.name for variant in variants]
    if len({REFERENCE, *names}) != len(names) + 1:
        raise RecipeError(f"{path}: names must be unique and not {REFERENCE!r}, found {names}")
    return variants
