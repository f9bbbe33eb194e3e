"""What methods are compared by, and which value is best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib.metrics.baselines import BASELINE_NAMES

Best = Literal["lowest", "highest", "nearest 0"]
METHODS = ("model", *BASELINE_NAMES)
WORDS = {
    "model": "under test",
    "zero": "a black image",
    "constant": "one SUV in the body",
    "hu_mean": "mean SUV of each HU",
    "hu_median": "median SUV of each HU",
}


@dataclass(frozen=True)
class Measure:
    """A figure that patients are compared by: its name, its words, which value is best, and decimals worth telling."""

    name: str
    words: str
    best: Best
    digits: int = 3


IN_3D: tuple[tuple[str, str, Best, int], ...] = (
    ("mae_suv", "MAE [SUV]", "lowest", 3),
    ("psnr_db", "PSNR [dB]", "highest", 2),
    ("ssim", "SSIM 3D", "highest", 3),
    ("ms_ssim", "MS-SSIM 3D", "highest", 3),
    ("mse", "MSE [SUV²]", "lowest", 3),
)
MEASURES = (
    Measure("mae_suv_body", "MAE [SUV]", "lowest"),
    Measure("psnr_db_body", "PSNR [dB]", "highest", 2),
    Measure("ssim_body", "SSIM", "highest"),
    Measure("ms_ssim_body", "MS-SSIM", "highest"),
    Measure("vif_body", "VIF", "highest"),
    Measure("mse_body", "MSE [SUV²]", "lowest"),
    Measure("correlation_body", "correlation", "highest"),
    Measure("bias_suv_body", "bias [SUV]", "nearest 0"),
    Measure("mae_suv", "MAE [SUV]", "lowest"),
    Measure("psnr_db", "PSNR [dB]", "highest", 2),
    Measure("ssim", "SSIM", "highest"),
    Measure("ms_ssim", "MS-SSIM", "highest"),
    Measure("vif", "VIF", "highest"),
    Measure("mse", "MSE [SUV²]", "lowest"),
    *(
        Measure(f"{name}{where}_3d", f"{words}{of}", best, digits)
        for where, of in (("_body", ""), ("", ", whole"))
        for name, words, best, digits in IN_3D
    ),
    Measure("mae_suv_body_rescaled", "MAE left [SUV]", "lowest"),
    Measure("psnr_db_body_rescaled", "PSNR left [dB]", "highest", 2),
    Measure("tumour_suv_mean_error", "SUVmean error", "nearest 0", 2),
    Measure("tumour_suv_max_error", "SUVmax error", "nearest 0", 2),
    Measure("tumour_suv_peak_error", "SUVpeak error", "nearest 0", 2),
    Measure("hot_sensitivity", "hot voxels found", "highest"),
    Measure("hot_false_share", "falsely shown", "lowest"),
    Measure("hot_overlap", "overlap (Dice)", "highest"),
)
KEY_MEASURE = "mae_suv_body"  # what the verdict's sentence is about: in it a lookup of HU is hardest to beat
# what a model must lead in to beat the trivial predictors: how far off, how noisy, how alike in form, how ordered
COMPARED_METRICS = tuple(
    measure for measure in MEASURES if measure.name in ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body")
)
LOOKUPS = ("hu_mean", "hu_median")
HU_SHARE = "hu_share"
