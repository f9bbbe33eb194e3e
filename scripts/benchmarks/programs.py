"""The programs that a user types, run as processes: `main.py`, on phantoms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lib.errors import InputError
from lib.phantom.generate import PhantomSettings, write_phantoms

ROOT = Path(__file__).resolve().parents[2]
FIELD_OF_VIEW_MM = 400
MAX_LENGTH_MM = 2000


def phantom_ct(folder: Path, *, slices: int, matrix: int) -> Path:
    """Write a phantom and return the folder of its CT; many slices are thinner, since no scanner's CT is longer."""
    settings = PhantomSettings(
        slices=slices,
        slice_spacing_mm=min(PhantomSettings.slice_spacing_mm, MAX_LENGTH_MM / slices),
        ct_matrix=matrix,
        ct_pixel_mm=FIELD_OF_VIEW_MM / matrix,
    )
    return write_phantoms(folder, patients=1, settings=settings)[0] / "CT"


def synthesize_command(ct: Path, model: Path, out: Path, *, device: str) -> list[str]:
    """Return the command that a user types; to a folder it writes DICOM, to a file that format."""
    command = [sys.executable, ROOT / "main.py", "synthesize", ct, "--model", model, "--out", out, "--device", device]
    if not out.suffix:
        command += ["--format", "dicom"]
    return [*map(str, command), "--allow-unlike"]


def run_quietly(command: list[str]) -> str:
    """Run a command in the repository and return its output.

    Raises:
        InputError: It failed; the message has the end of its output.
    """
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise InputError(f"{' '.join(command)} failed: {(completed.stderr or completed.stdout)[-2000:]}")
    return completed.stdout
