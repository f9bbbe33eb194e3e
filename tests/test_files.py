"""A file is the old or the new one, temporary files of killed processes go, and a fingerprint sees a change."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib import files
from lib.files import (
    atomic_file,
    fingerprint,
    remove_abandoned,
    same_fingerprint,
    unfinished_file,
    unfinished_folder,
    write_text,
)
from tests.conftest import REPOSITORY


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.json", "new \ud800")
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == {"a.json"}


def test_a_file_is_replaced_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "volume.nii.gz"
    path.write_text("old")
    with atomic_file(path, mode=0o600) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.name.endswith(".volume.nii.gz")  # writers choose the format by the suffix
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == {"volume.nii.gz"}


WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from lib.files import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_the_next_write_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "odd [1].json"
    killed = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, path], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    (tmp_path / ".mine.odd [1].json").touch()
    with unfinished_file(tmp_path, f".{path.name}") as of_another_writer:
        write_text(path, "whole")
        assert names(tmp_path) == {path.name, ".mine.odd [1].json", of_another_writer.name}


def test_only_what_no_process_writes_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".left").mkdir()
    (tmp_path / ".left" / "file").touch()
    (tmp_path / ".link").symlink_to(tmp_path)
    with unfinished_folder(tmp_path, ".new") as temporary:
        remove_abandoned(tmp_path.iterdir())
        assert names(tmp_path) == {temporary.name, ".link"}


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*given: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", without_locks)
    for name, age_s in (("old", files.STALE_AFTER_S + 60), ("new", 0.0)):
        (tmp_path / name).touch()
        modified = (tmp_path / name).stat().st_mtime - age_s
        os.utime(tmp_path / name, (modified, modified))
    remove_abandoned(tmp_path.iterdir())
    assert names(tmp_path) == {"new"}
    write_text(tmp_path / "new", "written without a lock")


def test_a_fingerprint_sees_a_change_and_does_without_missing_files(tmp_path: Path) -> None:
    paths = [tmp_path / "1.dcm", tmp_path / "2.dcm"]
    for path in paths:
        path.write_bytes(b"x")
    before = fingerprint(paths)
    assert same_fingerprint(before, fingerprint(iter(paths)))
    paths[0].write_bytes(b"longer")
    assert not same_fingerprint(before, fingerprint(paths))
    assert not same_fingerprint(before, fingerprint(paths[:1]))
    paths[0].unlink()
    assert same_fingerprint(before, fingerprint(paths))  # by their names alone
