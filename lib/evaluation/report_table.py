"""Tables of the report: means by method, the model's distance to the strongest baseline, and which baselines stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib.measures.agreement import Interval
from lib.measures.criteria import MEASURES, METHODS, WORDS, Measure
from lib.measures.verdict import Judgement


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
    measures = [measure for name in names for measure in MEASURES if measure.name == name]
    rows = [
        Row(method, WORDS[method], tuple(_mean_cell(judgement, method, m) for m in measures), _kind(method))
        for method in METHODS
    ]
    away = tuple(_difference_cell(judgement, m) for m in measures)
    standing = tuple(_standing_cell(judgement, m) for m in measures)
    rows.append(Row("difference", "model - strongest below it", away, "difference"))
    rows.append(Row("not surely beaten", "", standing, "standing"))
    arrows = {"lowest": "↓", "highest": "↑", "nearest 0": "→ 0"}
    return Table(tuple(f"{m.words} {arrows[m.best]}" for m in measures), tuple(rows))


def _kind(method: str) -> str:
    return "model" if method == "model" else ""


def _mean_cell(judgement: Judgement, method: str, measure: Measure) -> Cell:
    interval = judgement.intervals[method][measure.name]
    if math.isnan(interval.mean):
        return Cell("–")
    form = f"{'+' if measure.best == 'nearest 0' else ''}.{measure.digits}f"
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
