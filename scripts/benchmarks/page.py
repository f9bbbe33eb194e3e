"""The page of all results in a folder: README.md with a table per part, and a picture of the time by step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from lib.files import write_text
from scripts.benchmarks.arguments import PARTS

PICTURE = "time-by-step.png"
STEP_COLOURS = {
    "start-up": "#d9d9d9", "scan and plan": "#bdbdbd", "read": "#8da0cb", "network": "#fc8d62", "resample": "#66c2a5",
    "write": "#e78ac3", "all steps": "#a6761d",
}  # fmt: skip
INTRODUCTION = """# Benchmarks

Written by `scripts/benchmark all --out docs/benchmarks`. All rivals of a table took turns within one run. Each value is
the median over the rounds, with the quartiles in parentheses; ratios are computed round by round.
"""


def write_page(folder: Path) -> Path:
    """Write README.md and the picture from the JSON files in a folder; return the page."""
    sections = [INTRODUCTION]
    for name in [f"{prefix}{part}" for prefix in ("", "gpu-") for part in PARTS]:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text())
        if name == "synthesis":
            draw_steps(result["figures"], folder / PICTURE)
            sections.append(f"![Time by step, of ct2pet and of its peers]({PICTURE})\n")
        sections.append(section(name, result))
    path = folder / "README.md"
    write_text(path, "\n".join(sections))
    return path


def section(name: str, result: Mapping[str, Any]) -> str:
    """Return the Markdown of one result."""
    machine = result["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    where = (
        f"{machine['date'][:10]}, {machine['device']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['torch_threads']} threads, load before {machine['load_1_min_before']}; {versions}."
    )
    run = "; ".join(f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in result["run"].items() if value)
    teaches = PARTS[result["part"]].teaches
    lines = [f"## {name}", "", f"{teaches[0].upper()}{teaches[1:]}. {where}", "", f"{run}." if run else "", ""]
    lines += ["| of | what | median (quartiles) | unit |", "| --- | --- | --- | --- |"]
    lines += [f"| {row['of']} | {row['name']} | {_spread(row)} | {row['unit']} |" for row in result["figures"]]
    if result["ratios"]:
        lines += ["", "| ratio | median (quartiles) | target |", "| --- | --- | --- |"]
        lines += [f"| {row['name']} | {_spread(row)} | {_target(row)} |" for row in result["ratios"]]
    return "\n".join([*lines, ""])


def draw_steps(figures: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a bar per program, of the steps that it was measured in, s."""
    rows = [figure for figure in figures if figure["unit"] == "s" and figure["name"] in STEP_COLOURS]
    programs = list(dict.fromkeys(figure["of"] for figure in rows))
    ends = dict.fromkeys(programs, 0.0)
    drawing, axes = plt.subplots(figsize=(9, 0.45 * len(programs) + 1.2), layout="constrained")
    for step, colour in STEP_COLOURS.items():
        widths = {figure["of"]: max(0.0, figure["median"]) for figure in rows if figure["name"] == step}
        places = [programs.index(of) for of in widths]
        axes.barh(places, list(widths.values()), left=[ends[of] for of in widths], color=colour, label=step)
        ends |= {of: ends[of] + width for of, width in widths.items()}
    for place, end in enumerate(ends.values()):
        axes.text(end, place, f" {end:.3g} s", va="center")
    axes.set_yticks(range(len(programs)), programs)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(ends.values(), default=1.0))
    axes.set_xlabel("s, medians")
    drawing.legend(loc="outside lower center", ncols=len(STEP_COLOURS), frameon=False, fontsize=8)
    drawing.savefig(path, dpi=120)
    plt.close(drawing)


def _spread(row: Mapping[str, Any]) -> str:
    if row["values"] == 1:
        return f"{row['median']:.3g}"
    return f"{row['median']:.3g} ({row['lower_quartile']:.3g} to {row['upper_quartile']:.3g})"


def _target(row: Mapping[str, Any]) -> str:
    if row["reached"] is None:
        return ""
    target = f"at least {row['at_least']:g}" if row["at_least"] is not None else f"at most {row['at_most']:g}"
    return f"{target}: {'reached' if row['reached'] else '**missed**'}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " x ".join(str(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
