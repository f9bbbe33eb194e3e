"""Run the server and a DICOM node side by side: a crash of one does not end the other, which is restarted.

`scripts/serve --dicom-port` starts this program with the node's options, in the order of `NodeOptions`, and the
command of the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import Field

from ct2pet_app.dicom_node.settings import AeTitle, Port, read_peers
from ct2pet_app.errors import SettingsError
from ct2pet_app.validation import BoundaryModel, validated
from lib.dicom.network.tls import client_context
from lib.errors import CT2PETError
from lib.processors import end_with_parent

NODE_PROGRAM = Path(__file__).resolve().with_name("node_main.py")
NODE_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")  # the server's have secrets among them
INVALID = 2
CHECK_INTERVAL_S = 0.2
STABLE_AFTER_S = 60.0  # a process that runs so long is restarted at once
MAX_PAUSE_S = 30.0
END_TIMEOUT_S = 30.0


class NodeOptions(BoundaryModel):
    """The options of a DICOM node on the command line."""

    subject = "option"

    dicom_port: Port
    aet: AeTitle
    peers: str = Field(description="the TOML file of the peers")
    studies: str = Field(description="the folder of the studies")
    models_folder: str = Field(description="the folder of the models")


@dataclass
class Watched:
    """A process that is restarted when it crashes.

    Attributes:
        name: In messages.
        ends_all: Whether its regular end, with whatever exit code, ends the other one, too.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ends_all: bool
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    crashes: int = 0
    start_at: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Start the process in a session of its own: this program passes signals on."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=dict(self.environment),
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid(), by=signal.SIGTERM),
        )

    def ended(self) -> int | None:
        """Return the exit code if this end is to end everything; after a crash, plan the restart and return None."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return None
        is_first = self.crashes == 0 and time.monotonic() < self.started_at + STABLE_AFTER_S
        if code >= 0 and (self.ends_all or (code == INVALID and is_first)):
            return code
        self.crashes = self.crashes + 1 if time.monotonic() < self.started_at + STABLE_AFTER_S else 1
        pause_s = min(MAX_PAUSE_S, 2.0 ** (self.crashes - 1)) if self.crashes > 1 else 0.0
        self.process, self.start_at = None, time.monotonic() + pause_s
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        sys.stderr.write(f"ct2pet: {self.name} has ended with {how}; it starts again in {pause_s:.0f} s\n")
        return None


def main(arguments: Sequence[str]) -> int:
    """Run both processes until one of them ends regularly or a signal arrives; return the exit code."""
    try:
        options, server = _parsed(arguments)
        settings = read_peers(Path(options.peers))
        if settings.tls is not None:
            client_context(settings.tls)
        if "://" in options.studies:
            raise SettingsError(
                "a DICOM node stores the CTs that it receives in a folder of studies; with a PACS as the studies, let "
                "the PACS send to another server, or name a folder"
            )
    except CT2PETError as error:
        sys.stderr.write(f"scripts/serve: {error}\n")
        return INVALID
    models_folder = Path(options.models_folder).expanduser().resolve()
    own = {name: os.environ[name] for name in NODE_VARIABLES if name in os.environ}
    node = [
        sys.executable, "-I", "-P", str(NODE_PROGRAM), options.aet, str(options.dicom_port), options.peers,
        options.studies, str(models_folder),
    ]  # fmt: skip
    return _watch(
        [
            Watched("the server", server, os.environ, ends_all=True),
            Watched("the DICOM node", node, own, ends_all=False),
        ]
    )


def _parsed(arguments: Sequence[str]) -> tuple[NodeOptions, list[str]]:
    names = tuple(NodeOptions.model_fields)
    options: dict[str, object] = dict(zip(names, arguments, strict=False))
    port = str(options.get("dicom_port"))
    options["dicom_port"] = int(port) if port.isdigit() else port
    return validated(NodeOptions, options, error=SettingsError, prefix="--"), list(arguments[len(names) :])


def _watch(processes: Sequence[Watched]) -> int:
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    code = None
    while not stopped.is_set() and code is None:
        for watched in processes:
            if watched.process is None and time.monotonic() >= watched.start_at:
                watched.start()
            code = watched.ended() if code is None else code
        stopped.wait(CHECK_INTERVAL_S)
    _end(processes)
    return code or 0


def _end(processes: Sequence[Watched]) -> None:
    """End all processes; kill those that do not end."""
    running = [watched.process for watched in processes if watched.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + END_TIMEOUT_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
