"""scripts/attack: a small form of each suite, whose verdicts hold here, too; none of its seconds is judged."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from lib.phantom.generate import PhantomSettings
from scripts.attacking import uploads
from scripts.attacking.clients import clients_suite
from scripts.attacking.downloads import downloads_suite
from scripts.attacking.files import files_suite
from scripts.attacking.long import long_suite
from scripts.attacking.memory import memory_suite
from scripts.attacking.pacs import behaviours, pacs_suite
from scripts.attacking.result import Reply, Result, find_violation
from scripts.attacking.watch import Measured, watched
from scripts.attacking.watcher import _descendants, _megabytes

ATTACK = Path(__file__).resolve().parents[2] / "scripts" / "attack.py"
SMALL = PhantomSettings(slices=12, ct_matrix=256, ct_pixel_mm=1.6, pet_matrix=64, pet_pixel_mm=6.4)
MB = 10**6


def silent(line: str) -> None:
    """Say nothing of progress."""


def assert_passed(result: Result) -> None:
    assert result.violations == []
    assert json.loads(json.dumps(result.as_json()))["passed"] is True


# -- on the real server ------------------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.slow
def test_small_uploads_take_no_gigabytes(tmp_path: Path) -> None:
    few = ("transfer syntax after", "JPEG of 16,000 x 16,000", "NRRD with pixels", "RLE that says")
    chosen = [upload for upload in uploads.memory_uploads() if upload.name.startswith(few) or few[0] in upload.name]
    assert len(chosen) == len(few)
    ways = ("POST /infer", "PUT /datastore/image")
    result = memory_suite(
        tmp_path, said=silent, uploads=chosen, ways=ways, at_once=0, body_bytes=200 * MB, latency=False
    )
    assert_passed(result)
    statuses = {status for row in result.rows for status in row["statuses"]}
    assert len(result.rows) == len(few) * len(ways) + 8 + 8 and 400 in statuses


@pytest.mark.server
@pytest.mark.slow
def test_eight_uploads_at_once_share_the_memory(tmp_path: Path) -> None:
    # 8 x 262 MB as the numbers that are read, were all in memory together
    ct = uploads.Upload("a CT of 250 slices", "a.nii.gz", lambda: uploads.nifti_packed(512, 250, "u1"), is_valid=True)
    ways = ("PUT /datastore/image",)
    result = memory_suite(tmp_path, said=silent, uploads=[ct], ways=ways, at_once=8, body_bytes=0, latency=False)
    assert_passed(result)


@pytest.mark.server
@pytest.mark.slow
def test_downloads_given_up_leave_the_server_well(tmp_path: Path) -> None:
    result = downloads_suite(tmp_path, said=silent, count=12, held_s=1, phantom=SMALL, latency=False)
    assert_passed(result)
    assert result.figures["begun"] > 0


@pytest.mark.server
@pytest.mark.slow
def test_clients_get_what_they_may_have(tmp_path: Path) -> None:
    result = clients_suite(tmp_path, said=silent, clients=6, seconds=3, latency=False)
    assert_passed(result)
    assert result.figures["errors"] == 0 and result.figures["requests"] >= 6


@pytest.mark.server
@pytest.mark.slow
def test_a_synthesis_is_measured(tmp_path: Path) -> None:
    result = long_suite(tmp_path, said=silent, slices=8, matrix=64, latency=False)
    assert_passed(result)
    assert result.figures["info_requests"] > 0


@pytest.mark.server
@pytest.mark.slow
def test_mutated_files_are_refused_or_read_rightly(tmp_path: Path) -> None:
    result = files_suite(tmp_path, said=silent, count=12, latency=False)
    assert_passed(result)
    assert result.figures["outcomes"]["compressed"]["refused"] > 0
    assert sum(result.figures["outcomes"]["volume"].values()) == 12


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("name", ["WADO-RS instance drips"])
def test_a_malicious_pacs_holds_nobody(tmp_path: Path, name: str) -> None:
    assert name in behaviours(bomb_bytes=MB)
    result = pacs_suite(tmp_path, said=silent, bomb_bytes=MB, only=lambda case: case == name, latency=False)
    assert_passed(result)
    assert len(result.rows) == 1


@pytest.mark.server
@pytest.mark.slow
def test_the_command_writes_figures_without_names_of_this_machine(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = [sys.executable, ATTACK, "long", "--slices", "4", "--out", out, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(out.read_text())
    assert json.loads(done.stdout) == report
    assert done.returncode == (0 if report["suites"][0]["passed"] else 1)
    assert {"cpus", "processor", "memory_gb", "versions"} <= set(report["machine"])
    assert str(Path.home()) not in out.read_text() and str(ATTACK.parents[1]) not in out.read_text()


# -- that they would see what they are there to see -------------------------------------------------------------------


def measured(*, worst_s: float = 0.1, peak_mb: float = 700.0, failures: dict[str, int] | None = None) -> Measured:
    memory = {"server_peak_mb": peak_mb, "total_peak_mb": peak_mb, "child_peak_mb": 0.0}
    return Measured(600.0, {"worst_s": worst_s, "failures": failures or {}}, memory)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (measured(), []),
        (measured(worst_s=0.5), ["/info/ took 0.5 s"]),
        (measured(peak_mb=2100.0), ["memory 1500 MB beyond rest"]),
        (measured(failures={"500": 2}), ["/info/ failed: {'500': 2}"]),
    ],
)
def test_limits_are_judged(found: Measured, words: list[str]) -> None:
    violations = found.violations()
    assert len(violations) == len(words)
    assert all(sentence.startswith(word) for sentence, word in zip(violations, words, strict=True))


@pytest.mark.parametrize(
    ("status", "text", "wrong"),
    [
        (200, "anything", ""),
        (400, '{"detail": "a.nrrd: its header announces too much"}', ""),
        (503, '{"detail": "8 inferences are under way; ask again"}', ""),
        (400, "Invalid", "400 without a JSON detail"),
        (400, '{"detail": "bad"}', "400 without a sentence"),
        (500, '{"detail": "something unexpected has gone wrong"}', "500"),
    ],
)
def test_a_response_is_a_success_or_a_refusal_in_a_sentence(status: int, text: str, wrong: str) -> None:
    found = find_violation(Reply(status, text))
    assert found.startswith(wrong) and bool(found) == bool(wrong)


def test_the_watcher_sees_memory_and_silence(tmp_path: Path) -> None:
    program = (
        "import http.server, time\n"
        "class Slow(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        held = bytearray(b'x') * 200_000_000\n"
        "        time.sleep(0.3)\n"
        "        self.send_response(500); self.end_headers()\n"
        "    def log_message(self, *a): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Slow)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        rest_mb = _megabytes(process.pid)["VmRSS"]
        with watched(f"http://127.0.0.1:{port}", process.pid, rest_mb=rest_mb) as found:
            while _megabytes(process.pid)["VmHWM"] < rest_mb + 150:
                time.sleep(0.05)
        assert process.pid in _descendants(os.getpid())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert found.beyond_mb > 150
    assert found.info["worst_s"] >= 0.3
    assert set(found.info["failures"]) == {"500"}
    assert found.violations(latency=False)


@pytest.mark.parametrize("upload", uploads.memory_uploads(), ids=lambda upload: upload.name)
def test_uploads_that_ask_for_gigabytes_have_names_that_are_taken(upload: uploads.Upload) -> None:
    assert upload.file.endswith((".zip", ".nrrd", ".nii.gz"))


def test_small_uploads_announce_what_they_say() -> None:
    archive = zipfile.ZipFile(io.BytesIO(uploads.deflated_late()))
    (member,) = archive.infolist()
    start = archive.read(member)[:4096]
    assert member.file_size < 2 * MB and uploads.DEFLATED.encode() not in start[:1024]
    assert uploads.DEFLATED.encode() in start
    assert len(uploads.ct_of_rle()) < MB
    assert len(uploads.nrrd_wide()) < 20_000
    assert len(uploads.nifti_packed(200, 200, "u1")) > 200**3 / 300  # within what a packed CT may announce
