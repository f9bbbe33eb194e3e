"""How PET and CT were shown last, remembered on this computer: never which ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import qt

from CT2PETLib.scene import layouts
from CT2PETLib.scene.display import COLOURS, CT_WINDOW_HU, OPACITY, THRESHOLD_SUV, WINDOW_SUV

KEY = "CT2PET/Display"
LAYOUTS = (layouts.FUSED, layouts.SIDE_BY_SIDE, layouts.PROJECTION)


@dataclass(frozen=True)
class DisplaySettings:
    """How PET and CT are shown; the defaults are those of a first session.

    Attributes:
        layout: The layout that a new PET is shown in.
        window_suv: SUV of the lowest and the highest colour.
        threshold_suv: SUV below which only the CT is visible.
        opacity: Of the PET over the CT, 0 to 1.
        colour: A colour map of `display.COLOURS`.
        window_hu: HU shown as black and as white.
    """

    layout: int = layouts.FUSED
    window_suv: tuple[float, float] = WINDOW_SUV
    threshold_suv: float = THRESHOLD_SUV
    opacity: float = OPACITY
    colour: str = "PET heat"
    window_hu: tuple[float, float] = CT_WINDOW_HU

    def __post_init__(self) -> None:
        low, high = self.window_suv
        ranges = (0 <= low < high <= 20, 0 <= self.threshold_suv <= 5, 0 <= self.opacity <= 1)
        if not all(ranges) or self.layout not in LAYOUTS or self.colour not in COLOURS:
            raise ValueError(f"not settings of the display: {self}")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"an empty window of {self.window_hu} HU")


def load_display() -> DisplaySettings:
    """Return the settings of the last session; the defaults if there are none, or they are damaged."""
    try:
        stored: dict[str, Any] = json.loads(str(qt.QSettings().value(KEY, "") or "{}"))
        for name in ("window_suv", "window_hu"):
            if name in stored:
                low, high = stored[name]
                stored[name] = (float(low), float(high))
        return replace(DisplaySettings(), **stored)
    except (ValueError, TypeError):  # of an earlier version, or edited by hand
        return DisplaySettings()


def save_display(settings: DisplaySettings) -> None:
    """Remember the settings for the next session."""
    qt.QSettings().setValue(KEY, json.dumps(asdict(settings)))
