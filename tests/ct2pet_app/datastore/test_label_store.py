"""The store of uploads and labels: readers see complete files, damage is tolerated, and no file is left over."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.datastore.labels.label_store import LabelStore
from ct2pet_app.datastore.labels.label_table import LabelTable
from ct2pet_app.errors import BusyError, RequestError
from lib.errors import OutputError

BYTES = 200_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "labels"


@pytest.fixture
def label_store(folder: Path) -> LabelStore:
    return LabelStore(folder)


def given(tmp_path: Path, number: int = 1) -> Path:
    path = tmp_path / f"given{number}"
    path.write_bytes(bytes([number]) * BYTES)
    return path


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"contents.sqlite"}


def executed(folder: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(folder / "contents.sqlite") as connection:
        connection.execute(statement, values)
    connection.close()


def test_readers_see_complete_labels_while_one_is_saved_repeatedly(label_store: LabelStore, tmp_path: Path) -> None:
    """Before: 416 of 775 reads failed, 317 were torn."""
    versions = [given(tmp_path, number) for number in range(8)]
    label_store.keep_label("CT", "synthesized", versions[0], ".nrrd", {})
    saved, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        while not saved.is_set():
            opened = label_store.open_file("CT", "synthesized")
            if opened is None:
                wrong.append("gone")
                return
            with opened[1] as file:
                content = file.read()
            seen.add(content[0])
            if len(content) != BYTES or len(set(content)) != 1:
                wrong.append("torn")

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        for path in versions:
            label_store.keep_label("CT", "synthesized", path, ".nrrd", {})
    saved.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(seen) > 1, "no read happened while it was saved"
    assert len(files_in(folder=tmp_path / "labels")) == 1


def test_an_open_label_stays_readable_when_it_is_removed(label_store: LabelStore, folder: Path, tmp_path: Path) -> None:
    label_store.keep_label("CT", "synthesized", given(tmp_path), ".nrrd", {})
    opened = label_store.open_file("CT", "synthesized")
    assert opened is not None
    label_store.drop("CT", "synthesized")
    with opened[1] as file:
        assert len(file.read()) == BYTES
    assert files_in(folder) == set()
    assert label_store.open_file("CT", "synthesized") is None


def test_what_no_row_names_goes_at_the_next_start_and_nothing_of_a_living_writer(
    label_store: LabelStore, folder: Path, tmp_path: Path
) -> None:
    from lib.files import unfinished_file

    label_store.keep_label("CT", "synthesized", given(tmp_path), ".nrrd", {})
    kept = files_in(folder)
    (folder / f"{'0' * 32}.nrrd").write_bytes(b"killed between file and row")
    (folder / f".{'1' * 32}.nrrd").write_bytes(b"killed while it was copied")
    (folder / "by hand.txt").write_text("not ours")
    with unfinished_file(folder, ".nrrd") as begun:
        LabelStore(folder).remove_leftovers()
        assert files_in(folder) == {*kept, begun.name, "by hand.txt"}


def test_a_full_disk_leaves_nothing(
    label_store: LabelStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_store.keep_label("CT", "synthesized", given(tmp_path), ".nrrd", {})
    kept = files_in(folder)
    executed(folder, "PRAGMA user_version = 1")
    monkeypatch.setattr("ct2pet_app.datastore.labels.label_store.put_record", _full)
    with pytest.raises(OutputError, match="cannot be written"):
        label_store.keep_label("CT", "synthesized", given(tmp_path, 2), ".nrrd", {})
    assert files_in(folder) == kept
    assert [label.path.name for label in label_store.labels()] == list(kept)


def _full(*_: Any) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"  # type: ignore[misc]
    raise error


@pytest.mark.parametrize("damage", ["garbage", "truncated", "another table"])
def test_a_damaged_table_costs_itself_and_is_kept_with_its_files(
    label_store: LabelStore, folder: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    label_store.keep_label("CT", "synthesized", given(tmp_path), ".nrrd", {})
    (name,) = files_in(folder)
    table = folder / "contents.sqlite"
    if damage == "garbage":
        table.write_bytes(b"\xff" * 9000)
    elif damage == "truncated":
        table.write_bytes(table.read_bytes()[:5000])
    else:
        table.unlink()
        executed(folder, "CREATE TABLE kept (x)")
    fresh = LabelStore(folder)
    fresh.remove_leftovers()
    assert fresh.labels() == () and fresh.uploads() == {} and fresh.all_notes() == {}
    (aside,) = folder.glob("damaged-*")
    assert (aside / name).read_bytes() == b"\1" * BYTES
    assert caplog.text.count("is damaged") == 1
    fresh.keep_label("CT", "synthesized", given(tmp_path, 2), ".nrrd", {})
    assert [label.tag for label in fresh.labels()] == ["synthesized"]


def test_a_table_that_was_emptied_costs_no_file(label_store: LabelStore, folder: Path, tmp_path: Path) -> None:
    label_store.keep_label("CT", "synthesized", given(tmp_path), ".nrrd", {})
    (name,) = files_in(folder)
    (folder / "contents.sqlite").write_bytes(b"")
    LabelStore(folder).remove_leftovers()
    assert [path.name for path in folder.rglob(name)] == [name]


def test_a_table_locked_by_another_process_reads_as_empty_and_fails_to_write(
    label_store: LabelStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("READ_TIMEOUT_S", "WRITE_TIMEOUT_S"):
        monkeypatch.setattr(f"ct2pet_app.datastore.labels.label_table.{name}", 0.01)
    label_store.keep_label("CT", "synthesized", given(tmp_path), ".nrrd", {})
    other = sqlite3.connect(folder / "contents.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert label_store.labels() == ()
    with pytest.raises(BusyError, match="try again"):
        label_store.add_note("CT", {"a": 1})
    other.close()
    assert [label.tag for label in LabelStore(folder).labels()] == ["synthesized"]


def test_a_row_that_cannot_be_read_costs_itself_only(label_store: LabelStore, folder: Path, tmp_path: Path) -> None:
    for tag in ("whole", "no json", "no text", "elsewhere", "gone"):
        label_store.keep_label("CT", tag, given(tmp_path), ".nrrd", {"tag": tag})
    executed(folder, "UPDATE kept SET note = 'junk' WHERE tag = 'no json'")
    executed(folder, "UPDATE kept SET note = CAST(x'ff' AS TEXT) WHERE tag = 'no text'")
    executed(folder, "UPDATE kept SET file = '../../etc/passwd' WHERE tag = 'elsewhere'")
    label_store.labels_of("CT")["gone"].path.unlink()
    assert {tag: label.note for tag, label in label_store.labels_of("CT").items()} == {
        "whole": {"tag": "whole"},
        "no json": {},
        "no text": {},
    }


def test_notes_of_an_older_version_are_repaired_and_what_the_server_knew_is_kept_apart(folder: Path) -> None:
    folder.mkdir()
    executed(folder, "CREATE TABLE kept (image TEXT, tag TEXT, file TEXT NOT NULL, note TEXT NOT NULL, "
                     "PRIMARY KEY (image, tag))")  # fmt: skip
    executed(folder, "CREATE TABLE note (image TEXT PRIMARY KEY, note TEXT NOT NULL)")
    name = f"{'0' * 32}.nrrd"
    (folder / name).write_bytes(b"x")
    record = {"model": "unet", "params": {"synthetic": True, "mean": float("nan")}, "drawn": {"files": "a"}}
    executed(folder, "INSERT INTO kept VALUES ('CT', 'synthetic', ?, ?)", name, json.dumps(record))
    executed(folder, "INSERT INTO note VALUES ('CT', ?)", '{"client_id": NaN, "strategy": {"first": "\\ud800"}}')
    label_store = LabelStore(folder)
    assert label_store.notes_of("CT").note == {"client_id": None}
    assert label_store.notes_of("CT").record == {"strategy": {"first": "�"}}
    label = label_store.labels_of("CT")["synthetic"]
    assert (label.note, set(label.record)) == ({}, {"model", "params", "drawn"})
    assert LabelTable(folder).is_sound()


def test_notes_are_bounded_by_what_accumulates(label_store: LabelStore) -> None:
    for number in range(5):
        label_store.add_note("CT", {f"text{number}": "x" * 12_000})
    with pytest.raises(RequestError, match=r"info, with what was noted before: .* at most 65536 are accepted"):
        label_store.add_note("CT", {"text5": "x" * 12_000})
    assert len(label_store.notes_of("CT").note) == 5


def test_what_is_recorded_is_merged_by_key(label_store: LabelStore) -> None:
    label_store.add_record("CT", {"scores": {"unet": 1}})
    label_store.add_record("CT", {"scores": {"cascade3": 2}, "strategy": {"first": 3}})
    assert label_store.notes_of("CT").record == {"scores": {"unet": 1, "cascade3": 2}, "strategy": {"first": 3}}


def test_an_image_goes_with_its_labels_and_notes(label_store: LabelStore, folder: Path, tmp_path: Path) -> None:
    label_store.keep_upload("mine", given(tmp_path), ".nrrd", {}, record={"slices": 1})
    label_store.keep_label("mine", "synthesized", given(tmp_path, 2), ".nrrd", {})
    label_store.add_note("mine", {"seen": 1})
    label_store.drop("mine")
    assert files_in(folder) == set()
    assert (label_store.notes_of("mine").note, label_store.notes_of("mine").record) == ({}, {})
    shutil.rmtree(folder)
    assert label_store.uploads() == {}
