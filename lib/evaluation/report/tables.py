"""Tables of the report: means by method, and the model's difference from baselines and external programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib.evaluation.paired_comparison import PAIRED_METRICS, ExternalComparison, PairedMetric
from lib.evaluation.patient_result import PatientResult
from lib.metrics.agreement import Interval
from lib.metrics.criteria import METHOD_LABELS, METRICS, Best, Metric, comparable
from lib.metrics.verdict import Judgement


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, small lines below it, and its style (`best`, `good`, `bad`, `unsure`)."""

    text: str
    small: tuple[str, ...] = ()
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; `kind` is its style."""

    head: str
    small: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with one column per metric and one row per method."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def comparison_table(judgement: Judgement, names: Sequence[str]) -> Table:
    """Return the means of some metrics by method, the difference from the strongest baseline, and unbeaten ones."""
    metrics, rows = _named(names), [*means_table(judgement, names).rows]
    differences = tuple(_difference_cell(judgement, m) for m in metrics)
    not_beaten = tuple(_not_beaten_cell(judgement, m) for m in metrics)
    rows.append(Row("difference", "model - strongest baseline", differences, "difference"))
    rows.append(Row("not significantly better than", "", not_beaten, "not-beaten"))
    return Table(_heads(metrics), tuple(rows))


def means_table(judgement: Judgement, names: Sequence[str]) -> Table:
    """Return the means of some metrics by method, where a comparison with baselines that show nothing says nothing."""
    metrics = _named(names)
    rows = (
        Row(
            METHOD_LABELS[method], _key(method), tuple(_mean_cell(judgement, method, m) for m in metrics), _kind(method)
        )
        for method in judgement.methods
    )
    return Table(_heads(metrics), tuple(rows))


def external_table(comparison: ExternalComparison) -> Table:
    """Return the means of the model and of an external program, and their difference."""
    columns = [(metric, comparison.metrics[metric.name]) for metric in PAIRED_METRICS]
    rows = (
        Row("model", "", tuple(_mean_of(paired.model, m) for m, paired in columns), "model"),
        Row(comparison.program, "external program", tuple(_mean_of(paired.program, m) for m, paired in columns)),
        Row(f"model - {comparison.program}", "", tuple(_paired_cell(paired, m) for m, paired in columns), "difference"),
    )
    return Table(_heads(PAIRED_METRICS), rows)


def external_patient_table(pairs: Sequence[PatientResult]) -> Table:
    """Return the model and each external program per patient, with the best values marked; other pairs are omitted."""
    rows = []
    for pair in pairs:
        metrics = {method: pair.metrics(method) for method in ("model", *pair.external)}
        side = f" ({pair.seen})" if pair.side.shaped_weights else ""
        for method in metrics if pair.external else ():
            cells = tuple(
                Cell(_number(metrics[method][m.name], m), style="best" if method == _best_method(m, metrics) else "")
                for m in PAIRED_METRICS
            )
            rows.append(Row(f"{pair.patient_id}{side}" if method == "model" else "", method, cells, _kind(method)))
    return Table(_heads(PAIRED_METRICS), tuple(rows))


def _named(names: Sequence[str]) -> list[Metric]:
    return [metric for name in names for metric in METRICS if metric.name == name]


def _heads(metrics: Sequence[Metric]) -> tuple[str, ...]:
    arrows = {"lowest": "↓", "highest": "↑", "nearest 0": "→ 0", "nearest 1": "→ 1"}
    return tuple(f"{m.label} {arrows[m.best]}" for m in metrics)


def _number(value: float, metric: Metric) -> str:
    return f"{value:{_format(metric)}}" if math.isfinite(value) else "–"


def _format(metric: Metric) -> str:
    return f"{'+' if metric.best == 'nearest 0' else ''}.{metric.digits}f"


def _best_method(metric: Metric, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return the method with the best value; an empty string where none has a value or several share it."""
    values = {method: row[metric.name] for method, row in metrics.items() if math.isfinite(row[metric.name])}
    scores = {method: _score(value, metric.best) for method, value in values.items()}
    best = [method for method, score in scores.items() if score == max(scores.values())]
    return best[0] if len(best) == 1 else ""


def _score(value: float, best: Best) -> float:
    return value if best == "highest" else -comparable(value, best)


def _mean_of(interval: Interval, metric: Metric) -> Cell:
    return Cell(_number(interval.mean, metric), _range(interval, _format(metric)))


def _paired_cell(paired: PairedMetric, metric: Metric) -> Cell:
    spec = f"+.{metric.digits}f"
    style = {"model": "good", "peer": "bad", "neither": "unsure", "undefined": ""}[paired.ahead]
    mean = paired.difference.mean
    return Cell(f"{mean:{spec}}" if math.isfinite(mean) else "–", _range(paired.difference, spec), style)


def _key(method: str) -> str:
    """Return the name of a baseline in the files, shown below its label."""
    return "" if method == "model" else method


def _kind(method: str) -> str:
    return "model" if method == "model" else ""


def _mean_cell(judgement: Judgement, method: str, metric: Metric) -> Cell:
    interval = judgement.intervals[method][metric.name]
    if math.isnan(interval.mean):
        return Cell("–")
    spec = _format(metric)
    style = "best" if judgement.best.get(metric.name) == method else ""
    return Cell(f"{interval.mean:{spec}}", _range(interval, spec), style)


def _difference_cell(judgement: Judgement, metric: Metric) -> Cell:
    strongest = judgement.strongest.get(metric.name)
    if strongest is None:
        return Cell("–")
    against = judgement.against[strongest][metric.name]
    if math.isnan(against.difference.mean):
        return Cell("–", (METHOD_LABELS[strongest],))
    spec = f"+.{metric.digits}f"
    style = {"beaten": "good", "unsure": "unsure", "not beaten": "bad", "undefined": ""}[against.outcome]
    return Cell(
        f"{against.difference.mean:{spec}}", (*_range(against.difference, spec), METHOD_LABELS[strongest]), style
    )


def _range(interval: Interval, spec: str) -> tuple[str, ...]:
    return () if math.isnan(interval.low) else (f"{interval.low:{spec}} to {interval.high:{spec}}",)


def _not_beaten_cell(judgement: Judgement, metric: Metric) -> Cell:
    if metric.name not in judgement.strongest:
        return Cell("–")
    baselines = judgement.not_beaten(metric.name)
    return (
        Cell(", ".join(METHOD_LABELS[name] for name in baselines), style="bad")
        if baselines
        else Cell("none", style="good")
    )
