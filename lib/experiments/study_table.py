"""The table that the paper left empty, with baselines."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lib.experiments.study_row import StudyRow
from lib.files import write_text
from lib.learning.recipe import Recipe
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import METHOD_LABELS
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
SLICE_SPLIT_NOTE = (
    "The split is by slice, as in the paper: neighbouring slices of one patient are on both sides. They measure "
    "interpolation between training slices, not performance on a new patient."
)
PATIENT_SPLIT_NOTE = "The split is by patient: no patient of the test side was seen in training."


def write_table(rows: Sequence[StudyRow], out: Path, *, recipe: Recipe, equal: str, note: str) -> tuple[Path, Path]:
    """Write `table.csv` and `table.md`: a row per number of stages, then the baselines; return both paths."""
    first = ["method", "width", "parameters", "GFLOP a slice", "epochs", "best epoch"]
    lines = [_model_line(row) for row in rows]
    lines += [[METHOD_LABELS[name], "", "", "", "", "", *_cells(rows[0], name)] for name in BASELINE_NAMES]
    csv_path, markdown_path = out / "table.csv", out / "table.md"
    with csv_path.open("w", newline="") as file:
        csv.writer(file).writerows([[*first, *COLUMNS], *lines])
    split = SLICE_SPLIT_NOTE if recipe.split.unit == "slice" else PATIENT_SPLIT_NOTE
    compute = "equal width" if equal == "width" else "equal compute (FLOPs of one stage)"
    versions = "; ".join(f"{name}: {version}" for name, version in library_versions().items())
    text = [
        f"# 1 to {rows[-1].stages} stages, recipe `{recipe.name}`, {compute}",
        "",
        _markdown([[*first, *COLUMNS.values()], *lines]),
        "",
        f"{rows[0].scores.patients} patients on the test side. {split}",
        "",
        "Full-slice metrics are dominated by empty background; read the body columns, and compare them with the "
        "baselines, which are fitted on the training side only.",
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
        *_cells(row, "model"),
    ]


def _cells(row: StudyRow, method: str) -> list[str]:
    values = (row.scores.table[method][name] for name in COLUMNS)
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])
