"""What is known of pairs that were checked before, in one SQLite file that several processes may use at once.

A check comes with a mark of the files it was made on, so that whoever asks can tell whether they are the same still.
That somebody answers for a pair in spite of its check is remembered as long. The file may be deleted at any time: pairs
are checked again, and answers have to be given again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lib.pairing.quality_checks.alignment import shift_from_json
from lib.pairing.quality_checks.plausibility import CHECK_VERSION, PairCheck
from lib.sqlite_cache import SqliteCache
from lib.types import SeriesPair

logger = logging.getLogger(__name__)

TABLE = """CREATE TABLE checked (ct TEXT, pet TEXT, files TEXT NOT NULL, checked_as INTEGER NOT NULL,
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
    """The memory at a path. It never raises: at worst it is empty, and pairs are checked again."""

    def __init__(self, path: Path) -> None:
        # synchronous: it holds people's decisions
        self._cache = SqliteCache(path, (TABLE,), version=0, fallback="pairs are checked again", synchronous="FULL")

    def known(self, pair: SeriesPair) -> Checked | None:
        """Return what is known of a pair; None where that is nothing."""
        return self._cache.run(partial(_find, pair=pair)) if self._cache.path.is_file() else None

    def remember(self, pair: SeriesPair, checked: Checked) -> None:
        """Keep what is known of a pair now; what was known before is forgotten."""
        self._cache.run(partial(_put, pair=pair, checked=checked))


def _find(connection: sqlite3.Connection, *, pair: SeriesPair) -> Checked | None:
    row = connection.execute(
        "SELECT result, files, accepted FROM checked WHERE ct = ? AND pet = ? AND checked_as = ?",
        (pair.ct.uid, pair.pet.uid, CHECK_VERSION),
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
    row = (pair.ct.uid, pair.pet.uid, checked.files, CHECK_VERSION, result, int(checked.accepted))
    connection.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?, ?, ?)", row)
