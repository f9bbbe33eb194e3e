"""Scan and re-scan of a folder of small DICOM files, with the index of headers."""

from __future__ import annotations

import argparse
import itertools
import re
import tempfile
from pathlib import Path

from lib.dicom.scan.header_index import HeaderIndex
from lib.dicom.scan.scan import scan_folder
from lib.errors import InputError
from lib.phantom.generate import PhantomSettings, write_phantoms
from scripts.benchmarks.measure import Figure, Ratio, Result, alternate, cpus, divide, walls

STUDY_SLICES = 50  # of each series
PHANTOM_UID = re.compile(rb"(2\.25\.\d{20,35})\d{4}(?=\D)")
PATIENT_ID = re.compile(rb"PHANTOM([_^])0001")
RESCAN_S = 2.0  # for 100,000 instances, at most
PART = 10  # the folder is compared with one of a tenth of its studies
MAX_STUDIES = 9999


def measure(args: argparse.Namespace) -> Result:
    """Scan a folder and a tenth of it, for the first time and again; every scan starts from the index on disk."""
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as name:
        folder = Path(name)
        instances = {
            "all": copy_studies(folder / "all", instances=args.instances),
            "part": copy_studies(folder / "part", instances=args.instances // PART),
        }
        numbers = itertools.count()

        def first(part: str) -> None:
            _scan(folder / part, folder / f"first-{next(numbers)}.sqlite", instances[part])

        def again(part: str) -> None:
            _scan(folder / part, folder / f"{part}.sqlite", instances[part])

        for part in instances:  # fills the index
            again(part)
        rivals = {
            "first scan": lambda: first("all"),
            "scan again": lambda: again("all"),
            "first scan of a part": lambda: first("part"),
            "scan of a part again": lambda: again("part"),
        }
        times = alternate(rivals, repeats=args.repeats, warm_up=False)
    figures = [Figure("wall", "s", walls(durations), of=name) for name, durations in times.items()]
    figures += [Figure("CPU", "CPU s", cpus(durations), of=name) for name, durations in times.items()]
    share = instances["part"] / instances["all"]
    limit_s = RESCAN_S * instances["all"] / 100_000
    ratios = [
        Ratio("first scan / scan again", divide(walls(times["first scan"]), walls(times["scan again"]))),
        Ratio(f"scan again / {limit_s:g} s", walls(times["scan again"], scale=1 / limit_s), at_most=1),
        *(
            Ratio(f"{whole}: per instance, all / part", divide(walls(times[whole], scale=share), walls(times[part])))
            for whole, part in (("first scan", "first scan of a part"), ("scan again", "scan of a part again"))
        ),
    ]
    return Result({"instances": instances["all"], "instances_of_part": instances["part"]}, figures, ratios)


def copy_studies(folder: Path, *, instances: int) -> int:
    """Write phantom studies of two series that differ in their UIDs and patients; return the number of instances.

    One study is made, and copied with patched bytes: UIDs and patient IDs of equal length.
    """
    slices = min(STUDY_SLICES, max(2, instances // 2))
    studies = max(1, instances // (2 * slices))
    if studies > MAX_STUDIES:
        raise InputError(f"--instances is {instances}, expected at most {MAX_STUDIES * 2 * STUDY_SLICES}")
    settings = PhantomSettings(slices=slices, ct_matrix=32, ct_pixel_mm=12.5, pet_matrix=32, pet_pixel_mm=12.5)
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as template:
        study = write_phantoms(Path(template), patients=1, settings=settings)[0]
        files = {path.relative_to(study): path.read_bytes() for path in sorted(study.rglob("*.dcm"))}
    for number in range(1, studies + 1):
        target = folder / f"STUDY_{number:04d}"
        for series in {name.parent for name in files}:
            (target / series).mkdir(parents=True)
        for name, content in files.items():
            content = PHANTOM_UID.sub(rb"\g<1>%04d" % number, content)
            (target / name).write_bytes(PATIENT_ID.sub(rb"PHANTOM\g<1>%04d" % number, content))
    return studies * len(files)


def _scan(folder: Path, index: Path, expected: int) -> None:
    report = scan_folder(folder, index=HeaderIndex(index))
    found = sum(len(series.series.files) for series in report.series)
    if found != expected:
        raise InputError(f"{folder}: found {found} instances, expected {expected}")
