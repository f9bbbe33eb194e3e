"""The table the paper left empty, with what it should have stood beside."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lib.experiments.study_row import StudyRow
from lib.files import write_text
from lib.learning.recipe import Recipe
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.image import library_versions

COLUMNS = {
    "ssim": "SSIM",
    "psnr_db": "PSNR [dB]",
    "mae_suv": "MAE [SUV]",
    "mse": "MSE [SUV²]",
    "ms_ssim": "MS-SSIM",
    "vif": "VIF",
    "ssim_body": "body SSIM",
    "psnr_db_body": "body PSNR [dB]",
    "mae_suv_body": "body MAE [SUV]",
    "mse_body": "body MSE [SUV²]",
    "correlation_body": "body correlation",
}
BASELINE_WORDS = {
    "zero": "all zero (a black picture)",
    "constant": "one constant in the body",
    "hu_mean": "mean SUV for each HU",
    "hu_median": "median SUV for each HU",
}
WHAT_SLICES_PROVE = (
    "The split is by slice, as in the paper: neighbouring slices of one patient stand on both sides. These figures say "
    "how well the network fills in between slices it has seen; they say nothing about a new patient."
)
WHAT_PATIENTS_PROVE = "The split is by patient: nobody on the test side was seen in training."


def write_table(rows: Sequence[StudyRow], out: Path, *, recipe: Recipe, equal: str, note: str) -> tuple[Path, Path]:
    """Write `table.csv` and `table.md`: a row for each number of stages, then the trivial predictors; return both."""
    first = ["method", "width", "parameters", "GFLOP a slice", "epochs", "best epoch"]
    lines = [_model_line(row) for row in rows]
    lines += [[BASELINE_WORDS[name], "", "", "", "", "", *_figures(rows[0], name)] for name in BASELINE_NAMES]
    csv_path, markdown_path = out / "table.csv", out / "table.md"
    with csv_path.open("w", newline="") as file:
        csv.writer(file).writerows([[*first, *COLUMNS], *lines])
    split = WHAT_SLICES_PROVE if recipe.split.unit == "slice" else WHAT_PATIENTS_PROVE
    compute = "equal width" if equal == "width" else "equal compute (FLOPs of one stage)"
    versions = "; ".join(f"{name}: {words}" for name, words in library_versions().items())
    text = [
        f"# 1 to {rows[-1].stages} stages, recipe `{recipe.name}`, {compute}",
        "",
        _markdown([[*first, *COLUMNS.values()], *lines]),
        "",
        f"{rows[0].scores.patients} patients on the test side. {split}",
        "",
        "Whole-slice figures are dominated by empty background; read the body columns, and read them beside the "
        "trivial predictors, fitted on the training side only.",
        "",
        f"PSNR and SSIM use a fixed range of 0 to 10 SUV. {versions}.",
        *(["", note] if note else []),
        "",
    ]
    write_text(markdown_path, "\n".join(text))
    return csv_path, markdown_path


def _model_line(row: StudyRow) -> list[str]:
    return [
        f"{row.stages} stage{'s' if row.stages > 1 else ''}",
        str(row.base_channels),
        f"{row.parameters / 1e6:.2f} M",
        f"{row.gflop:.1f}",
        str(row.epochs),
        str(row.epoch),
        *_figures(row, "model"),
    ]


def _figures(row: StudyRow, method: str) -> list[str]:
    values = (row.scores.table[method][name] for name in COLUMNS)
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])
