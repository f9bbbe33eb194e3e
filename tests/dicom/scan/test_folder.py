"""Listing of folders without following links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib.dicom.scan.folder import walk
from lib.errors import StudiesError


def names(root: Path) -> list[str]:
    return [file.name for folder in walk(root) for file in folder.files]


def test_files_come_in_name_order_depth_first(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/z", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["c", "z", "1", "2"]


def test_size_and_modification_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.utime(tmp_path / "a", ns=(7, 1234567890123456789))
    ((file,),) = [folder.files for folder in walk(tmp_path)]
    assert (file.size, file.mtime_ns) == (5, 1234567890123456789)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    (inner / "file").touch()
    (inner / "back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(inner / "file")
    folders = list(walk(tmp_path))
    assert [file.name for folder in folders for file in folder.files] == ["file"]
    assert not any(folder.refused for folder in folders)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_external_link_is_not_followed_and_is_named(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside if kind == "folder" else outside / "secret")
    (folder,) = walk(root)
    assert folder.files == ()
    assert folder.refused == ((str(root / "link"), "a link to a target outside the folder; links are not followed"),)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "file").touch()
    (tmp_path / "link").symlink_to(real)
    assert names(tmp_path / "link") == ["file"]


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudiesError, match="nowhere: no such folder"):
        list(walk(tmp_path / "nowhere"))
    with pytest.raises(StudiesError, match="file: is a file, not a folder"):
        list(walk(tmp_path / "file"))
