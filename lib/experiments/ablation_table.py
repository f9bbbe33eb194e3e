"""The table of an ablation: what each choice gains over the reference, how surely, and what it costs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lib.experiments.ablation import MEASURED, Ablation, PatientMetrics, Result
from lib.metrics.agreement import Interval, bootstrap_mean
from lib.pairing.prepared import write_text
from lib.types import finite_or_none

WORDS = {
    "mae_suv_body": "body MAE [SUV]",
    "psnr_db_body": "body PSNR [dB]",
    "ssim_body": "body SSIM",
    "correlation_body": "body correlation",
    "tumour_suv_mean_error": "tumour SUVmean error, size",
}
DIGITS = {"mae_suv_body": 3, "psnr_db_body": 2, "ssim_body": 3, "correlation_body": 3, "tumour_suv_mean_error": 2}
LOWER_IS_BETTER = ("mae_suv_body", "tumour_suv_mean_error")
UNDEFINED = "–"


def write_ablation(ablation: Ablation, out: Path, *, title: str, note: str = "") -> tuple[Path, Path]:
    """Write `ablation.csv`, `ablation.json` and `ablation.md`; return the CSV and the Markdown."""
    reference = ablation.results[0].model
    lines = [_line(result, reference) for result in ablation.results]
    trivial = [[name, "trivial", "", *_means(of)] for name, of in ablation.baselines.items()]
    head = ["choice", "topic", "GFLOP a slice", *(WORDS[name] for name in MEASURED)]
    out.mkdir(parents=True, exist_ok=True)
    csv_path, markdown_path = out / "ablation.csv", out / "ablation.md"
    with csv_path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *lines, *trivial])
    patients = len(reference)
    text = [
        f"# {title}",
        "",
        _markdown([head, *lines, *trivial]),
        "",
        f"Means over {patients} patients, each measured by a network that was not trained on them. In brackets: the "
        "difference to the reference on the same patients, with its 95 % bootstrap interval; **bold** where the whole "
        "interval is on the better side, ~~struck out~~ where it is on the worse. GFLOP of one 256 x 256 slice.",
        *(["", note] if note else []),
        "",
    ]
    write_text(markdown_path, "\n".join(text))
    plain = [
        {**asdict(result.choice), "gflop": result.gflop, **_plain(result.model, reference)}
        for result in ablation.results
    ]
    baselines = {name: _plain(of, reference) for name, of in ablation.baselines.items()}
    write_text(out / "ablation.json", json.dumps({"results": plain, "baselines": baselines}, indent=1, allow_nan=False))
    return csv_path, markdown_path


def difference(figures: PatientMetrics, reference: PatientMetrics, metric: str) -> Interval:
    """Return the mean difference to the reference over the patients that both have; of errors with a sign: of size."""
    both = [patient for patient in figures if metric in figures[patient] and metric in reference.get(patient, {})]
    return bootstrap_mean(_size(figures[p][metric], metric) - _size(reference[p][metric], metric) for p in both)


def mean(figures: PatientMetrics, metric: str) -> float:
    """Return the mean over patients; of errors with a sign, of their size."""
    values = [_size(of[metric], metric) for of in figures.values() if metric in of]
    return sum(values) / len(values) if values else math.nan


def _line(result: Result, reference: PatientMetrics) -> list[str]:
    cells = []
    for name in MEASURED:
        shown = _shown(mean(result.model, name), name)
        if result.model is not reference and shown != UNDEFINED:
            shown += f" ({_difference(result.model, reference, name)})"
        cells.append(shown)
    settings = "; ".join(result.choice.settings)
    words = f"{result.choice.name}: `{settings}`" if settings else result.choice.name
    return [words, result.choice.topic, f"{result.gflop:.1f}", *cells]


def _difference(figures: PatientMetrics, reference: PatientMetrics, metric: str) -> str:
    of = difference(figures, reference, metric)
    digits = DIGITS[metric]
    if math.isnan(of.low):
        return "one patient, no interval" if of.count else "no patient has both"
    text = f"{of.mean:+.{digits}f}, {of.low:+.{digits}f} to {of.high:+.{digits}f}"
    better, worse = (of.high < 0, of.low > 0) if metric in LOWER_IS_BETTER else (of.low > 0, of.high < 0)
    return f"**{text}**" if better else f"~~{text}~~" if worse else text


def _means(figures: PatientMetrics) -> list[str]:
    return [_shown(mean(figures, name), name) for name in MEASURED]


def _shown(value: float, metric: str) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.{DIGITS[metric]}f}"


def _plain(figures: PatientMetrics, reference: PatientMetrics) -> dict[str, object]:
    means = {name: mean(figures, name) for name in MEASURED}
    return {
        "mean": finite_or_none(means),
        "difference": {name: difference(figures, reference, name).as_json() for name in MEASURED},
        "patients": len(figures),
    }


def _size(value: float, metric: str) -> float:
    return abs(value) if metric.endswith("_error") else value


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])
