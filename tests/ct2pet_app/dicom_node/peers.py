"""A DICOM node in a process of its own, and the programs of dcmtk as its peers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ct2pet_app.dicom_node.layout import NodeLayout
from tests.server.processes import REPOSITORY, free_port, stop_process

NODE_PROGRAM = REPOSITORY / "ct2pet_app" / "dicom_node" / "node_main.py"
TIMEOUT_S = 180.0  # generous, for a busy machine
UID = re.compile(r"Affected SOP Instance UID *: ([0-9.]+)")
SENDER, RECEIVER = "SCANNER", "ARCHIVE"


def wait_for(what: str, found: Callable[[], Any], *, timeout_s: float = TIMEOUT_S) -> Any:
    """Return the first true result of a function; fail with `what` after a timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = found()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout_s:g} s")


@dataclass
class Node:
    """A node and its files."""

    folder: Path
    port: int
    layout: NodeLayout
    process: subprocess.Popen[bytes] | None = None
    tls: list[str] = field(default_factory=list)

    @property
    def peers(self) -> Path:
        """The peers file."""
        return self.folder / "peers.toml"

    @property
    def log(self) -> Path:
        """The log."""
        return self.folder / "node.log"

    def start(self) -> None:
        """Start the node and wait until it listens."""
        before = self.count("node_started")
        arguments = ["CT2PET", str(self.port), self.peers, self.layout.studies, self.layout.models_folder]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-P", NODE_PROGRAM, *map(str, arguments)],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        wait_for("the node listens", lambda: self.count("node_started") > before or self.process.poll() is not None)

    def kill(self) -> None:
        """Kill the node as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def audit(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of an event in the audit trail."""
        if not self.layout.audit.is_file():
            return []
        lines = map(json.loads, self.layout.audit.read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def count(self, event: str) -> int:
        """Return the number of lines of an event."""
        return len(self.audit(event))

    def wait(self, event: str, number: int = 1) -> dict[str, Any]:
        """Wait until an event has occurred so often; return its last line."""
        wait_for(event, lambda: self.count(event) >= number)
        return self.audit(event)[-1]

    def echo(self, *, calling: str = SENDER, called: str = "CT2PET") -> int:
        """Return the exit code of echoscu."""
        options = ["-to", "10", *self.tls, "-aet", calling, "-aec", called]
        return run("echoscu", *options, "127.0.0.1", self.port).returncode

    def send(self, *paths: Path, calling: str = SENDER) -> subprocess.CompletedProcess[str]:
        """Send files or folders with storescu and return how it ended."""
        options = ["-v", *self.tls, "-aet", calling, "-aec", "CT2PET", "+sd", "+r"]
        return run("storescu", *options, "127.0.0.1", self.port, *paths)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of dcmtk and return how it ended."""
    command = [dcmtk(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def dcmtk(program: str) -> str:
    """Return the path of a program of dcmtk; pynetdicom installs others of the same names next to this Python."""
    own = Path(sys.executable).parent
    folders = [folder for folder in os.get_exec_path() if Path(folder) != own]
    found = shutil.which(program, path=os.pathsep.join(folders))
    assert found is not None, f"{program} is not installed (Debian: dcmtk)"
    return found


def peers_toml(
    *, receiver_port: int, retry_s: float = 0.3, node: str = "", sender: str = "", rules: str = "", tls: str = ""
) -> str:
    """Return a peers file with a sender and a receiver on this computer."""
    return f"""
[node]
quiet_s = 0.5
retry_s = {retry_s}
{node}
{tls}
[[peer]]
name = "CT"
aet = "{SENDER}"
host = "127.0.0.1"
port = {receiver_port}
may_send = true
{sender}
[[peer]]
name = "PACS"
aet = "{RECEIVER}"
host = "127.0.0.1"
port = {receiver_port}
{rules}
"""


RULE = """
[[rule]]
when = "Modality == 'CT'"
model = "unet"
send_to = "PACS"
"""


@contextlib.contextmanager
def running_node(folder: Path, text: str) -> Iterator[Node]:
    """Yield a running node with this peers file; it ends with the context."""
    (folder / "studies").mkdir(parents=True)
    node = Node(folder, free_port(), NodeLayout(folder / "studies", folder / "models"))
    node.peers.write_text(text)
    try:
        node.start()
        yield node
    finally:
        if node.process is not None:
            stop_process(node.process)


def accepts_connections(port: int) -> bool:
    """Return whether a program listens on a port of this computer."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def running_storescp(folder: Path, port: int, *options: str) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the SOPInstanceUID of each instance that a storescp has received, in order."""
    folder.mkdir(exist_ok=True)
    log = folder.parent / f"{folder.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [dcmtk("storescp"), "-d", "-aet", RECEIVER, *options, "-od", str(folder), str(port)],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def received() -> list[str]:
        requests = log.read_text(errors="replace").split("C-STORE RQ")[1:]
        return [UID.search(request)[1] for request in requests]  # type: ignore[index]

    try:
        wait_for("storescp listens", lambda: accepts_connections(port))
        yield received
    finally:
        stop_process(process)
