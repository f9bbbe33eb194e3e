"""A server to be attacked: studies named after a patient, a secret beside them, and every file it opens seen."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import sys
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import requests
import SimpleITK as sitk
from pydicom import dcmread

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.attacks import Attack
from tests.server.processes import REPOSITORY, RunningServer, running_server, write_users
from tests.server.system_calls import connected, opened, started, strace_to, written

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# what the server may open: itself, Python and its libraries, and what the system gives every program
SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/shm", "/usr/", "/lib", "/etc/ld.so", "/etc/localtime",
          "/etc/mime.types", "/etc/nsswitch.conf", "/etc/host", "/etc/resolv.conf", "/etc/gai.conf")  # fmt: skip
WRITABLE = ("/dev/null", "/dev/shm", "/proc/self/")
TELLS_TOO_MUCH = re.compile(r"Traceback|File \"|root:x:|site-packages")
TASK_TIMEOUT_S = 300.0
TASKS = {"/scoring/metrics": "/scoring/", "/batch/infer/cascade3": "/batch/infer", "/train/unet": "/train/"}
ENDED = ("DONE", "ERROR", "STOPPED")
SESSION_OF_LINKS = "00000000-0000-1000-8000-00000000abcd"


@dataclass(frozen=True)
class Answer:
    """What came back: the status, and the body as text."""

    status: int
    text: str


@dataclass(frozen=True)
class AttackTarget:
    """The server, what an attacker would like to have, and where it is seen what was opened.

    Attributes:
        server: With the token of an administrator, where accounts are on.
        ct: UID of a CT that is there.
        name: Of every patient in the studies; it must be in no log.
        secret: A volume file beside the studies.
        link: A link to it in the studies.
        trace: What strace writes; empty where there is none.
    """

    server: RunningServer
    ct: str
    name: str
    secret: Path
    link: Path
    trace: Path

    def send_attack(self, attack: Attack) -> Answer:
        """Return the answer to an attack, sent byte for byte as it is written."""
        prepared = requests.Request(attack.method, self.server.url, **attack.sent).prepare()
        token = {"Authorization": f"Bearer {self.server.token}"} if self.server.token else {}
        headers = {"Host": self.host, **token, **prepared.headers}
        connection = http.client.HTTPConnection(self.host)
        connection.timeout = 120
        try:
            connection.putrequest(attack.method, attack.ask, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(prepared.body.encode() if isinstance(prepared.body, str) else prepared.body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def traced(self) -> str:
        """Return what strace has written so far; empty where there is no strace."""
        return self.trace.read_text(errors="replace") if self.trace.exists() else ""

    @property
    def host(self) -> str:
        """The address and port of the server."""
        return self.server.url.removeprefix("http://")

    @property
    def pid(self) -> int:
        """The process id of the server itself, not of strace."""
        started = psutil.Process(self.server.process.pid)
        python = [process for process in [started, *started.children(recursive=True)] if "python" in process.name()]
        return python[0].pid


@contextmanager
def attacked_server(folder: Path, *, accounts: bool, traced: bool) -> Iterator[AttackTarget]:
    """Start a server on two phantoms that bear a name, and end it."""
    name = f"Canary{uuid.uuid4().hex[:10]}"
    studies, outside, trace = folder / "studies", folder / "outside", folder / "trace"
    write_phantoms(studies, patients=2, settings=SMALL)
    _named_after(studies, name)
    outside.mkdir()
    secret, link = outside / "secret.nrrd", studies / "link.nrrd"
    image = sitk.GetImageFromArray(np.linspace(-1000, 200, 512).reshape(8, 8, 8).astype(np.float32))
    sitk.WriteImage(image, str(secret))
    link.symlink_to(secret)
    _session_of_links(folder / "models" / "sessions", secret)
    save_constant_model(folder / "models" / "cascade3" / "model.safetensors", 2.5)
    conf: dict[str, str | Path] = {"models": "unet,cascade3", "max_upload_mb": "64"}
    if accounts:
        conf["users"] = write_users(folder)
    under = strace_to(trace) if traced else ()
    with running_server("ct2pet_app", studies, folder, under=under, **conf) as server:
        known = server.logged_in_as("ada") if accounts else server
        ct = scan_folder(studies).usable("CT")[0].series.uid
        assert known.infer("cascade3", image=ct, output="json").status_code == 200  # what is loaded once is loaded now
        yield AttackTarget(known, ct, name, secret, link, trace)


def find_violation(attack: Attack, answer: Answer) -> str:
    """Return what is wrong with the answer to an attack of the table; empty where it is refused in a sentence."""
    if not 400 <= answer.status < 500:
        return f"{answer.status} {answer.text[:200]}"
    if TELLS_TOO_MUCH.search(answer.text):
        return f"tells too much: {answer.text[:200]}"
    if attack.method == "HEAD" or answer.text.startswith("Invalid HTTP request"):
        return ""
    detail = json.loads(answer.text).get("detail")
    return "" if isinstance(detail, str) and len(detail.split()) > 3 else f"no sentence: {answer.text[:200]}"


def forbidden_accesses(attacked: AttackTarget, trace: str, *, quiet: str = "") -> list[str]:
    """Return what a server opened, wrote, started and connected to that it must not, each as a sentence.

    Args:
        trace: What strace wrote while it was attacked.
        quiet: What strace wrote while the server did the same and was not attacked: it may do so again.

    Raises:
        ValueError: strace saw nothing at all.
    """
    own = (REPOSITORY, sys.prefix, sys.base_prefix, attacked.server.models, attacked.link.parent)
    places = tuple(str(Path(folder).resolve()) for folder in own) + tuple(map(str, own))
    paths = opened(trace)
    if not any(path.startswith(str(attacked.server.models)) for path in paths):
        raise ValueError("strace saw nothing that was opened")
    outside = {path for path in paths - opened(quiet) if not path.startswith((*SYSTEM, *places))} - {".", "/"}
    outside |= paths & {str(attacked.link), str(attacked.secret)}
    writable = (*WRITABLE, *(str(Path(folder).resolve()) for folder in (attacked.server.models, attacked.link.parent)))
    wrote = {path for path in written(trace) - written(quiet) if path.startswith("/") and not path.startswith(writable)}
    return [
        *(f"opened {path}" for path in sorted(outside)),
        *(f"opened for writing {path}" for path in sorted(wrote)),
        *(f"started {program}" for program in sorted(started(trace) - started(quiet))),
        *(f"connected to {address}" for address in sorted(connected(trace) - connected(quiet))),
    ]


def plant_code(attacked: AttackTarget) -> tuple[Path, Path]:
    """Upload code that Python runs at its start if it finds it; return its mark, and the path that leads to it.

    The mark is a file that exists once the code has run.
    """
    mark = attacked.server.models.parent / "code-of-a-client-ran"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for path in sorted(next(attacked.link.parent.glob("*/*CT")).iterdir()):
            file.write(path, path.name)
        for name in ("sitecustomize.py", "usercustomize.py"):
            file.writestr(name, f"open({str(mark)!r}, 'w').close()\n")
    made = attacked.server.ask("PUT", "/session/", files={"files": ("ct.zip", content.getvalue())})
    made.raise_for_status()
    # an attacker who does not hear where it lies may guess
    return mark, attacked.server.models / "sessions" / made.json()["session_id"] / "image.zip"


def run_tasks(attacked: AttackTarget, **keys: object) -> list[str]:
    """Start each kind of task with these keys besides its own, and wait until it has ended; return their statuses."""
    ended = []
    for start, status in TASKS.items():
        known = {"max_epochs": 1, "set": "pixel_mm=16.0;base_channels=2;depth=1"} if start.startswith("/train") else {}
        answer = attacked.server.ask("POST", start, json={**known, **keys})
        if answer.status_code == 200:
            _wait_for_task(attacked.server, status)
            ended.append(attacked.server.json(status)["status"])
        else:
            ended.append(str(answer.status_code))
    return ended


def _wait_for_task(server: RunningServer, status: str) -> None:
    """Wait until the newest task of a kind has ended."""
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while server.json(status)["status"] not in ENDED:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{status}: {server.json(status)['status']} after {TASK_TIMEOUT_S:.0f} s")
        time.sleep(0.2)


def _named_after(studies: Path, name: str) -> None:
    """Give the patients, and every folder and file, a name as hospitals do."""
    for path in sorted(studies.rglob("*.dcm")) or sorted(path for path in studies.rglob("*") if path.is_file()):
        dataset = dcmread(path)
        dataset.PatientName, dataset.OtherPatientNames = f"{name}^Jane", name
        dataset.save_as(path)
        path.rename(path.with_name(f"{name}_{path.name}"))
    for path in sorted((path for path in studies.rglob("*") if path.is_dir()), reverse=True):
        path.rename(path.with_name(f"{name}_{path.name}"))


def _session_of_links(sessions: Path, secret: Path) -> None:
    """Plant a session whose image is a link that leaves it."""
    own = sessions / SESSION_OF_LINKS
    own.mkdir(parents=True)
    (own / "image.nrrd").symlink_to(secret)
    now = int(time.time())
    meta = {"name": SESSION_OF_LINKS, "path": str(own), "image": str(own / "image.nrrd"), "last_access_ts": now}
    (own / "meta.info").write_text(json.dumps({**meta, "expiry": 3600}))
    os.utime(own, (now, now))
