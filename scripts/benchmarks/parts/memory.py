"""Peak memory of `main.py` against the number of slices of a CT and the number of studies in a folder."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.benchmarks.measure import Figure, Ratio, Result, divide
from scripts.benchmarks.network import save_model
from scripts.benchmarks.parts.scan import STUDY_SLICES, copy_studies
from scripts.benchmarks.programs import ROOT, phantom_ct, run_quietly, synthesize_command

MAX_GROWTH = 1.2  # of the peak beyond the CT, from the smaller number of slices to the larger one; the PET is streamed
FLOAT32_BYTES = 4
# runs a program like `python PROGRAM ...`, and prints its own peak last; ru_maxrss may be that of the parent
WATCHED = """
import atexit, pathlib, runpy, sys
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print("\\n" + status.read_text().partition("VmHWM:")[2].split()[0]))
sys.argv = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measure(args: argparse.Namespace) -> Result:
    """Measure the peak of a synthesis for two CTs, and of a scan for two folders, in turn."""
    few, many = args.slice_counts
    few_studies, many_studies = args.study_counts
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as name:
        folder = Path(name)
        save_model(args, folder / "model.safetensors")
        cts = {slices: phantom_ct(folder / f"{slices}", slices=slices, matrix=args.matrix) for slices in (few, many)}
        for studies in (few_studies, many_studies):
            copy_studies(folder / f"{studies}-studies", instances=studies * 2 * STUDY_SLICES)
        synthesis: dict[int, list[float]] = {few: [], many: []}
        scans: dict[int, list[float]] = {few_studies: [], many_studies: []}
        for number in range(args.repeats):
            for slices, ct in cts.items():
                out = folder / f"pet-{slices}-{number}"
                synthesis[slices].append(
                    peak_mb(synthesize_command(ct, folder / "model.safetensors", out, device=args.device))
                )
            for studies, peaks in scans.items():
                command = [sys.executable, str(ROOT / "main.py"), "scan", str(folder / f"{studies}-studies"), "--json"]
                peaks.append(peak_mb(command))
    beyond = {
        slices: tuple(peak - slices * args.matrix**2 * FLOAT32_BYTES / 1e6 for peak in peaks)
        for slices, peaks in synthesis.items()
    }
    figures = [
        Figure("peak", "MB", tuple(peaks), of=f"synthesis, {slices} slices") for slices, peaks in synthesis.items()
    ]
    figures += [
        Figure("peak beyond the CT", "MB", values, of=f"synthesis, {slices} slices")
        for slices, values in beyond.items()
    ]
    figures += [Figure("peak", "MB", tuple(peaks), of=f"scan, {studies} studies") for studies, peaks in scans.items()]
    ratios = [
        Ratio(f"beyond the CT: {many} slices / {few}", divide(beyond[many], beyond[few]), at_most=MAX_GROWTH),
        Ratio(f"scan: {many_studies} studies / {few_studies}", divide(scans[many_studies], scans[few_studies])),
    ]
    return Result({"matrix": args.matrix, "instances_per_study": 2 * STUDY_SLICES}, figures, ratios)


def peak_mb(command: list[str]) -> float:
    """Run a Python program and return its peak resident memory, MB (Linux)."""
    python, *arguments = command
    output = run_quietly([python, "-c", WATCHED, *arguments])
    return int(output.split()[-1]) * 1024 / 1e6
