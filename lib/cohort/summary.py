"""What the record of a cohort says: progress, throughput, failures, uptake and metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib.cohort.comparison import SUV_EDGES
from lib.cohort.manifest import DONE, FAILED, PENDING, RUNNING, UNUSABLE, Manifest
from lib.pairing.split import Side

SECONDS_PER_HOUR = 3600.0
STEP_NAMES = ("read", "synthesise", "write", "compare")
COMPARED = ("mae_suv_body", "psnr_db_body", "ssim_body")
UNSEEN = frozenset({Side.TEST.value, Side.UNSEEN.value})


@dataclass(frozen=True)
class FailureGroup:
    """Studies that failed, or cannot be used, for one reason."""

    state: str
    step: str
    code: str
    count: int
    example_ct: str
    example: str


@dataclass(frozen=True)
class ScannerMetrics:
    """Mean metrics of the model over the CTs of one scanner, of patients that it was not trained on."""

    scanner: str
    studies: int
    mean: Mapping[str, float | None]
    hu_median: Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class CohortSummary:
    """The content of a record.

    Attributes:
        identity: What the files depend on.
        counts: Chosen studies by state.
        studies: All studies, as the record has them.
        failures: By state, step and code; the most frequent first.
        runs: With engine, begin, duration and number of workers.
    """

    identity: Mapping[str, str]
    counts: Mapping[str, int]
    studies: tuple[Mapping[str, Any], ...] = field(repr=False)
    failures: tuple[FailureGroup, ...]
    runs: tuple[Mapping[str, Any], ...]

    @property
    def done(self) -> tuple[Mapping[str, Any], ...]:
        """The studies that have a synthetic PET."""
        return tuple(study for study in self.studies if study["state"] == DONE)

    @property
    def retried(self) -> int:
        """Attempts that followed a failure or a loss."""
        return sum(max(study["attempts"] - 1, 0) for study in self.studies)

    @property
    def lost(self) -> int:
        """Attempts that ended with their worker or driver."""
        return sum(study["losses"] for study in self.studies)

    @property
    def studies_per_hour(self) -> float | None:
        """Finished studies per hour of running, over all runs; None before the first."""
        seconds, done = (sum(run[name] for run in self.runs) for name in ("seconds", "done"))
        return done / seconds * SECONDS_PER_HOUR if seconds and done else None

    @property
    def remaining_s(self) -> float | None:
        """Expected time for what is pending; None if unknown."""
        rate, left = self.studies_per_hour, self.counts[PENDING] + self.counts[RUNNING]
        return left / rate * SECONDS_PER_HOUR if rate else None

    def step_seconds(self) -> dict[str, tuple[float, float]]:
        """Return median and 95th percentile of each step's duration, s; steps that no study has are left out."""
        found = {name: [one["seconds"][name] for one in self.done if name in one["seconds"]] for name in STEP_NAMES}
        return {
            name: (float(np.median(seconds)), float(np.percentile(seconds, 95)))
            for name, seconds in found.items()
            if seconds
        }

    def slowest(self, count: int = 10) -> list[tuple[str, str, float]]:
        """Return (CT, step, seconds) of the longest steps."""
        steps = [(one["ct_uid"], name, seconds) for one in self.done for name, seconds in one["seconds"].items()]
        return sorted(steps, key=lambda step: (-step[2], step[0]))[:count]

    def histogram(self) -> list[int]:
        """Return the number of voxels of all PETs in each bin of `SUV_EDGES`."""
        counts = np.zeros(len(SUV_EDGES), dtype=np.int64)
        for study in self.done:
            found = study["result"].get("histogram") or ()
            if len(found) == len(counts):
                counts += np.array(found, dtype=np.int64)
        return [int(count) for count in counts]

    def suv(self, name: str) -> list[float]:
        """Return `mean` or `max` of the SUVbw of each PET that was synthesised."""
        return [study["result"]["suv"][name] for study in self.done if study["result"].get("suv")]

    def by_scanner(self) -> tuple[ScannerMetrics, ...]:
        """Return the mean metrics by scanner, sorted by name."""
        groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for study in self.done:
            result = study["result"]
            if result.get("metrics") and result.get("side") in UNSEEN:
                groups[result["scanner"] or "unknown"].append(result["metrics"])
        return tuple(
            ScannerMetrics(scanner, len(metrics), _means(metrics, "model"), _means(metrics, "hu_median"))
            for scanner, metrics in sorted(groups.items())
        )

    def as_json(self) -> dict[str, Any]:
        """Return the keys of `cohort status --json`, except `out`."""
        return {
            "identity": dict(self.identity),
            "counts": dict(self.counts),
            "attempts": sum(study["attempts"] for study in self.studies),
            "retried": self.retried,
            "lost": self.lost,
            "slices": sum(study["result"].get("slices", 0) for study in self.done),
            "studies_per_hour": self.studies_per_hour,
            "remaining_s": self.remaining_s,
            "failures": [asdict(one) for one in self.failures],
            "runs": [dict(run) for run in self.runs],
        }

    def details_as_json(self) -> dict[str, Any]:
        """Return the further keys of `cohort report --json`."""
        return {
            "suv": {"edges": SUV_EDGES, "voxels": self.histogram(), "mean": self.suv("mean"), "max": self.suv("max")},
            "step_seconds": {name: {"median": pair[0], "p95": pair[1]} for name, pair in self.step_seconds().items()},
            "by_scanner": [asdict(one) for one in self.by_scanner()],
            "slowest": [{"ct_uid": ct, "step": step, "seconds": seconds} for ct, step, seconds in self.slowest()],
        }


def summarize(out: Path) -> CohortSummary:
    """Return the content of a cohort's record.

    Raises:
        InputError: The folder has no record, or a damaged one.
    """
    with Manifest.open(out) as manifest:
        studies = tuple(manifest.studies())
        return CohortSummary(
            identity=manifest.identity,
            counts=manifest.counts(),
            studies=studies,
            failures=_failures(studies),
            runs=tuple(manifest.runs()),
        )


def _failures(studies: tuple[Mapping[str, Any], ...]) -> tuple[FailureGroup, ...]:
    failed = [study for study in studies if study["state"] in (FAILED, UNUSABLE)]
    counted = Counter((study["state"], study["step"], study["code"]) for study in failed)
    first: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for study in failed:
        first.setdefault((study["state"], study["step"], study["code"]), study)
    return tuple(
        FailureGroup(*key, count, first[key]["ct_uid"], first[key]["reason"]) for key, count in counted.most_common()
    )


def _means(metrics: list[Mapping[str, Any]], method: str) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in COMPARED:
        values = [one[method][name] for one in metrics if one.get(method, {}).get(name) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means
