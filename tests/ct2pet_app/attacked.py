"""A server to be attacked: studies named after a patient, a secret beside them, and every file it opens seen."""

from __future__ import annotations

import http.client
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import requests
import SimpleITK as sitk
from pydicom import dcmread

from lib.dicom.scan import scan_folder
from lib.sources.phantom import PhantomSettings, write_phantoms
from tests.ct2pet_app.attacks import Attack
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.watched import strace_to
from tests.servers import RunningServer, running_server, write_users

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
SESSION_OF_LINKS = "00000000-0000-1000-8000-00000000abcd"


@dataclass(frozen=True)
class Answer:
    """What came back: the status, and the body as text."""

    status: int
    text: str


@dataclass(frozen=True)
class Attacked:
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

    def suffer(self, attack: Attack) -> Answer:
        """Return the answer to an attack, sent byte for byte as it is written."""
        prepared = requests.Request(attack.method, self.server.url, **attack.sent).prepare()
        token = {"Authorization": f"Bearer {self.server.token}"} if self.server.token else {}
        headers = {"Host": self.server.url.removeprefix("http://"), **token, **prepared.headers}
        connection = http.client.HTTPConnection(headers["Host"] if "evil" not in headers["Host"] else self.host)
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
def attacked_server(folder: Path, *, accounts: bool, traced: bool) -> Iterator[Attacked]:
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
        known = server.known_as("ada") if accounts else server
        ct = scan_folder(studies).usable("CT")[0].series.uid
        assert known.infer("cascade3", image=ct, output="json").status_code == 200  # what is loaded once is loaded now
        yield Attacked(known, ct, name, secret, link, trace)


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
