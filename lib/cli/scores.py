"""Tables of a model's metrics next to those of its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lib.cli.console import new_table, print_line, stdout

if TYPE_CHECKING:
    from lib.learning.model_card.card import ModelCard

BODY_COLUMNS = {
    "mae_suv_body": ">body MAE [SUV]",
    "psnr_db_body": ">body PSNR [dB]",
    "correlation_body": ">body correlation",
    "ssim_body": ">body SSIM",
}
SLICE_COLUMNS = {"mae_suv": ">slice MAE [SUV]", "psnr_db": ">slice PSNR [dB]", "ssim": ">slice SSIM"}
ORGAN_METHODS = ("model", "hu_median", "organ_median")
TUMOUR_COLUMNS = {"tumour_suv_mean_error": ">tumour SUVmean error"}
NOT_MEASURED = "not measured"  # a metric that the card does not have, unlike one that is undefined


def print_scores(scores: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    """Print one row per method, the model first."""
    columns = BODY_COLUMNS | SLICE_COLUMNS
    cells = {
        method: [_format_value(values[name]) if name in values else NOT_MEASURED for name in columns]
        for method, values in scores.items()
    }
    _print_methods(cells, columns, title)


def print_intervals(intervals: Mapping[str, Mapping[str, Mapping[str, float | None]]], title: str) -> None:
    """Print means with their confidence intervals, one row per method, the model first."""
    columns = {name: heading for name, heading in (BODY_COLUMNS | TUMOUR_COLUMNS).items() if name in intervals["model"]}
    cells = {
        method: [_format_interval(values[name]) if name in values else NOT_MEASURED for name in columns]
        for method, values in intervals.items()
    }
    _print_methods(cells, columns, title)


def print_organs(organs: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the bias of the model and of the strongest baselines, one row per organ; nothing without organs."""
    if not organs:
        return
    from lib.metrics.criteria import METHOD_LABELS

    methods = [name for name in ORGAN_METHODS if any(name in organ["methods"] for organ in organs.values())]
    table = new_table(
        "organ", ">patients", ">real SUV", *(f">{METHOD_LABELS[name]}: bias" for name in methods), title="organs"
    )
    for name, organ in organs.items():
        biases = [_format_interval(organ["methods"][method]["bias"], "+") for method in methods]
        table.add_row(name, str(organ["patients"]), f"{organ['real_suv']['mean']:.3f}", *biases)
    stdout.print(table)


def print_card_scores(card: ModelCard) -> None:
    """Print the metrics of a model card, with confidence intervals if known, and how it compares with baselines."""
    if (scores := card.scores) is not None and scores.table:
        title = f"{scores.patients} {scores.side.replace('_', '-')} patients"
        if scores.intervals:
            print_intervals(scores.intervals, f"{title} (95 % confidence)")
        else:
            print_scores(scores.table, title)
    print_line(card.standing.sentence)


def _print_methods(cells: Mapping[str, Sequence[str]], columns: Mapping[str, str], title: str) -> None:
    from lib.metrics.criteria import METHOD_LABELS

    table = new_table("method", *columns.values(), title=title)
    for method in sorted(cells, key=lambda method: method != "model"):
        table.add_row(METHOD_LABELS.get(method, method), *cells[method])
    stdout.print(table)


def _format_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _format_interval(interval: Mapping[str, float | None], sign: Literal["", "+"] = "") -> str:
    mean, low, high = interval["mean"], interval["low"], interval["high"]
    bounds = "" if low is None or high is None else f" ({low:{sign}.3f} to {high:{sign}.3f})"
    return "-" if mean is None else f"{mean:{sign}.3f}{bounds}"
