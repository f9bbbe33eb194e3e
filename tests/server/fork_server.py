"""Fork servers from a process that has imported MONAI Label, which takes about seven seconds of CPU time.

Each pytest process has one such parent process. It imports what `monailabel start_server` imports first, and nothing
else; the app is imported after the fork.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Reads one line of JSON per server from stdin and writes its process id to stdout. The kernel reaps ended servers.
PROGRAM = """
import gc, json, os, signal, sys
gc.disable()
from monailabel.main import Main
gc.freeze()
gc.enable()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
else:
    sys.exit()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
server = json.loads(line)
os.setsid()
os.chdir(server["cwd"])
os.environ.clear()
os.environ.update(server["environment"])
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(os.open(server["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
os.dup2(1, 2)
sys.argv = ["monailabel", *server["arguments"]]
Main().run()
"""


class ForkedServer:
    """The subset of `subprocess.Popen` that tests use, for a process that is not a child of this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._is_over = False

    def poll(self) -> int | None:
        """Return None while the process is running, else 0: its exit status is not known."""
        return 0 if self._has_ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended.

        Raises:
            subprocess.TimeoutExpired: The process is still running.
        """
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired("monailabel", timeout or 0)
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal; do nothing once the process has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout_s: float | None) -> bool:
        if not self._is_over and select.select([self._handle], [], [], timeout_s)[0]:
            os.close(self._handle)
            self._is_over = True
        return self._is_over


def fork_server(arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path) -> ForkedServer:
    """Start `monailabel` with these arguments in a new session; write stdout and stderr to `log`."""
    parent = _parent()
    assert parent.stdin is not None and parent.stdout is not None
    server = {"arguments": arguments, "cwd": str(cwd), "environment": dict(environment), "log": str(log)}
    parent.stdin.write(json.dumps(server) + "\n")
    parent.stdin.flush()
    return ForkedServer(int(parent.stdout.readline()))


@functools.cache
def _parent() -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd="/", start_new_session=True, **pipes)
    atexit.register(process.communicate)  # it ends when its stdin is closed
    return process
