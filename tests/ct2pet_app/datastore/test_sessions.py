"""Sessions: the image of a session is its own upload, for any id and any uploaded file."""

from __future__ import annotations

import json
import os
import time
import uuid
import zipfile
from pathlib import Path

import pytest

from ct2pet_app.advice import detail_of
from ct2pet_app.datastore import sessions as sessions_module
from ct2pet_app.datastore.sessions import MAX_LIFETIME_S, CheckedSessions, described
from ct2pet_app.errors import BusyError
from lib.errors import ImageFileError, OutputError


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
    with pytest.raises(ImageFileError, match="send a plain zip of one CT series"):
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


def test_ids_cannot_be_guessed(sessions: CheckedSessions, tmp_path: Path) -> None:
    ids = {sessions.add_session(upload(tmp_path / f"in{n}", "a.dcm"))[0] for n in range(3)}
    assert {uuid.UUID(session_id).version for session_id in ids} == {4}


def test_a_session_is_its_owners(sessions: CheckedSessions, tmp_path: Path) -> None:
    session_id, _ = sessions.add_session(upload(tmp_path / "in", "a.dcm"), owner="una")
    assert sessions.get_session(session_id, owner="ann") is None
    assert sessions.get_session(session_id, owner="una") is not None
    assert sessions.get_session(session_id) is not None  # an administrator's view


def test_session_metadata_hides_server_paths(sessions: CheckedSessions, tmp_path: Path) -> None:
    _, session = sessions.add_session(upload(tmp_path / "in", "a.dcm"), owner="una")
    metadata = described(session)
    assert set(metadata) == {"name", "path", "image", "meta", "create_ts", "last_access_ts", "expiry"}
    assert str(tmp_path) not in str(metadata) and "una" not in str(metadata)


@pytest.mark.parametrize(
    "meta",
    [
        b"", b"[]", b"\xff", b'{"image": "in"}', b'{"image": "../in", "expiry": 1, "create_ts": 1}',
        b'{"image": "in", "expiry": NaN, "create_ts": 1}', b'{"image": "in", "expiry": "x", "create_ts": 1}',
        b'{"image": "in", "expiry": 1e400, "create_ts": 1}', b'{"image": ["in"], "expiry": 9, "create_ts": 1}',
        b'{"image": "in", "expiry": 3600, "create_ts": -1}', b'{"a":' * 9000,
    ],
)  # fmt: skip
def test_what_a_damaged_meta_info_says_is_not_believed(sessions: CheckedSessions, tmp_path: Path, meta: bytes) -> None:
    session_id, session = sessions.add_session(upload(tmp_path / "in", "a.dcm"))
    Path(session.path, "meta.info").write_bytes(meta)
    assert sessions.get_session(session_id) is None
    sessions.add_session(upload(tmp_path / "other", "a.dcm"))  # the others go on


@pytest.mark.parametrize("ahead", ["created", "accessed"])
def test_a_time_in_the_future_keeps_no_session_alive(sessions: CheckedSessions, tmp_path: Path, ahead: str) -> None:
    session_id, session = sessions.add_session(upload(tmp_path / "in", "a.dcm"))
    meta, future = Path(session.path, "meta.info"), time.time() + 10**8
    if ahead == "created":
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "create_ts": future}))
    else:
        os.utime(meta, (future, future))
    assert sessions.get_session(session_id) is None
    assert sessions.remove_expired() == 1


def test_a_session_ends_however_often_it_is_used(sessions: CheckedSessions, tmp_path: Path) -> None:
    session_id, session = sessions.add_session(upload(tmp_path / "in", "a.dcm"))
    meta = Path(session.path, "meta.info")
    long_ago = time.time() - MAX_LIFETIME_S - 1
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "create_ts": long_ago}))
    assert sessions.get_session(session_id) is None


def test_sessions_are_bounded_in_number_and_bytes(
    sessions: CheckedSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS_PER_OWNER", 2)
    for number in range(2):
        sessions.add_session(upload(tmp_path / f"in{number}", "a.dcm"), owner="una")
    with pytest.raises(BusyError, match="2 of them yours"):
        sessions.add_session(upload(tmp_path / "in2", "a.dcm"), owner="una")
    sessions.add_session(upload(tmp_path / "in3", "a.dcm"), owner="ann")
    monkeypatch.setattr(sessions_module, "MAX_TOTAL_BYTES", 3)
    with pytest.raises(OutputError, match="sessions' files would take more than") as full:
        sessions.add_session(upload(tmp_path / "in4", "a.dcm"), owner="ann")
    assert "wait until one expires" in detail_of(full.value)
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 3)
    with pytest.raises(BusyError, match="3 sessions are kept"):
        sessions.add_session(upload(tmp_path / "in5", "a.dcm"), owner="rob")
    assert len(names_in(tmp_path / "sessions")) == 3


def test_what_a_killed_upload_left_is_removed_at_once(sessions: CheckedSessions, tmp_path: Path) -> None:
    kept, _ = sessions.add_session(upload(tmp_path / "in", "a.dcm"))
    for name in (".half.part", ".half.removed"):
        upload(tmp_path / "sessions" / name, "a.dcm")
    sessions.remove_expired()
    assert names_in(tmp_path / "sessions") == [kept]
