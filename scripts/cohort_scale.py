"""Compute, on paper, how many studies an hour a cohort reaches against machines, and what 1,000 studies cost.

    python scripts/cohort_scale.py [--set gpu_slice_ms=0.5 ...] [--out FILE]

Each resource alone allows a number of studies an hour; the smallest decides. Every assumption is a field of
`Assumptions` and can be set; those marked "measured" are processor time on one core of an AMD EPYC, CTs of 512 x 512;
the others are what a department may have. Prices are for illustration: set your own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

SECONDS_PER_HOUR = 3600.0
MACHINES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Assumptions:
    """What a study and the machines are like.

    Attributes:
        slices, slice_mb: Of a CT; the PET that is written has as many.
        core_slice_ms: A slice in the network of the default recipe on one core, resampling included (measured).
        gpu_slice_ms: The same on a GPU.
        read_slice_ms, write_slice_ms: A slice on one core (measured).
        compare_slice_ms: Comparison of a slice with the real PET on one core (measured).
        compared: Share of the CTs that have a real PET.
        cores: Of a machine; one with GPUs uses the cores for reading and writing.
        gpus: Of a machine with GPUs.
        archive_mb_s: What the PACS or the file server sends and takes in total.
        machine_mb_s: Network of one machine (10 Gbit/s).
        driver_ms: Of the driver for a study: two transactions on a disk (measured).
        cpu_machine_per_hour, gpu_machine_per_hour: Price of a machine, any currency.
    """

    slices: int = 300
    slice_mb: float = 0.53
    core_slice_ms: float = 4.0
    gpu_slice_ms: float = 1.0
    read_slice_ms: float = 2.7
    write_slice_ms: float = 1.8
    compare_slice_ms: float = 14.5
    compared: float = 0.1
    cores: int = 4
    gpus: int = 1
    archive_mb_s: float = 1000.0
    machine_mb_s: float = 1000.0
    driver_ms: float = 10.0
    cpu_machine_per_hour: float = 0.2
    gpu_machine_per_hour: float = 3.0


@dataclass(frozen=True)
class Throughput:
    """Studies an hour of a number of machines, what limits them, the price of 1,000 studies, and every limit alone."""

    kind: str
    machines: int
    studies_per_hour: float
    limited_by: str
    cost_per_1000: float
    limits_per_hour: Mapping[str, int]


def throughput(kind: str, machines: int, given: Assumptions) -> Throughput:
    """Return the throughput of machines of a kind: `cpu` or `gpu`."""
    study_mb = 2 * given.slices * given.slice_mb  # read and written
    around_ms = given.read_slice_ms + given.write_slice_ms + given.compared * given.compare_slice_ms
    around_s = given.slices * around_ms / 1000
    network_s = given.slices * (given.core_slice_ms if kind == "cpu" else given.gpu_slice_ms) / 1000
    if kind == "cpu":  # the same cores read, compute and write
        limits = {"processors": machines * given.cores / (network_s + around_s)}
    else:
        limits = {
            "GPUs": machines * given.gpus / network_s,
            "processors": machines * given.cores / around_s,
        }
    limits |= {
        "network of the machines": machines * given.machine_mb_s / study_mb,
        "archive": given.archive_mb_s / study_mb,
        "driver": 1000 / given.driver_ms,
    }
    limit = min(limits, key=lambda name: limits[name])
    per_hour = limits[limit] * SECONDS_PER_HOUR
    price = machines * (given.cpu_machine_per_hour if kind == "cpu" else given.gpu_machine_per_hour)
    every = {name: round(value * SECONDS_PER_HOUR) for name, value in limits.items()}
    return Throughput(kind, machines, round(per_hour), limit, round(1000 * price / per_hour, 2), every)


def with_settings(given: Assumptions, settings: Sequence[str]) -> Assumptions:
    """Return assumptions with `name=value` settings.

    Raises:
        ValueError: An unknown name, or not a number above 0.
    """
    kinds = {one.name: int if one.type == "int" else float for one in fields(given)}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in kinds:
            raise ValueError(f"unknown assumption {name}; known are {', '.join(kinds)}")
        number = kinds[name](value)
        if not number > 0 and name != "compared":
            raise ValueError(f"{name} must be above 0, found {value}")
        changed: dict[str, Any] = {name: number}
        given = replace(given, **changed)
    return given


def main() -> int:
    """Print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="an assumption")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    args = parser.parse_args()
    try:
        given = with_settings(Assumptions(), args.set)
    except ValueError as error:
        parser.error(str(error))
    rows = [throughput(kind, machines, given) for kind in ("cpu", "gpu") for machines in MACHINES]
    print(f"{'kind':<5}{'machines':>9}{'studies/h':>11}{'cost/1,000':>12}  limited by")
    for row in rows:
        print(
            f"{row.kind:<5}{row.machines:>9}{row.studies_per_hour:>11,.0f}{row.cost_per_1000:>12.2f}  {row.limited_by}"
        )
    if args.out is not None:
        result = {"assumptions": asdict(given), "rows": [asdict(row) for row in rows]}
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
