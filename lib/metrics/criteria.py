"""The metrics that methods are compared by, and which value of each is best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib.metrics.baselines import BASELINE_NAMES, ORGAN_MEDIAN

Best = Literal["lowest", "highest", "nearest 0", "nearest 1"]
METHODS = ("model", *BASELINE_NAMES)
METHOD_LABELS = {
    "model": "model",
    "zero": "zero uptake",
    "constant": "constant SUV",
    "hu_mean": "mean SUV per HU",
    "hu_median": "median SUV per HU",
    ORGAN_MEDIAN: "median SUV per organ",
}


@dataclass(frozen=True)
class Metric:
    """A metric: its name in files, its label in tables, which value is best, and the decimals to show.

    Attributes:
        in_words: Name in a sentence, where it is not made of the label.
    """

    name: str
    label: str
    best: Best
    digits: int = 3
    in_words: str = ""

    @property
    def words(self) -> str:
        """The name in a sentence, such as `body MAE`."""
        name = self.label.partition(" [")[0]
        return self.in_words or (f"body {name}" if self.name.endswith("_body") else name)

    @property
    def unit(self) -> str:
        """The unit behind a value, with a space before it; empty for a ratio."""
        unit = self.label.partition(" [")[2].rstrip("]")
        return unit and f" {unit}"


def comparable(value: float, best: Best) -> float:
    """Return a value as methods are compared by it: its distance from the best value where that is 0 or 1."""
    return abs(value) if best == "nearest 0" else abs(value - 1) if best == "nearest 1" else value


IN_3D: tuple[tuple[str, str, Best, int], ...] = (
    ("mae_suv", "MAE [SUV]", "lowest", 3),
    ("psnr_db", "PSNR [dB]", "highest", 2),
    ("ssim", "SSIM 3D", "highest", 3),
    ("ms_ssim", "MS-SSIM 3D", "highest", 3),
    ("mse", "MSE [SUV²]", "lowest", 3),
)
APPEARANCE_METRICS = (  # see `lib/metrics/appearance.py`
    Metric("mip_correlation", "projection: correlation", "highest"),
    Metric("mip_mae_suv", "projection: MAE [SUV]", "lowest"),
    Metric("roughness_ratio", "roughness along z", "nearest 1", 2),
    Metric("hot_found_ml", "hot volume: found [mL]", "highest", 0),
    Metric("hot_missed_ml", "missed [mL]", "lowest", 0),
    Metric("hot_false_ml", "false [mL]", "lowest", 0),
)
LESION_DEFINITIONS = {"fixed": "SUV 2.5", "relative": "41 % of the maximum"}


def _lesion_metrics(definition: str) -> tuple[Metric, ...]:
    return (
        Metric(f"lesion_sensitivity_{definition}", "sensitivity", "highest", 2),
        Metric(f"lesions_found_{definition}", "found", "highest", 1),
        Metric(f"lesions_missed_{definition}", "missed", "lowest", 1),
        Metric(f"lesions_fabricated_{definition}", "fabricated", "lowest", 1, "fabricated lesions per patient"),
        Metric(f"lesions_fabricated_{definition}_ml", "fabricated [mL]", "lowest", 0, "volume of fabricated lesions"),
        Metric(f"tumour_dice_{definition}", "tumour: Dice", "highest", 2),
        Metric(f"tumour_volume_error_{definition}_ml", "tumour: volume error [mL]", "nearest 0", 1),
    )


LESION_METRICS = tuple(  # see `lib/evaluation/lesions`
    metric for definition in LESION_DEFINITIONS for metric in _lesion_metrics(definition)
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
    Metric("tumour_suv_mean_error", "SUVmean error", "nearest 0", 2, "tumour SUVmean"),
    Metric("tumour_suv_max_error", "SUVmax error", "nearest 0", 2),
    Metric("tumour_suv_peak_error", "SUVpeak error", "nearest 0", 2),
    Metric("hot_sensitivity", "hot voxels: sensitivity", "highest"),
    Metric("hot_false_share", "hot voxels: false share", "lowest"),
    Metric("hot_overlap", "hot voxels: Dice", "highest"),
    *APPEARANCE_METRICS,
    *LESION_METRICS,
)
KEY_METRIC = "mae_suv_body"  # of the verdict: in this metric a lookup table of HU is hardest to beat
# for the comparison with the baselines: error, noise, structure and voxel order
COMPARED_METRICS = tuple(
    metric for metric in METRICS if metric.name in ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body")
)
VERDICT_METRICS = (*COMPARED_METRICS, *APPEARANCE_METRICS, *LESION_METRICS)  # of a model card; not all are measured
# a challenger must not be significantly worse in these than the served model: `lib/evaluation/promotion.py`
FABRICATION_METRICS = tuple(
    metric for metric in METRICS if metric.name in ("lesions_fabricated_fixed", "lesions_fabricated_fixed_ml")
)
LOOKUPS = ("hu_mean", "hu_median")
HU_SHARE = "hu_share"
