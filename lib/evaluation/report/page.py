"""What the reports of evaluations and cohorts share: templates and stylesheet, and plots for light and dark pages."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

SHARED_TEMPLATES = Path(__file__).parent
# Colours of a plot, resolved in the theme that it is drawn in
MODEL_COLOUR, OTHER_COLOUR, ACCENT_COLOUR, INK, SOFT = "C0", "C1", "C2", "C3", "C4"


@dataclass(frozen=True)
class Images:
    """An image for light pages and one for dark pages, as data URIs."""

    light: str
    dark: str


def load_template(folder: Path, name: str) -> Template:
    """Return a template of a folder, which may include the shared ones; texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader([folder, SHARED_TEMPLATES]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def draw_themed(draw: Callable[[], Mapping[str, bytes]]) -> dict[str, Images]:
    """Return the plots that a function draws as PNG, each for light and for dark pages."""
    with mpl.rc_context(LIGHT):
        light = draw()
    with mpl.rc_context(DARK):
        dark = draw()
    return {name: Images(embed(png), embed(dark[name])) for name, png in light.items()}


def embed(png: bytes) -> str:
    """Return a PNG as data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _theme(*, paper: str, colours: Mapping[str, str]) -> dict[str, Any]:
    """Return matplotlib's settings for a page of a colour; `colours` are by `MODEL_COLOUR` and so on."""
    ink = colours[INK]
    return {
        "axes.prop_cycle": cycler(color=[colours[name] for name in sorted(colours)]),
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "savefig.facecolor": paper,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }


# Okabe and Ito's palette, safe for the colour-blind; papers and inks are those of style.css
LIGHT = _theme(
    paper="#ffffff",
    colours={
        MODEL_COLOUR: "#0072b2",
        OTHER_COLOUR: "#999999",
        ACCENT_COLOUR: "#d55e00",
        INK: "#1d272e",
        SOFT: "#5a6771",
    },
)
DARK = _theme(
    paper="#1c2329",
    colours={
        MODEL_COLOUR: "#56b4e9",
        OTHER_COLOUR: "#8d98a0",
        ACCENT_COLOUR: "#e69f00",
        INK: "#e3e9ed",
        SOFT: "#a3b0b9",
    },
)
