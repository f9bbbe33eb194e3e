"""Sessions: a session's image is its own upload, whatever an id or an uploaded file says."""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from ct2pet_app.sessions import CheckedSessions
from lib.errors import ImageFileError


@pytest.fixture
def sessions(tmp_path: Path) -> CheckedSessions:
    return CheckedSessions(str(tmp_path / "sessions"), 3600)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def upload(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("x")
    return str(folder)


def test_a_session_gives_back_its_upload(sessions: CheckedSessions, tmp_path: Path) -> None:
    session_id, _ = sessions.add_session(upload(tmp_path / "in", "a.dcm", "b.dcm"))
    session = sessions.get_session(session_id)
    assert session is not None
    assert sorted(names_in(Path(session.image))) == ["a.dcm", "b.dcm"]


def test_a_zip_is_unpacked_under_names_of_our_own(sessions: CheckedSessions, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as zipped:
        zipped.writestr("../../evil", "x")
    session_id, _ = sessions.add_session(str(tmp_path / "in.zip"), uncompress=True)
    session = sessions.get_session(session_id)
    assert session is not None
    assert names_in(Path(session.image)) == ["00000"]
    assert not (tmp_path / "evil").exists()


def test_another_archive_is_not_unpacked(sessions: CheckedSessions, tmp_path: Path) -> None:
    (tmp_path / "in.tar").write_bytes(b"tar")
    with pytest.raises(ImageFileError, match="give a plain zip of one CT series"):
        sessions.add_session(str(tmp_path / "in.tar"), uncompress=True)
    assert not (tmp_path / "in.tar").exists()


def lying_meta(folder: Path) -> None:
    folder.mkdir(parents=True)
    meta = {"image": "/etc/passwd", "last_access_ts": int(time.time()), "expiry": 3600}
    (folder / "meta.info").write_text(json.dumps(meta))


def test_an_id_that_is_a_path_is_no_session(sessions: CheckedSessions, tmp_path: Path) -> None:
    lying_meta(tmp_path / "planted")
    assert sessions.get_session("../planted") is None


def test_an_uploaded_meta_info_chooses_no_file(sessions: CheckedSessions, tmp_path: Path) -> None:
    session_id = "00000000-0000-1000-8000-000000000000"
    lying_meta(tmp_path / "sessions" / session_id)
    assert sessions.get_session(session_id) is None


def test_old_sessions_and_half_made_ones_are_removed(sessions: CheckedSessions, tmp_path: Path) -> None:
    kept, _ = sessions.add_session(upload(tmp_path / "in", "a.dcm"))
    half_made = tmp_path / "sessions" / "00000000-0000-1000-8000-000000000001"
    half_made.mkdir()
    os.utime(half_made, (0, 0))
    assert sessions.remove_expired() == 1
    assert names_in(tmp_path / "sessions") == [kept]
