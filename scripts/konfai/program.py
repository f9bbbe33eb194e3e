"""KonfAI as a program in an environment of its own: install it, run it, watch it, stop it in time."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
LOG_TAIL = 200_000  # characters: some epochs
STOP_TIMEOUT_S = 120.0  # KonfAI writes a checkpoint when it is interrupted
Tell = Callable[[str], None]


def installed(environment: Path, *, tell: Tell) -> Path:
    """Return the konfai program of an environment, made and filled when it is missing or its requirements changed."""
    program, stamp = environment / "bin" / "konfai", environment / "installed-konfai.txt"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if program.is_file() and stamp.is_file() and stamp.read_text().strip() == wanted:
        return program
    python = environment / "bin" / "python"
    if not python.is_file():
        tell(f"Making {environment}")
        _call([sys.executable, "-m", "venv", str(environment)])
    tell(f"Installing {REQUIREMENTS.name} of KonfAI (a few minutes the first time)")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*pip, "-r", str(REQUIREMENTS)])
    stamp.write_text(wanted)
    return program


def write_configuration(template: str, path: Path, **words: object) -> Path:
    """Write one of the YAML templates beside this file with its words filled in; return the file."""
    path.write_text(Template((HERE / template).read_text()).substitute({key: str(word) for key, word in words.items()}))
    return path


class Konfai:
    """The program, run inside one working folder: it leaves Checkpoints, Statistics and Predictions there."""

    def __init__(self, program: Path, folder: Path, *, threads: int, tell: Tell) -> None:
        self._program = program
        self._folder = folder
        self._threads = threads
        self._tell = tell

    def run(self, *words: str, log: str, seconds: float | None = None) -> str:
        """Run one command to its end, or interrupt it after so many seconds; return what it said.

        Raises:
            SystemExit: KonfAI failed; the message holds its last words.
        """
        path = self._folder / log
        started = told = time.monotonic()
        interrupted = False
        with path.open("wb") as file:
            process = subprocess.Popen(
                [str(self._program), *words],
                cwd=self._folder,
                env=self._surroundings(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    time.sleep(0.5)
                    now = time.monotonic()
                    if now - told >= 30:
                        told = now
                        self._tell(f"  {(now - started) / 60:.1f} minutes: {progress_of(_said(path))}")
                    if seconds is not None and not interrupted and now - started >= seconds:
                        interrupted = True
                        process.send_signal(signal.SIGINT)
                    if interrupted and seconds is not None and now - started >= seconds + STOP_TIMEOUT_S:
                        process.kill()
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(timeout=STOP_TIMEOUT_S)
        said = _said(path).replace("\r", "\n")
        if process.returncode and not interrupted:
            raise SystemExit(f"KonfAI {words[0]} failed; the end of {path}:\n{said[-2000:]}")
        return said

    def _surroundings(self) -> dict[str, str]:
        threads = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        kept = {name: word for name, word in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        # the comparison is one of equal time on the same processor
        return {**kept, **threads, "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


def progress_of(said: str) -> str:
    """Return how far a run is, in a few words, from what KonfAI has printed."""
    epochs = len(re.findall(r"\[KonfAI\] epoch [\d.]+ s", said))
    words = [f"{epochs} epochs done"]
    for running, called in (("Training", "loss"), ("Validation", "on validation patients")):
        losses = re.findall(rf"{running} : Loss \([^\r\n]*?: (\d+\.\d+)\) Memory", said[-LOG_TAIL:])
        words += [f"{called} {losses[-1]}"] if losses else []
    return ", ".join(words)


def _said(log: Path) -> str:
    """Return a log's text; a progress bar's character that is half written must not end an hour of training."""
    return log.read_text(encoding="utf-8", errors="replace")


def _call(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{(done.stderr or done.stdout)[-2000:]}")
