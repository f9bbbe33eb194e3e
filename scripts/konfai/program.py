"""Install KonfAI in its own virtual environment, and run it with a time limit."""

from __future__ import annotations

import contextlib
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
LOOK_INTERVAL_S = 0.5  # at whether it has ended; the end itself is noticed within 50 ms
Report = Callable[[str], None]


def installed(environment: Path, *, report: Report) -> Path:
    """Return the konfai program of an environment, installed if it is missing or its requirements changed."""
    program, stamp = environment / "bin" / "konfai", environment / "installed-konfai.txt"
    requirements = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if program.is_file() and stamp.is_file() and stamp.read_text().strip() == requirements:
        return program
    python = environment / "bin" / "python"
    if not python.is_file():
        report(f"Making {environment}")
        _call([sys.executable, "-m", "venv", str(environment)])
    report(f"Installing {REQUIREMENTS.name} of KonfAI (a few minutes the first time)")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*pip, "-r", str(REQUIREMENTS)])
    stamp.write_text(requirements)
    return program


def write_configuration(template: str, path: Path, **values: object) -> Path:
    """Write one of the YAML templates of this folder with its values filled in; return the file."""
    path.write_text(
        Template((HERE / template).read_text()).substitute({key: str(value) for key, value in values.items()})
    )
    return path


class Konfai:
    """The konfai program in a working folder, where it writes Checkpoints, Statistics and Predictions."""

    def __init__(self, program: Path, folder: Path, *, threads: int, report: Report) -> None:
        self._program = program
        self._folder = folder
        self._threads = threads
        self._report = report

    def run(self, *arguments: str, log: str, seconds: float | None = None) -> str:
        """Run a command, interrupt it after `seconds`, and return its output.

        Raises:
            SystemExit: KonfAI failed; the message has the end of its output.
        """
        path = self._folder / log
        started = last_report = time.monotonic()
        interrupted = False
        with path.open("wb") as file:
            process = subprocess.Popen(
                [str(self._program), *arguments],
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=LOOK_INTERVAL_S)
                    now = time.monotonic()
                    if now - last_report >= 30:
                        last_report = now
                        self._report(f"  {(now - started) / 60:.1f} minutes: {progress_of(_read_log(path))}")
                    if seconds is not None and not interrupted and now - started >= seconds:
                        interrupted = True
                        process.send_signal(signal.SIGINT)
                    if interrupted and seconds is not None and now - started >= seconds + STOP_TIMEOUT_S:
                        process.kill()
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(timeout=STOP_TIMEOUT_S)
        output = _read_log(path).replace("\r", "\n")
        if process.returncode and not interrupted:
            raise SystemExit(f"KonfAI {arguments[0]} failed; the end of {path}:\n{output[-2000:]}")
        return output

    def _environment(self) -> dict[str, str]:
        threads = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        # both programs train for equal time on the same CPU
        return {**inherited, **threads, "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


def progress_of(output: str) -> str:
    """Return a short progress message from KonfAI's output."""
    epochs = len(re.findall(r"\[KonfAI\] epoch [\d.]+ s", output))
    parts = [f"{epochs} epochs finished"]
    for phase, label in (("Training", "loss"), ("Validation", "on validation patients")):
        losses = re.findall(rf"{phase} : Loss \([^\r\n]*?: (\d+\.\d+)\) Memory", output[-LOG_TAIL:])
        parts += [f"{label} {losses[-1]}"] if losses else []
    return ", ".join(parts)


def _read_log(log: Path) -> str:
    """Return the text of a log, replacing a partly written character of a progress bar."""
    return log.read_text(encoding="utf-8", errors="replace")


def _call(command: list[str]) -> None:
    completed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{(completed.stderr or completed.stdout)[-2000:]}")
