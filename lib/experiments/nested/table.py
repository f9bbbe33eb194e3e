"""The report of a nested cross-validation: all patients, each stratum, each patient, with differences to the lookup."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lib.experiments.nested.measure import MEASURED, STRATA, MethodMetrics, PatientMetrics
from lib.experiments.nested.protocol import NestedResult
from lib.files import write_text
from lib.metrics.agreement import Interval, bootstrap_mean
from lib.metrics.baselines import BASELINE_NAMES

REFERENCE = "hu_median"
CHOSEN = "chosen by the inner folds"
LABELS = {
    "mae_suv_body": "body MAE [SUV]",
    "psnr_db_body": "body PSNR [dB]",
    "ssim_body": "body SSIM",
    "correlation_body": "body correlation",
    "tumour_suv_mean_error": "tumour SUVmean error, size",
    "tumour_suv_max_error": "tumour SUVmax error, size",
}
DIGITS = {name: 2 if name.startswith(("psnr", "tumour")) else 3 for name in MEASURED}
HIGHER_IS_BETTER = ("psnr_db_body", "ssim_body", "correlation_body")
UNDEFINED = "–"
Values = Mapping[str, Mapping[str, float]]  # by patient, by metric


def write_nested(result: NestedResult, out: Path, *, title: str, note: str = "") -> tuple[Path, ...]:
    """Write `nested.md`, `nested.json` and `patients.csv`; return the paths."""
    methods = methods_of(result)
    out.mkdir(parents=True, exist_ok=True)
    markdown, document, table = out / "nested.md", out / "nested.json", out / "patients.csv"
    sections = [
        f"# {title}",
        f"{len(result.fold_of)} patients in {len(result.choices)} outer folds. {_how(result)}",
        comparison_table(methods, list(result.fold_of)),
        "Mean over patients with its 95 % bootstrap interval; in the second line of a cell, the difference from the "
        "median lookup on the same patients: **bold** where the full interval is better, ~~struck out~~ where it is "
        "worse.",
        "## What each outer fold chose",
        _choices_table(result),
        "## By stratum",
        *_strata(result, methods),
        "## Patient by patient",
        _patients_table(result, methods),
        *([note] if note else []),
    ]
    write_text(markdown, "\n\n".join(sections) + "\n")
    write_text(document, json.dumps(_as_json(result, methods), indent=1, allow_nan=False))
    _write_patients(result, methods, table)
    return markdown, document, table


def methods_of(result: NestedResult) -> dict[str, Values]:
    """Return the metrics of each patient by method: the choice, every candidate, the baselines of the reference."""
    reference = result.by_candidate[result.candidates[0].name]
    methods: dict[str, Values] = {}
    if len(result.candidates) > 1:
        methods[CHOSEN] = _of_method(result.chosen, "model")
    methods |= {name: _of_method(patients, "model") for name, patients in result.by_candidate.items()}
    return methods | {name: _of_method(reference, name) for name in BASELINE_NAMES}


def comparison_table(methods: Mapping[str, Values], patients: Sequence[str], *, reference: str = REFERENCE) -> str:
    """Return a Markdown table of means over patients with intervals, and of differences from the reference."""
    rows = [["method", *LABELS.values()]]
    for name, values in methods.items():
        rows.append([name, *(_cell(values, methods[reference], metric, patients) for metric in MEASURED)])
    return _markdown(rows)


def difference(method: Values, reference: Values, metric: str, patients: Sequence[str]) -> Interval:
    """Return the mean difference method - reference over patients that have both; signed errors by their size."""
    both = [p for p in patients if metric in method.get(p, {}) and metric in reference.get(p, {})]
    return bootstrap_mean(_size(method[p][metric], metric) - _size(reference[p][metric], metric) for p in both)


def sentences_of_strata(result: NestedResult, methods: Mapping[str, Values]) -> list[str]:
    """Return one sentence for each stratum in which the first method is not ahead of the median lookup."""
    method = next(iter(methods))
    sentences = []
    for stratum in STRATA:
        patients = _of_stratum(result, stratum)
        behind = [
            f"{LABELS[metric]} ({_signed(change, metric)})"
            for metric in ("mae_suv_body", "psnr_db_body")
            if patients
            and not _gain(change := difference(methods[method], methods[REFERENCE], metric, patients), metric) > 0
        ]
        if behind:
            sentences.append(
                f"{stratum}, {len(patients)} patients: behind the median lookup in {' and '.join(behind)}."
            )
    return sentences


def _of_method(patients: Mapping[str, MethodMetrics] | PatientMetrics, method: str) -> dict[str, Mapping[str, float]]:
    return {patient: methods[method] for patient, methods in patients.items()}


def _how(result: NestedResult) -> str:
    return (
        f"Every patient is reported once, by the mean of {result.networks} networks that were trained, and whose "
        "recipe and lookup weight were chosen, on the patients of the other folds."
    )


def _choices_table(result: NestedResult) -> str:
    rows = [["outer fold", "patients", "chosen", "lookup weight", "criterion of each candidate"]]
    for choice in result.choices:
        criteria = "; ".join(f"{name} {value:+.3f}" for name, value in choice.criterion.items())
        weight = f"{choice.weights[choice.candidate]:g}"
        rows.append([str(choice.outer + 1), str(choice.patients), choice.candidate, weight, criteria])
    return (
        _markdown(rows)
        + "\n\nThe criterion is the mean over the inner patients of the log ratio of the error (geometric mean of MAE "
        "and RMSE in the body) to that of the median lookup."
    )


def _strata(result: NestedResult, methods: Mapping[str, Values]) -> list[str]:
    texts = []
    for stratum in STRATA:
        if patients := _of_stratum(result, stratum):
            texts += [
                f"### {stratum[0].upper()}{stratum[1:]}: {len(patients)} patients",
                comparison_table(methods, patients),
            ]
    behind = sentences_of_strata(result, methods)
    return [*texts, " ".join(behind) if behind else "No stratum is behind the median lookup in MAE or PSNR."]


def _of_stratum(result: NestedResult, stratum: str) -> list[str]:
    return [patient for patient, of in result.strata.items() if of == stratum]


def _patients_table(result: NestedResult, methods: Mapping[str, Values]) -> str:
    first, lookup = next(iter(methods.values())), methods[REFERENCE]
    rows = [["patient", "fold", "stratum", *(f"{label}: model, lookup" for label in LABELS.values())]]
    for patient, fold in result.fold_of.items():
        cells = [f"{_shown(first[patient], metric)}, {_shown(lookup[patient], metric)}" for metric in MEASURED]
        rows.append([patient, str(fold + 1), result.strata[patient], *cells])
    return _markdown(rows)


def _cell(values: Values, reference: Values, metric: str, patients: Sequence[str]) -> str:
    interval = bootstrap_mean(_size(values[p][metric], metric) for p in patients if metric in values.get(p, {}))
    if not interval.count:
        return UNDEFINED
    digits = DIGITS[metric]
    text = f"{interval.mean:.{digits}f}"
    if math.isfinite(interval.low):
        text += f" ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
    change = difference(values, reference, metric, patients)
    if values is reference or not math.isfinite(change.low):
        return text
    shown = _signed(change, metric)
    low, high = sorted((_gain_of(change.low, metric), _gain_of(change.high, metric)))
    return f"{text}<br>{f'**{shown}**' if low > 0 else f'~~{shown}~~' if high < 0 else shown}"


def _signed(change: Interval, metric: str) -> str:
    digits = DIGITS[metric]
    if not math.isfinite(change.low):
        return f"{change.mean:+.{digits}f}"
    return f"{change.mean:+.{digits}f}, {change.low:+.{digits}f} to {change.high:+.{digits}f}"


def _gain(change: Interval, metric: str) -> float:
    return _gain_of(change.mean, metric)


def _gain_of(change: float, metric: str) -> float:
    return change if metric in HIGHER_IS_BETTER else -change


def _size(value: float, metric: str) -> float:
    return abs(value) if metric.endswith("_error") else value


def _shown(values: Mapping[str, float], metric: str) -> str:
    return f"{values[metric]:.{DIGITS[metric]}f}" if metric in values else UNDEFINED


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _as_json(result: NestedResult, methods: Mapping[str, Values]) -> dict[str, object]:
    patients = list(result.fold_of)

    def of(method: Values, chosen: Sequence[str]) -> dict[str, object]:
        """Return means and differences over some patients."""
        interval: Callable[[str], Interval] = lambda metric: bootstrap_mean(  # noqa: E731
            _size(method[p][metric], metric) for p in chosen if metric in method.get(p, {})
        )
        return {
            "mean": {metric: interval(metric).as_json() for metric in MEASURED},
            "minus_hu_median": {
                metric: difference(method, methods[REFERENCE], metric, chosen).as_json() for metric in MEASURED
            },
        }

    return {
        "patients": len(patients),
        "folds": len(result.choices),
        "candidates": [
            {**asdict(candidate.variant), "gflop": candidate.gflop(result.networks)} for candidate in result.candidates
        ],
        "choices": [asdict(choice) for choice in result.choices],
        "methods": {name: of(method, patients) for name, method in methods.items()},
        "strata": {
            stratum: {name: of(method, chosen) for name, method in methods.items()}
            for stratum in STRATA
            if (chosen := _of_stratum(result, stratum))
        },
        "behind_the_lookup": sentences_of_strata(result, methods),
    }


def _write_patients(result: NestedResult, methods: Mapping[str, Values], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "fold", "stratum", "method", *MEASURED])
        for patient, fold in result.fold_of.items():
            for name, method in methods.items():
                cells = [method[patient].get(metric, "") for metric in MEASURED]
                writer.writerow([patient, fold, result.strata[patient], name, *cells])
