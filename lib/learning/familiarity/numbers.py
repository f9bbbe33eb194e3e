"""The numbers of a profile: what each is called, and how far outside the training CTs' range it may lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "log", "sqrt"]
Side = Literal["high", "low", "both"]


@dataclass(frozen=True)
class NumberKind:
    """How a number of a profile is judged.

    Attributes:
        label: Its name in a reason, and its unit.
        scale: Scale on which differences are judged.
        min_width: Smallest width of the training CTs' range on that scale, so that a range of equal values is not
            exceeded by an insignificant difference. Chosen on 36 sarcoma CTs.
        side: On which side of the range a value counts as different.
        refuses: Whether this number alone can make a CT `unlike`; otherwise `unusual` at most.
        unit, decimals: Of the number in a reason.
        percent: Whether a reason shows a share in percent.
    """

    label: str
    scale: Scale
    min_width: float
    side: Side = "both"
    refuses: bool = True
    unit: str = ""
    decimals: int = 0
    percent: bool = False

    def distance(self, value: float, low: float, high: float) -> float:
        """Return how far a value is outside a range, in widths of the range; 0 inside."""
        on_scale, bottom, top = (self._scaled(number) for number in (value, low, high))
        below = 0.0 if self.side == "high" else bottom - on_scale
        above = 0.0 if self.side == "low" else on_scale - top
        return max(below, above, 0.0) / max(top - bottom, self.min_width)

    def shown(self, value: float) -> str:
        """Return a value as text, without its unit."""
        return f"{value * (100 if self.percent else 1):.{self.decimals}f}"

    def reason(self, value: float, low: float, high: float) -> str:
        """Return what differs, with the value and the training CTs' range."""
        if self.unit == "distance":
            return f"{self.label}: distance {self.shown(value)} (training CTs: at most {self.shown(high)})"
        unit = " %" if self.percent else f" {self.unit}" if self.unit else ""
        lowest, highest = self.shown(low), self.shown(high)
        seen = f"{lowest}{unit}" if lowest == highest else f"{lowest} to {highest}{unit}"
        return f"{self.label} {self.shown(value)}{unit} (training CTs: {seen})"

    def _scaled(self, value: float) -> float:
        if self.scale == "log":
            return math.log(max(value, 1e-6))
        return math.sqrt(max(value, 0.0)) if self.scale == "sqrt" else value


NUMBERS = {
    "field_of_view_width_mm": NumberKind("field of view, width", "log", 0.4, unit="mm"),
    "field_of_view_height_mm": NumberKind("field of view, height", "log", 0.4, unit="mm"),
    "length_mm": NumberKind("length along the body", "log", 0.7, "high", unit="mm"),
    "body_area_cm2": NumberKind("largest cross-section of the body", "log", 0.7, unit="cm2"),
    "slice_spacing_mm": NumberKind("slice spacing", "log", 0.7, refuses=False, unit="mm", decimals=2),
    "pixel_mm": NumberKind("pixel size", "log", 0.7, refuses=False, unit="mm", decimals=2),
    "age_years": NumberKind("age", "linear", 20.0, refuses=False, unit="years"),
    "soft_tissue_peak_hu": NumberKind("most frequent HU of soft tissue", "linear", 60.0, unit="HU"),
    "fat_peak_hu": NumberKind("most frequent HU of fat", "linear", 25.0, refuses=False, unit="HU"),
    "lung_share": NumberKind("air and lung inside the body", "sqrt", 0.1, "high", decimals=1, percent=True),
    "vessel_slices": NumberKind(
        "slices with the bright spots of contrast-enhanced vessels", "linear", 0.3, "high", percent=True
    ),
    "dense_share": NumberKind(
        "tissue as dense as metal or compact bone", "sqrt", 0.08, "high", decimals=2, percent=True
    ),
    "metal_ml": NumberKind("metal, above 2500 HU", "sqrt", 2.0, "high", unit="mL", decimals=1),
    "histogram_distance": NumberKind(
        "the distribution of HU differs", "linear", 1.0, "high", unit="distance", decimals=1
    ),
    "network_distance": NumberKind(
        "the network's own features differ", "linear", 1.2, "high", unit="distance", decimals=2
    ),
    "left_right_likeness": NumberKind(
        "left-right asymmetry like that of the training CTs (-1 to 1)", "linear", 0.4, "low", decimals=2
    ),
    "front_back_likeness": NumberKind(
        "front-back asymmetry like that of the training CTs (-1 to 1)", "linear", 0.4, "low", decimals=2
    ),
    "head_feet_likeness": NumberKind(
        "head-feet asymmetry like that of the training CTs (-1 to 1)", "linear", 0.4, "low", decimals=2
    ),
}
VALUES = {
    "ct_scanner": "scanner",
    "body_part": "body part",
    "kernel": "convolution kernel",
    "contrast_agent": "contrast agent",
    "sex": "sex",
}
