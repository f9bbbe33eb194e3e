"""Tables of the report: means by method, the model's distance to the strongest baseline, and which baselines stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lib.evaluation.paired_comparison import BESIDE, Beside, Paired
from lib.evaluation.patient_result import PatientResult
from lib.metrics.agreement import Interval
from lib.metrics.criteria import MEASURES, METHODS, WORDS, Measure
from lib.metrics.verdict import Judgement


@dataclass(frozen=True)
class Cell:
    """A number of a table: written large, lines written small below, its style (`best`, `good`, `bad`, `unsure`)."""

    text: str
    small: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table; `kind` is its style."""

    head: str
    small: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Measures across, methods down, and the model against the strongest baseline below."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def comparison_table(judgement: Judgement, names: Sequence[str]) -> Table:
    """Return the means of some measures by method, the strongest baseline's distance, and which baselines stand."""
    metrics = [measure for name in names for measure in MEASURES if measure.name == name]
    rows = [
        Row(method, WORDS[method], tuple(_mean_cell(judgement, method, m) for m in metrics), _kind(method))
        for method in METHODS
    ]
    away = tuple(_difference_cell(judgement, m) for m in metrics)
    standing = tuple(_standing_cell(judgement, m) for m in metrics)
    rows.append(Row("difference", "model - strongest below it", away, "difference"))
    rows.append(Row("not surely beaten", "", standing, "standing"))
    return Table(_heads(metrics), tuple(rows))


def beside_table(beside: Beside) -> Table:
    """Return the means of the model and of a peer, and the model's distance to it."""
    rows = (
        Row("model", WORDS["model"], tuple(_paired_cell(beside, m, "model") for m in BESIDE), "model"),
        Row(beside.peer, "another program", tuple(_paired_cell(beside, m, "peer") for m in BESIDE)),
        Row(f"model - {beside.peer}", "", tuple(_ahead_cell(beside, m) for m in BESIDE), "difference"),
    )
    return Table(_heads(BESIDE), rows)


def people_beside(pairs: Sequence[PatientResult]) -> Table:
    """Return the model and each peer patient by patient, the best of each figure marked; pairs without a peer left."""
    rows = []
    for pair in pairs:
        figures = {method: pair.figures(method) for method in ("model", *pair.external)}
        seen = f" ({pair.seen})" if pair.side.shaped_weights else ""
        for method in figures if pair.external else ():
            cells = tuple(
                Cell(_number(of, m), mark="best" if method == _foremost(m, figures) else "")
                for m in BESIDE
                for of in (figures[method][m.name],)
            )
            rows.append(Row(f"{pair.patient_id}{seen}" if method == "model" else "", method, cells, _kind(method)))
    return Table(_heads(BESIDE), tuple(rows))


def _heads(metrics: Sequence[Measure]) -> tuple[str, ...]:
    arrows = {"lowest": "↓", "highest": "↑", "nearest 0": "→ 0"}
    return tuple(f"{m.words} {arrows[m.best]}" for m in metrics)


def _number(value: float, measure: Measure) -> str:
    return f"{value:{_form(measure)}}" if math.isfinite(value) else "–"


def _form(measure: Measure) -> str:
    return f"{'+' if measure.best == 'nearest 0' else ''}.{measure.digits}f"


def _foremost(measure: Measure, figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return the method whose figure is best; none where none has one or several share it."""
    values = {method: of[measure.name] for method, of in figures.items() if math.isfinite(of[measure.name])}
    goodness = {method: value if measure.best == "highest" else -abs(value) for method, value in values.items()}
    best = [method for method, good in goodness.items() if good == max(goodness.values())]
    return best[0] if len(best) == 1 else ""


def _paired_cell(beside: Beside, measure: Measure, side: Literal["model", "peer"]) -> Cell:
    interval: Interval = getattr(beside.metrics[measure.name], side)
    return Cell(_number(interval.mean, measure), _range(interval, _form(measure)))


def _ahead_cell(beside: Beside, measure: Measure) -> Cell:
    paired: Paired = beside.metrics[measure.name]
    form = f"+.{measure.digits}f"
    mark = {"model": "good", "peer": "bad", "neither": "unsure", "undefined": ""}[paired.ahead]
    mean = paired.difference.mean
    return Cell(f"{mean:{form}}" if math.isfinite(mean) else "–", _range(paired.difference, form), mark)


def _kind(method: str) -> str:
    return "model" if method == "model" else ""


def _mean_cell(judgement: Judgement, method: str, measure: Measure) -> Cell:
    interval = judgement.intervals[method][measure.name]
    if math.isnan(interval.mean):
        return Cell("–")
    form = _form(measure)
    mark = "best" if judgement.best.get(measure.name) == method else ""
    return Cell(f"{interval.mean:{form}}", _range(interval, form), mark)


def _difference_cell(judgement: Judgement, measure: Measure) -> Cell:
    strongest = judgement.strongest.get(measure.name)
    if strongest is None:
        return Cell("–")
    against = judgement.against[strongest][measure.name]
    if math.isnan(against.difference.mean):
        return Cell("–", (strongest,))
    form = f"+.{measure.digits}f"
    mark = {"beaten": "good", "unsure": "unsure", "not beaten": "bad", "undefined": ""}[against.outcome]
    return Cell(f"{against.difference.mean:{form}}", (*_range(against.difference, form), strongest), mark)


def _range(interval: Interval, form: str) -> tuple[str, ...]:
    return () if math.isnan(interval.low) else (f"{interval.low:{form}} to {interval.high:{form}}",)


def _standing_cell(judgement: Judgement, measure: Measure) -> Cell:
    if measure.name not in judgement.strongest:
        return Cell("–")
    standing = judgement.not_beaten(measure.name)
    return Cell(", ".join(standing), mark="bad") if standing else Cell("none", mark="good")
