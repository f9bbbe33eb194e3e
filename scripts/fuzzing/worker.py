"""Child process that creates and reads mutants, and writes one line of JSON per mutant. It may be killed."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from lib.imaging.files.volume_file import silence_readers
from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.mutate_compressed import break_compressed
from scripts.fuzzing.mutate_dicom import (
    EDITS,
    edit_elements,
    flip_bits,
    other_syntax,
    swap_bytes,
    truncate,
)
from scripts.fuzzing.mutate_other import break_json
from scripts.fuzzing.mutate_volume import break_volume
from scripts.fuzzing.oracle import SILENT, Reading, read, verdict
from scripts.fuzzing.subjects import Subject, load_subjects

MEMORY_BYTES = 4 * 2**30  # virtual address space; SimpleITK and numpy alone map 1.5 GiB
BROKEN, INVALID = "traceback", "invalid"  # an error that is not a CT2PETError; a PET that dciodvfy rejects
TAGS = (
    0x00080008, 0x00080016, 0x00080021, 0x00080022, 0x00080031, 0x00080032, 0x00080060, 0x0008002A, 0x00080201,
    0x00100020, 0x00100040, 0x00101020, 0x00101030, 0x00181072, 0x00181074, 0x00181075, 0x00181078, 0x00181242,
    0x00200032, 0x00200037, 0x00200052, 0x0020000D, 0x0020000E, 0x00080018, 0x00280002, 0x00280004, 0x00280008,
    0x00280010, 0x00280011, 0x00280030, 0x00280051, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120,
    0x00281052, 0x00281053, 0x00281054, 0x00540016, 0x00540300, 0x00541000, 0x00541001, 0x00541006, 0x00541102,
    0x00541300, 0x00541321, 0x7FE00010,
)  # fmt: skip  # attributes that the readers use; most mutations change them
SHARES = {
    **dict.fromkeys(EDITS, 1.0), "other value": 4.0, "no value": 3.0, "deleted": 1.5, "flip": 2.0, "cut": 1.0,
    "swap": 0.5, "syntax": 0.7,
}  # fmt: skip
UID_ERRORS = ("Leading zeroes", "[UI]", "Illegal root for UID")  # copied from the CT unchanged


def main() -> None:
    """Read mutants FIRST to FIRST + COUNT - 1 of SEED; arguments: WORK SEED FIRST COUNT [KEEP]."""
    work, seed, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    keep = Path(sys.argv[5]) if len(sys.argv) > 5 else None
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.stdout.flush()
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keeps the output of libraries out of the JSON lines
    silence_readers()
    subjects = load_subjects(work)
    untouched: dict[str, Reading] = {}
    for number in range(first, first + count):
        lines.write(json.dumps({"started": number}) + "\n")
        lines.write(json.dumps(_one(subjects, untouched, seed, number, work, keep)) + "\n")


def make_mutant(subjects: list[Subject], seed: int, number: int) -> tuple[Subject, Mutant]:
    """Return mutant `number` of a seed; it is reproducible for the same subjects."""
    rng = random.Random(f"{seed}:{number}")
    subject = rng.choices(subjects, [WEIGHTS.get(one.form, 1.0) for one in subjects])[0]
    files = subject.files()
    if subject.form == "volume":
        ((name, file),) = files.items()
        return subject, break_volume(rng, name, file)
    if subject.form == "json":
        instances = {name: json.loads(file) for name, file in files.items()}
        return subject, break_json(rng, instances, tuple(f"{tag:08X}" for tag in TAGS))
    if subject.form == "compressed" and rng.random() < 0.8:
        return subject, break_compressed(rng, files)
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    others = {"flip": flip_bits, "cut": truncate, "swap": swap_bytes, "syntax": other_syntax}
    if kind in others:
        return subject, others[kind](rng, files, subject.modality)
    return subject, edit_elements(rng, kind, files, subject.modality, TAGS)


WEIGHTS = {"dicom": 1.0, "compressed": 0.4, "volume": 1.0, "json": 0.2}  # decoders are slow to start


def _one(
    subjects: list[Subject], untouched: dict[str, Reading], seed: int, number: int, work: Path, keep: Path | None
) -> dict[str, Any]:
    subject, mutant = make_mutant(subjects, seed, number)
    if subject.name not in untouched:
        untouched[subject.name] = read(subject, subject.folder)
    folder = work / "mutant"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in subject.folder.iterdir():
        if path.name not in mutant.files:
            os.link(path, folder / path.name)
    for name, content in mutant.files.items():
        (folder / name).write_bytes(content)
    if keep is not None:
        shutil.copytree(folder, keep / f"{seed}-{number}", dirs_exist_ok=True)
    result = {"number": number, "subject": subject.name, "kind": mutant.kind, "what": mutant.what}
    start = time.monotonic()
    try:
        found = read(subject, folder)
        outcome, detail = verdict(mutant, found, untouched[subject.name])
        invalid = _invalid(found.planned, folder)
        if invalid and outcome != SILENT:
            outcome, detail = INVALID, invalid
    except Exception as error:  # an unexpected error is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome, detail = BROKEN, f"{type(error).__name__}: {str(error)[:200]} ({where.name}, line {where.lineno})"
    status = Path("/proc/self/status").read_text()  # ru_maxrss begins with the peak of the parent process
    peak_mib = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1024
    seconds = round(time.monotonic() - start, 3)
    return {**result, "outcome": outcome, "detail": detail, "seconds": seconds, "peak_mib": peak_mib}


def _invalid(file: bytes | None, folder: Path) -> str:
    """Return the first error that dciodvfy reports for a synthetic PET; empty if it is valid or dciodvfy is missing."""
    program = shutil.which("dciodvfy")
    if file is None or program is None:
        return ""
    path = folder / "synthetic.dcm"
    path.write_bytes(file)
    run = subprocess.run([program, "-new", str(path)], capture_output=True, check=False)
    lines = run.stderr.decode("utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("Error") and "(0008,001c)" not in line]
    return next((line[:200] for line in errors if not any(word in line for word in UID_ERRORS)), "")


if __name__ == "__main__":
    main()
