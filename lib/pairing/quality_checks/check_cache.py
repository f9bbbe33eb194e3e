"""What is known of pairs that were checked before, in one SQLite file that several processes may use at once.

A check comes with a mark of the files it was made on, so that whoever asks can tell whether they are the same still.
That somebody answers for a pair in spite of its check is remembered as long. The file may be deleted at any time: pairs
are checked again, and answers have to be given again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lib.pairing.quality_checks.alignment import shift_from_json
from lib.pairing.quality_checks.plausibility import CHECKED_AS, PairCheck
from lib.types import SeriesPair

logger = logging.getLogger(__name__)

WAIT_FOR_OTHERS_S = 10.0  # another process writes for milliseconds at a time
TABLE = """CREATE TABLE IF NOT EXISTS checked (ct TEXT, pet TEXT, files TEXT NOT NULL, checked_as INTEGER NOT NULL,
    result TEXT NOT NULL, accepted INTEGER NOT NULL, PRIMARY KEY (ct, pet))"""


@dataclass(frozen=True)
class Checked:
    """A pair's check.

    Attributes:
        files: A mark of the files that were checked.
        accepted: Whether somebody answers for the pair whatever the check says.
    """

    check: PairCheck
    files: str
    accepted: bool = False

    @property
    def is_used(self) -> bool:
        """Whether the pair is trained on."""
        return self.check.ok or self.accepted


class CheckCache:
    """The memory at a path. It never raises: at worst it knows nothing, and pairs are checked again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self, pair: SeriesPair) -> Checked | None:
        """Return what is known of a pair; None where that is nothing."""
        return self._ask(partial(_find, pair=pair)) if self._path.is_file() else None

    def remember(self, pair: SeriesPair, checked: Checked) -> None:
        """Keep what is known of a pair now; what was known before is forgotten."""
        self._ask(partial(_put, pair=pair, checked=checked))

    def _ask(self, question: Callable[[sqlite3.Connection], Checked | None]) -> Checked | None:
        """Return the answer of one transaction; trouble is told, and a file that is no database thrown away."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self._path, timeout=WAIT_FOR_OTHERS_S)) as connection, connection:
                connection.execute(TABLE)
                return question(connection)
        except sqlite3.OperationalError as error:  # locked for long, read-only, disk full: not damage
            logger.warning("%s: not used (%s); pairs are checked again", self._path, error)
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")  # it holds people's answers for pairs
            logger.warning("%s: damaged (%s); moved to %s, pairs are checked again", self._path, error, aside.name)
            with contextlib.suppress(OSError):
                self._path.replace(aside)
        except OSError as error:
            logger.warning("%s: cannot be written (%s); pairs are checked again", self._path, error)
        return None


def _find(connection: sqlite3.Connection, *, pair: SeriesPair) -> Checked | None:
    row = connection.execute(
        "SELECT result, files, accepted FROM checked WHERE ct = ? AND pet = ? AND checked_as = ?",
        (pair.ct.uid, pair.pet.uid, CHECKED_AS),
    ).fetchone()
    if row is None:
        return None
    try:
        return Checked(_check(json.loads(row[0])), str(row[1]), bool(row[2]))
    except (ValueError, TypeError, KeyError) as error:  # a row costs itself only
        logger.warning("the check of CT %s cannot be read (%s); the pair is checked again", pair.ct.uid, error)
        return None


def _check(values: dict[str, Any]) -> PairCheck:
    """Return the check that `_put` kept."""
    shift = shift_from_json(values.pop("shift"))
    return PairCheck(**{**values, "reasons": tuple(values["reasons"]), "shift": shift})


def _put(connection: sqlite3.Connection, *, pair: SeriesPair, checked: Checked) -> None:
    result = json.dumps({**asdict(checked.check), "shift": checked.check.shift.as_json()})
    row = (pair.ct.uid, pair.pet.uid, checked.files, CHECKED_AS, result, int(checked.accepted))
    connection.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?, ?, ?)", row)
