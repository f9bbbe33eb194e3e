"""Parse strace logs: files opened, programs started and connections made by a process and its children."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

TRACED = "openat,open,openat2,creat,connect,execve"
OPENED = re.compile(r'(?:openat\(AT_FDCWD|openat2\(AT_FDCWD|open|creat)[(,] ?"((?:[^"\\]|\\.)*)"')
CONNECTED = re.compile(r"connect\(\d+, \{sa_family=AF_INET6?.*?(?:inet_addr|inet_pton)\((?:AF_INET6, )?\"([^\"]+)\"")
WRITTEN = re.compile(
    r'(?:openat\(AT_FDCWD, |openat2\(AT_FDCWD, |open\()"((?:[^"\\]|\\.)*)", [^)\n]*?(?:O_WRONLY|O_RDWR|O_CREAT)'
    r'|creat\("((?:[^"\\]|\\.)*)"'
)
STARTED = re.compile(r'execve\("((?:[^"\\]|\\.)*)"')


def strace_to(log: Path) -> list[str]:
    """Return the strace command that records opened files, connections and started programs in `log`."""
    program = shutil.which("strace")
    assert program is not None, "strace is not installed"
    return [program, "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", f"trace={TRACED}", "-o", str(log)]


def opened(trace: str) -> set[str]:
    """Return the paths that were opened, failed attempts included."""
    return set(OPENED.findall(trace))


def written(trace: str) -> set[str]:
    """Return the paths that were opened for writing, failed attempts included."""
    return {opened or created for opened, created in WRITTEN.findall(trace)}


def connected(trace: str) -> set[str]:
    """Return the IP addresses of all connections."""
    return set(CONNECTED.findall(trace))


def started(trace: str) -> set[str]:
    """Return the programs that were started."""
    return set(STARTED.findall(trace))
