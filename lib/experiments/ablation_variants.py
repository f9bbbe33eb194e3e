"""What an ablation compares: departures from a recipe, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from lib.errors import RecipeError

REFERENCE = "reference"


@dataclass(frozen=True)
class Variant:
    """One departure from the reference recipe.

    Attributes:
        topic: What kind of choice: loss, context, augmentation, ...
        name: Of the choice, unique.
        settings: `key=value` on top of the reference.
        patients: How many of each fold's training patients are used (a learning curve); 0 takes all.
        seeds: How many networks are trained, each from another seed; the PET is the mean of theirs (an ensemble).
    """

    topic: str
    name: str
    settings: tuple[str, ...] = ()
    patients: int = 0
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.patients < 0 or self.seeds < 1:
            raise RecipeError(
                f"choice {self.name!r}: patients is at least 0 and seeds at least 1, "
                f"found {self.patients} and {self.seeds}"
            )


def read_variants(path: Path) -> tuple[Variant, ...]:
    """Return the choices of a TOML file: `[[choice]]` tables of topic and name, and any of settings, patients, seeds.

    Raises:
        RecipeError: Not such a file, or two choices of one name.
    """
    try:
        tables = tomllib.loads(path.read_text())["choice"]
        choices = tuple(Variant(**{**table, "settings": tuple(table.get("settings", ()))}) for table in tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{path}: no file of [[choice]] tables with topic and name, and any of settings, patients, seeds ({error})"
        ) from error
    names = [choice.name for choice in choices]
    if len({REFERENCE, *names}) != len(names) + 1:
        raise RecipeError(f"{path}: every choice has a name of its own, and none is called {REFERENCE!r}: {names}")
    return choices
