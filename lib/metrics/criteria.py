"""The metrics that methods are compared by, and which value of each is best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib.metrics.baselines import BASELINE_NAMES, ORGAN_MEDIAN

Best = Literal["lowest", "highest", "nearest 0"]
METHODS = ("model", *BASELINE_NAMES)
METHOD_LABELS = {
    "model": "evaluated model",
    "zero": "0 everywhere",
    "constant": "one SUV in the body",
    "hu_mean": "mean SUV at each HU",
    "hu_median": "median SUV at each HU",
    ORGAN_MEDIAN: "median SUV of each organ",
}


@dataclass(frozen=True)
class Metric:
    """A metric: its name in files, its label in tables, which value is best, and the decimals to show."""

    name: str
    label: str
    best: Best
    digits: int = 3


IN_3D: tuple[tuple[str, str, Best, int], ...] = (
    ("mae_suv", "MAE [SUV]", "lowest", 3),
    ("psnr_db", "PSNR [dB]", "highest", 2),
    ("ssim", "SSIM 3D", "highest", 3),
    ("ms_ssim", "MS-SSIM 3D", "highest", 3),
    ("mse", "MSE [SUV²]", "lowest", 3),
)
METRICS = (
    Metric("mae_suv_body", "MAE [SUV]", "lowest"),
    Metric("psnr_db_body", "PSNR [dB]", "highest", 2),
    Metric("ssim_body", "SSIM", "highest"),
    Metric("ms_ssim_body", "MS-SSIM", "highest"),
    Metric("vif_body", "VIF", "highest"),
    Metric("mse_body", "MSE [SUV²]", "lowest"),
    Metric("correlation_body", "correlation", "highest"),
    Metric("bias_suv_body", "bias [SUV]", "nearest 0"),
    Metric("mae_suv", "MAE [SUV]", "lowest"),
    Metric("psnr_db", "PSNR [dB]", "highest", 2),
    Metric("ssim", "SSIM", "highest"),
    Metric("ms_ssim", "MS-SSIM", "highest"),
    Metric("vif", "VIF", "highest"),
    Metric("mse", "MSE [SUV²]", "lowest"),
    *(
        Metric(f"{name}{suffix}_3d", f"{label}{region}", best, digits)
        for suffix, region in (("_body", ""), ("", ", full volume"))
        for name, label, best, digits in IN_3D
    ),
    Metric("mae_suv_body_rescaled", "MAE after rescaling [SUV]", "lowest"),
    Metric("psnr_db_body_rescaled", "PSNR after rescaling [dB]", "highest", 2),
    Metric("tumour_suv_mean_error", "SUVmean error", "nearest 0", 2),
    Metric("tumour_suv_max_error", "SUVmax error", "nearest 0", 2),
    Metric("tumour_suv_peak_error", "SUVpeak error", "nearest 0", 2),
    Metric("hot_sensitivity", "hot voxels: sensitivity", "highest"),
    Metric("hot_false_share", "hot voxels: false share", "lowest"),
    Metric("hot_overlap", "hot voxels: Dice", "highest"),
)
KEY_METRIC = "mae_suv_body"  # of the verdict: in this metric a lookup table of HU is hardest to beat
# for the comparison with the baselines: error, noise, structure and voxel order
COMPARED_METRICS = tuple(
    metric for metric in METRICS if metric.name in ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body")
)
LOOKUPS = ("hu_mean", "hu_median")
HU_SHARE = "hu_share"
