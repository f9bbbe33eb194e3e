"""The table of an ablation: each variant's difference from the reference with its interval, and its cost."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lib.experiments.ablation import MEASURED, Ablation, PatientMetrics, Result
from lib.files import write_text
from lib.metrics.agreement import Interval, bootstrap_mean
from lib.types import finite_or_none

LABELS = {
    "mae_suv_body": "body MAE [SUV]",
    "psnr_db_body": "body PSNR [dB]",
    "ssim_body": "body SSIM",
    "correlation_body": "body correlation",
    "tumour_suv_mean_error": "tumour SUVmean error, absolute",
}
DIGITS = {"mae_suv_body": 3, "psnr_db_body": 2, "ssim_body": 3, "correlation_body": 3, "tumour_suv_mean_error": 2}
LOWER_IS_BETTER = ("mae_suv_body", "tumour_suv_mean_error")
UNDEFINED = "–"


def write_ablation(ablation: Ablation, out: Path, *, title: str, note: str = "") -> tuple[Path, Path]:
    """Write `ablation.csv`, `ablation.json` and `ablation.md`; return the CSV and the Markdown."""
    reference = ablation.results[0].model
    lines = [_line(result, reference) for result in ablation.results]
    baselines = [[name, "baseline", "", *_means(by_patient)] for name, by_patient in ablation.baselines.items()]
    head = ["choice", "topic", "GFLOP a slice", *(LABELS[name] for name in MEASURED)]
    out.mkdir(parents=True, exist_ok=True)
    csv_path, markdown_path = out / "ablation.csv", out / "ablation.md"
    with csv_path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *lines, *baselines])
    patients = len(reference)
    text = [
        f"# {title}",
        "",
        _markdown([head, *lines, *baselines]),
        "",
        f"Means over {patients} patients, each measured by a network that was not trained on them. In brackets: the "
        "difference from the reference on the same patients, with its 95 % bootstrap interval; **bold** where the full "
        "interval is better, ~~struck out~~ where it is worse. GFLOP of one 256 x 256 slice.",
        *(["", note] if note else []),
        "",
    ]
    write_text(markdown_path, "\n".join(text))
    plain = [
        {**asdict(result.variant), "gflop": result.gflop, **_plain(result.model, reference)}
        for result in ablation.results
    ]
    document = {
        "results": plain,
        "baselines": {name: _plain(metrics, reference) for name, metrics in ablation.baselines.items()},
    }
    write_text(out / "ablation.json", json.dumps(document, indent=1, allow_nan=False))
    return csv_path, markdown_path


def difference(metrics: PatientMetrics, reference: PatientMetrics, metric: str) -> Interval:
    """Return the mean difference from the reference over common patients; signed errors by their absolute value."""
    both = [patient for patient in metrics if metric in metrics[patient] and metric in reference.get(patient, {})]
    return bootstrap_mean(
        _magnitude(metrics[p][metric], metric) - _magnitude(reference[p][metric], metric) for p in both
    )


def mean(metrics: PatientMetrics, metric: str) -> float:
    """Return the mean over patients; signed errors by their absolute value."""
    values = [_magnitude(row[metric], metric) for row in metrics.values() if metric in row]
    return sum(values) / len(values) if values else math.nan


def _line(result: Result, reference: PatientMetrics) -> list[str]:
    cells = []
    for name in MEASURED:
        shown = _shown(mean(result.model, name), name)
        if result.model is not reference and shown != UNDEFINED:
            shown += f" ({_difference(result.model, reference, name)})"
        cells.append(shown)
    settings = "; ".join(result.variant.settings)
    name = f"{result.variant.name}: `{settings}`" if settings else result.variant.name
    return [name, result.variant.topic, f"{result.gflop:.1f}", *cells]


def _difference(metrics: PatientMetrics, reference: PatientMetrics, metric: str) -> str:
    change = difference(metrics, reference, metric)
    digits = DIGITS[metric]
    if math.isnan(change.low):
        return "one patient, no interval" if change.count else "no common patients"
    text = f"{change.mean:+.{digits}f}, {change.low:+.{digits}f} to {change.high:+.{digits}f}"
    better, worse = (
        (change.high < 0, change.low > 0) if metric in LOWER_IS_BETTER else (change.low > 0, change.high < 0)
    )
    return f"**{text}**" if better else f"~~{text}~~" if worse else text


def _means(metrics: PatientMetrics) -> list[str]:
    return [_shown(mean(metrics, name), name) for name in MEASURED]


def _shown(value: float, metric: str) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.{DIGITS[metric]}f}"


def _plain(metrics: PatientMetrics, reference: PatientMetrics) -> dict[str, object]:
    means = {name: mean(metrics, name) for name in MEASURED}
    return {
        "mean": finite_or_none(means),
        "difference": {name: difference(metrics, reference, name).as_json() for name in MEASURED},
        "patients": len(metrics),
    }


def _magnitude(value: float, metric: str) -> float:
    return abs(value) if metric.endswith("_error") else value


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])
