"""The queue, the quota and the audit trail: what they hold after each step, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ct2pet_app.dicom_node.audit import REFUSALS_PER_MINUTE, AuditTrail
from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.jobs import MAX_BEGUN, JobQueue, pause_after
from ct2pet_app.dicom_node.quota import DiskQuota
from lib.errors import OutputError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[QueueDatabase]:
    database = QueueDatabase(tmp_path / "queue.sqlite")
    with database.transaction() as connection:
        connection.execute("INSERT INTO series VALUES ('1.2', '1.1', 'p', 'CT', '::1', 'complete', 0, 0, '')")
        connection.execute(
            "INSERT INTO job (series_uid, content, model, send_to, state, since) "
            "VALUES ('1.2', 'c', 'unet', 'PACS', 'waiting', 0)"
        )
    yield database
    database.close()


def test_a_job_is_begun_once_and_again_after_a_crash_of_the_server(database: QueueDatabase) -> None:
    jobs = JobQueue(database)
    for _ in range(MAX_BEGUN):
        job = jobs.begin()
        assert job is not None and job.study_uid == "1.1"
        assert jobs.begin() is None
        failed = jobs.resume()
    assert [job.id for job in failed] == [job.id]  # it ends the server each time
    assert jobs.begin() is None


def test_a_postponed_job_waits(database: QueueDatabase) -> None:
    jobs = JobQueue(database)
    job = jobs.begin()
    assert job is not None
    jobs.postpone_synthesis(job, "busy", pause_s=500)
    assert jobs.begin() is None
    for pause_s in (-1, 10_000):  # it is over; or longer than any, because the clock was set back
        jobs.postpone_synthesis(job, "busy", pause_s=pause_s)
        assert jobs.begin() is not None


def test_a_result_is_sent_file_by_file(database: QueueDatabase) -> None:
    jobs = JobQueue(database)
    job = jobs.begin()
    assert job is not None
    jobs.made(job, "2.25.1")
    assert jobs.waiting_for("ELSEWHERE") is None
    waiting = jobs.waiting_for("PACS")
    assert waiting is not None and waiting.result_uid == "2.25.1"
    jobs.confirm(waiting, "0001.dcm")
    jobs.confirm(waiting, "0001.dcm")
    assert jobs.confirmed_files(waiting) == {"0001.dcm"}
    assert [lost.id for lost in jobs.unknown_receivers({"OTHER"})] == [job.id]
    jobs.sent(waiting)
    assert jobs.waiting_for("PACS") is None
    assert jobs.unknown_receivers(set()) == []


def test_pauses_double_up_to_ten_minutes() -> None:
    assert [pause_after(attempts, 10.0) for attempts in (0, 1, 2, 6, 500)] == [10.0, 20.0, 40.0, 600.0, 600.0]


def test_a_failed_transaction_changes_nothing(database: QueueDatabase) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("DELETE FROM job")
        raise ZeroDivisionError
    assert JobQueue(database).begin() is not None


def test_a_damaged_queue_or_one_of_another_version_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "damaged.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(OutputError, match="move it away"):
        QueueDatabase(tmp_path / "damaged.sqlite")
    assert (tmp_path / "damaged.sqlite").read_bytes().startswith(b"no database")
    database = QueueDatabase(tmp_path / "later.sqlite")
    with database.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(OutputError, match="of another version of ct2pet"):
        QueueDatabase(tmp_path / "later.sqlite")


def test_the_quota_counts_files_and_notices_room(tmp_path: Path) -> None:
    quota = DiskQuota([tmp_path], limit_bytes=1000)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"0" * 600)
    assert quota.why_full(300) == ""
    assert quota.why_full(300) == ""  # the first one was not written: counted again
    (tmp_path / "series" / "2.dcm").write_bytes(b"0" * 300)
    assert "quota" in quota.why_full(300)
    (tmp_path / "series" / "1.dcm").unlink()
    assert quota.why_full(300) == ""


def test_refused_associations_cannot_fill_the_disk(tmp_path: Path) -> None:
    audit = AuditTrail(tmp_path / "audit.jsonl")
    for _ in range(3 * REFUSALS_PER_MINUTE):
        audit.write("association_refused", aet="X\n", address="::1", reason="", status=None)
    audit.write("sent", aet="PACS")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    refused = [line for line in lines if line["event"] == "association_refused"]
    assert REFUSALS_PER_MINUTE <= len(refused) < 3 * REFUSALS_PER_MINUTE  # a minute may begin meanwhile
    assert set(refused[0]) == {"time", "event", "aet", "address"}
    assert len(refused) + sum(line.get("refusals_not_listed", 0) for line in lines) == 3 * REFUSALS_PER_MINUTE


def test_the_trail_continues_after_its_file_was_moved_away(tmp_path: Path) -> None:
    audit = AuditTrail(tmp_path / "audit.jsonl")
    audit.write("echo")
    (tmp_path / "audit.jsonl").rename(tmp_path / "audit.jsonl.1")
    audit.write("echo")
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1
