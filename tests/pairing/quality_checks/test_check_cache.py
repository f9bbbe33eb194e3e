"""Checks of pairs are kept, those of earlier versions too, and a cache that cannot be used is no failure."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from lib.pairing.quality_checks.check_cache import CheckCache, Checked
from lib.pairing.quality_checks.plausibility import CHECK_VERSION, PairCheck
from tests.pairing.test_split_file import pair_of

PAIR = pair_of("P0")
CHECKED = Checked(PairCheck(False, ("too far apart",)), "names:states", accepted=True)
TABLE_OF_EARLIER_VERSIONS = """CREATE TABLE checked (
    ct TEXT, pet TEXT, files TEXT NOT NULL, checked_as INTEGER NOT NULL,
    result TEXT NOT NULL, accepted INTEGER NOT NULL, PRIMARY KEY (ct, pet))"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checks.sqlite"


def rows(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT * FROM checked").fetchall()
    connection.close()
    return found


def test_a_check_is_kept_until_it_is_replaced(path: Path) -> None:
    memory = CheckCache(path)
    assert memory.known(PAIR) is None
    assert not path.exists()
    memory.remember(PAIR, CHECKED)
    assert CheckCache(path).known(PAIR) == CHECKED
    memory.remember(PAIR, replace(CHECKED, accepted=False))
    assert CheckCache(path).known(PAIR) == replace(CHECKED, accepted=False)


def test_a_decision_kept_by_an_earlier_version_is_found(path: Path) -> None:
    CheckCache(path.with_name("other")).remember(PAIR, CHECKED)
    (row,) = rows(path.with_name("other"))
    assert row[:4] == ("1.P0.1", "1.P0.2", "names:states", CHECK_VERSION)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(TABLE_OF_EARLIER_VERSIONS)
        connection.execute("INSERT INTO checked VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.close()
    assert CheckCache(path).known(PAIR) == CHECKED


def test_a_damaged_cache_is_put_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"no database" * 500)
    memory = CheckCache(path)
    assert memory.known(PAIR) is None
    assert "checks.sqlite: damaged" in caplog.text
    assert path.with_name("checks.sqlite.damaged").read_bytes() == b"no database" * 500
    memory.remember(PAIR, CHECKED)
    assert memory.known(PAIR) == CHECKED


def test_a_deleted_cache_is_built_again(path: Path) -> None:
    memory = CheckCache(path)
    memory.remember(PAIR, CHECKED)
    path.unlink()
    assert memory.known(PAIR) is None
    memory.remember(PAIR, CHECKED)
    assert len(rows(path)) == 1


def test_a_full_disk_is_no_failure_and_is_tried_again_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = CheckCache(path)
    full.remember(PAIR, CHECKED)
    connection = full._cache._open()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    many = pair_of("x" * 20_000)
    full.remember(many, CHECKED)
    full.remember(many, CHECKED)
    assert caplog.text.count("database or disk is full") == 1  # paused meanwhile
    monkeypatch.setattr("lib.sqlite_cache.time.monotonic", lambda: float("inf"))
    full.remember(many, CHECKED)
    assert full.known(many) == CHECKED
