"""Temporary files of stopped servers are removed at the next start, those of running servers are not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ct2pet_app.server.temp_dir import TemporaryFolder, remove_leftovers


@pytest.fixture(autouse=True)
def usual_folder() -> Iterator[None]:
    """Restore the temporary folder of this process."""
    usual, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    yield
    tempfile.tempdir = usual
    os.environ.pop("TMPDIR", None)
    if variable is not None:
        os.environ["TMPDIR"] = variable


def test_every_temporary_file_is_created_in_the_default_folder(tmp_path: Path) -> None:
    with closing(TemporaryFolder(tmp_path / "temporary")) as folder:
        assert tempfile.gettempdir() != str(folder.path)  # creating it changes nothing of the process
        folder.use_as_default()
        assert os.environ["TMPDIR"] == str(folder.path)
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == folder.path
        assert folder.path.stat().st_mode & 0o077 == 0
    assert not folder.path.exists()


def test_folders_of_killed_servers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "server-killed" / "upload").mkdir(parents=True)
    (tmp_path / "server-killed" / "upload" / "ct.nrrd").write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "parent").mkdir()
    (tmp_path / "server-killed").rename(tmp_path / "parent" / "server-killed")
    (tmp_path / "parent" / "link").symlink_to(tmp_path / "elsewhere")
    with closing(TemporaryFolder(tmp_path / "parent")) as folder:
        assert list((tmp_path / "parent").iterdir()) == [folder.path]
    assert (tmp_path / "elsewhere").is_dir()


def test_the_folder_of_a_running_server_is_kept(tmp_path: Path) -> None:
    with closing(TemporaryFolder(tmp_path)) as first, closing(TemporaryFolder(tmp_path)) as second:
        assert first.path.is_dir()
        assert second.path.is_dir()


def test_only_old_leftovers_are_removed(tmp_path: Path) -> None:
    for name in ("shelf/.half.nrrd", "shelf/whole.nrrd", "results/old.nrrd", "results/new.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        if not name.endswith("new.nrrd"):
            os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.nrrd")) == ["new.nrrd", "whole.nrrd"]
