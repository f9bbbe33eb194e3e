"""The report's section on organs: the bias of each method in each organ, and the comparison with `organ_median`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lib.evaluation.organ_metrics import OrganBias
from lib.evaluation.paired_comparison import external_sentence
from lib.evaluation.report.tables import Cell, Row, Table
from lib.evaluation.result import Evaluation
from lib.metrics.criteria import METHOD_LABELS


@dataclass(frozen=True)
class OrganSection:
    """The content of the section.

    Attributes:
        table: One row per organ, one column per method.
        sentence: The model compared with `organ_median`; empty where that is not available.
        missing: (patient, reason) of the pairs without organs.
    """

    table: Table
    sentence: str
    missing: tuple[tuple[str, str], ...]


def organ_section(evaluation: Evaluation) -> OrganSection | None:
    """Return the section; None without label maps."""
    missing = tuple((pair.patient_id, pair.organs.missing) for pair in evaluation.patients if pair.organs.missing)
    organs = evaluation.organs
    if not organs and not missing:
        return None
    methods = list(dict.fromkeys(method for organ in organs.values() for method in organ.bias))
    rows = tuple(_row(name, organ, methods) for name, organ in organs.items())
    heads = ("real SUV", *(f"{METHOD_LABELS.get(method, method)}: bias" for method in methods))
    comparison = evaluation.organ_median
    return OrganSection(Table(heads, rows), external_sentence(comparison) if comparison.patients else "", missing)


def _row(name: str, organ: OrganBias, methods: list[str]) -> Row:
    patients = "1 patient" if organ.patients == 1 else f"{organ.patients} patients"
    biases = {method: organ.bias[method].mean for method in methods if method in organ.bias}
    smallest = min(biases, key=lambda method: abs(biases[method]), default="")
    cells = tuple(_bias_cell(organ, method, is_best=method == smallest) for method in methods)
    return Row(name.replace("_", " "), f"{patients}, {organ.volume_ml:.0f} mL", (_real_cell(organ), *cells))


def _real_cell(organ: OrganBias) -> Cell:
    interval = organ.real_suv
    small = () if math.isnan(interval.low) else (f"{interval.low:.2f} to {interval.high:.2f}",)
    return Cell(f"{interval.mean:.2f}", small)


def _bias_cell(organ: OrganBias, method: str, *, is_best: bool) -> Cell:
    """Return the bias: marked where its interval excludes 0, bold where it is the smallest."""
    if method not in organ.bias:
        return Cell("–")
    bias = organ.bias[method]
    small = () if math.isnan(bias.low) else (f"{bias.low:+.2f} to {bias.high:+.2f}",)
    styles = ["bad"] * (bias.low > 0 or bias.high < 0) + ["best"] * is_best
    return Cell(f"{bias.mean:+.2f}", small, " ".join(styles))
