"""A server to attack: studies with a patient's name, a secret file next to them, and a trace of every opened file."""

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
# paths that any program opens; the server may also open its own files, Python and its libraries
SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/shm", "/usr/", "/lib", "/etc/ld.so", "/etc/localtime",
          "/etc/mime.types", "/etc/nsswitch.conf", "/etc/host", "/etc/resolv.conf", "/etc/gai.conf")  # fmt: skip
WRITABLE = ("/dev/null", "/dev/shm", "/proc/self/")
LEAKED_DETAILS = re.compile(r"Traceback|File \"|root:x:|site-packages")
TASK_TIMEOUT_S = 300.0
TASKS = {"/scoring/metrics": "/scoring/", "/batch/infer/cascade3": "/batch/infer", "/train/unet": "/train/"}
ENDED = ("DONE", "ERROR", "STOPPED")
SESSION_OF_LINKS = "00000000-0000-1000-8000-00000000abcd"


@dataclass(frozen=True)
class Response:
    """The status of a response, and its body as text."""

    status: int
    text: str


@dataclass(frozen=True)
class AttackTarget:
    """The server under attack, the data that must not leak, and the trace of opened files.

    Attributes:
        server: The server, with an administrator's token if accounts are enabled.
        ct: Series UID of an existing CT.
        name: Name of every patient in the studies; it must not appear in a log.
        secret: A volume file outside the studies folder.
        link: A symbolic link to `secret` in the studies folder.
        trace: The log of strace; missing if the server is not traced.
    """

    server: RunningServer
    ct: str
    name: str
    secret: Path
    link: Path
    trace: Path

    def send_attack(self, attack: Attack) -> Response:
        """Send an attack byte for byte and return the response."""
        prepared = requests.Request(attack.method, self.server.url, **attack.arguments).prepare()
        token = {"Authorization": f"Bearer {self.server.token}"} if self.server.token else {}
        headers = {"Host": self.host, **token, **prepared.headers}
        connection = http.client.HTTPConnection(self.host)
        connection.timeout = 120
        try:
            connection.putrequest(attack.method, attack.request_target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(prepared.body.encode() if isinstance(prepared.body, str) else prepared.body)
            response = connection.getresponse()
            return Response(response.status, response.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def traced(self) -> str:
        """Return the log of strace so far; empty if the server is not traced."""
        return self.trace.read_text(errors="replace") if self.trace.exists() else ""

    @property
    def host(self) -> str:
        """The host and port of the server."""
        return self.server.url.removeprefix("http://")

    @property
    def pid(self) -> int:
        """The process id of the server, not of strace."""
        started = psutil.Process(self.server.process.pid)
        python = [process for process in [started, *started.children(recursive=True)] if "python" in process.name()]
        return python[0].pid


@contextmanager
def attacked_server(folder: Path, *, accounts: bool, traced: bool) -> Iterator[AttackTarget]:
    """Start a server on two phantoms with a patient's name, yield it, and stop it."""
    name = f"Canary{uuid.uuid4().hex[:10]}"
    studies, outside, trace = folder / "studies", folder / "outside", folder / "trace"
    write_phantoms(studies, patients=2, settings=SMALL)
    _set_patient_name(studies, name)
    outside.mkdir()
    secret, link = outside / "secret.nrrd", studies / "link.nrrd"
    image = sitk.GetImageFromArray(np.linspace(-1000, 200, 512).reshape(8, 8, 8).astype(np.float32))
    sitk.WriteImage(image, str(secret))
    link.symlink_to(secret)
    _write_session_of_links(folder / "models" / "sessions", secret)
    save_constant_model(folder / "models" / "cascade3" / "model.safetensors", 2.5)
    conf: dict[str, str | Path] = {"models": "unet,cascade3", "max_upload_mb": "64"}
    if accounts:
        conf["users"] = write_users(folder)
    command_prefix = strace_to(trace) if traced else ()
    with running_server("ct2pet_app", studies, folder, command_prefix=command_prefix, **conf) as server:
        client = server.logged_in_as("ada") if accounts else server
        ct = scan_folder(studies).usable("CT")[0].series.uid
        assert client.infer("cascade3", image=ct, output="json").status_code == 200  # loads lazily opened files
        yield AttackTarget(client, ct, name, secret, link, trace)


def find_violation(attack: Attack, response: Response) -> str:
    """Return what is wrong with the response to an attack; an empty string if it is a refusal with a sentence."""
    if not 400 <= response.status < 500:
        return f"{response.status} {response.text[:200]}"
    if LEAKED_DETAILS.search(response.text):
        return f"leaks details: {response.text[:200]}"
    if attack.method == "HEAD" or response.text.startswith("Invalid HTTP request"):
        return ""
    detail = json.loads(response.text).get("detail")
    return "" if isinstance(detail, str) and len(detail.split()) > 3 else f"no sentence: {response.text[:200]}"


def forbidden_accesses(attacked: AttackTarget, trace: str, *, quiet: str = "") -> list[str]:
    """Return all files, programs and connections that the server must not access, each as a sentence.

    Args:
        trace: The log of strace during the attack.
        quiet: The log of strace during the same tasks without an attack; these accesses are allowed.

    Raises:
        ValueError: The log of strace contains no opened file of the server.
    """
    allowed = (REPOSITORY, sys.prefix, sys.base_prefix, attacked.server.models, attacked.link.parent)
    places = tuple(str(Path(folder).resolve()) for folder in allowed) + tuple(map(str, allowed))
    paths = opened(trace)
    if not any(path.startswith(str(attacked.server.models)) for path in paths):
        raise ValueError("the log of strace contains no opened file of the server")
    outside = {path for path in paths - opened(quiet) if not path.startswith((*SYSTEM, *places))} - {".", "/"}
    outside |= paths & {str(attacked.link), str(attacked.secret)}
    writable = (*WRITABLE, *(str(Path(folder).resolve()) for folder in (attacked.server.models, attacked.link.parent)))
    new_writes = written(trace) - written(quiet)
    forbidden_writes = {path for path in new_writes if path.startswith("/") and not path.startswith(writable)}
    return [
        *(f"opened {path}" for path in sorted(outside)),
        *(f"opened for writing {path}" for path in sorted(forbidden_writes)),
        *(f"started {program}" for program in sorted(started(trace) - started(quiet))),
        *(f"connected to {address}" for address in sorted(connected(trace) - connected(quiet))),
    ]


def plant_code(attacked: AttackTarget) -> tuple[Path, Path]:
    """Upload code that Python runs at startup if it is on the path; return its marker and the path to upload.

    The marker is a file that exists once the code has run.
    """
    marker = attacked.server.models.parent / "code-of-a-client-ran"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for path in sorted(next(attacked.link.parent.glob("*/*CT")).iterdir()):
            file.write(path, path.name)
        for name in ("sitecustomize.py", "usercustomize.py"):
            file.writestr(name, f"open({str(marker)!r}, 'w').close()\n")
    made = attacked.server.request("PUT", "/session/", files={"files": ("ct.zip", content.getvalue())})
    made.raise_for_status()
    # the response does not contain this path, but an attacker may guess it
    return marker, attacked.server.models / "sessions" / made.json()["session_id"] / "image.zip"


def run_tasks(attacked: AttackTarget, **keys: object) -> list[str]:
    """Start each kind of task with these additional keys, wait until it has ended, and return all statuses."""
    ended = []
    for start, status in TASKS.items():
        settings = (
            {"max_epochs": 1, "set": "pixel_mm=16.0;base_channels=2;depth=1"} if start.startswith("/train") else {}
        )
        response = attacked.server.request("POST", start, json={**settings, **keys})
        if response.status_code == 200:
            _wait_for_task(attacked.server, status)
            ended.append(attacked.server.json(status)["status"])
        else:
            ended.append(str(response.status_code))
    return ended


def _wait_for_task(server: RunningServer, status: str) -> None:
    """Wait until the newest task of a kind has ended."""
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while server.json(status)["status"] not in ENDED:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{status}: {server.json(status)['status']} after {TASK_TIMEOUT_S:.0f} s")
        time.sleep(0.2)


def _set_patient_name(studies: Path, name: str) -> None:
    """Write the patient's name into all DICOM files, and into the names of all folders and files, as hospitals do."""
    for path in sorted(studies.rglob("*.dcm")) or sorted(path for path in studies.rglob("*") if path.is_file()):
        dataset = dcmread(path)
        dataset.PatientName, dataset.OtherPatientNames = f"{name}^Jane", name
        dataset.save_as(path)
        path.rename(path.with_name(f"{name}_{path.name}"))
    for path in sorted((path for path in studies.rglob("*") if path.is_dir()), reverse=True):
        path.rename(path.with_name(f"{name}_{path.name}"))


def _write_session_of_links(sessions: Path, secret: Path) -> None:
    """Write a session whose image is a symbolic link to a file outside the session."""
    own = sessions / SESSION_OF_LINKS
    own.mkdir(parents=True)
    (own / "image.nrrd").symlink_to(secret)
    now = int(time.time())
    meta = {"name": SESSION_OF_LINKS, "path": str(own), "image": str(own / "image.nrrd"), "last_access_ts": now}
    (own / "meta.info").write_text(json.dumps({**meta, "expiry": 3600}))
    os.utime(own, (now, now))
