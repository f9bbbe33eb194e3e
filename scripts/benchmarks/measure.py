"""Time rivals in turn within one run, and state medians, quartiles and ratios."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Duration:
    """Wall-clock time, and CPU time of this process with its finished child processes, s."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Figure:
    """A measured quantity.

    Attributes:
        name: What was measured.
        unit: Of the values.
        values: One per round.
        of: The rival it belongs to; empty if there is none.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    of: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"of": self.of, "name": self.name, "unit": self.unit, **_spread(self.values)}


@dataclass(frozen=True)
class Ratio:
    """How many times one quantity is another one, round by round, and the target if there is one."""

    name: str
    values: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_reached(self) -> bool | None:
        """Whether the median reaches the target; None without a target."""
        median = statistics.median(self.values)
        if self.at_least is not None:
            return median >= self.at_least
        return None if self.at_most is None else median <= self.at_most

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        target = {"at_least": self.at_least, "at_most": self.at_most, "reached": self.is_reached}
        return {"name": self.name, **_spread(self.values), **target}


@dataclass(frozen=True)
class Result:
    """What a part of the benchmark measured.

    Attributes:
        run: What was run: sizes, network, rivals.
        figures: The measured quantities.
        ratios: Comparisons of them.
    """

    run: Mapping[str, Any]
    figures: Sequence[Figure]
    ratios: Sequence[Ratio] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        figures, ratios = ([item.as_json() for item in items] for items in (self.figures, self.ratios))
        return {"run": dict(self.run), "figures": figures, "ratios": ratios}


def timed(work: Work, device: torch.device | None = None) -> Duration:
    """Return the duration of a call, the work queued on a CUDA device included."""
    _finish(device)
    wall_s, cpu_s = time.perf_counter(), _cpu_s()
    work()
    _finish(device)
    return Duration(time.perf_counter() - wall_s, _cpu_s() - cpu_s)


def alternate(
    rivals: Mapping[str, Work], *, repeats: int, device: torch.device | None = None, warm_up: bool = True
) -> dict[str, tuple[Duration, ...]]:
    """Return the durations of each rival, one per round.

    All rivals take turns, and each round begins with another one, so that a change of the machine's speed affects all
    of them.

    Args:
        rivals: What to call, by name.
        repeats: Number of rounds.
        device: Where the work runs.
        warm_up: Whether to call each once before the rounds.
    """
    if warm_up:
        for work in rivals.values():
            work()
    durations: dict[str, list[Duration]] = {name: [] for name in rivals}
    names = list(rivals)
    for number in range(repeats):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            durations[name].append(timed(rivals[name], device))
    return {name: tuple(of_rival) for name, of_rival in durations.items()}


def walls(durations: Sequence[Duration], *, scale: float = 1.0) -> tuple[float, ...]:
    """Return the wall-clock times, s, multiplied by `scale`."""
    return tuple(duration.wall_s * scale for duration in durations)


def cpus(durations: Sequence[Duration]) -> tuple[float, ...]:
    """Return the CPU times, s."""
    return tuple(duration.cpu_s for duration in durations)


def divide(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """Return the quotients, round by round."""
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))


def subtract(values: Sequence[float], subtracted: Sequence[float]) -> tuple[float, ...]:
    """Return the differences, round by round."""
    return tuple(a - b for a, b in zip(values, subtracted, strict=True))


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, quartiles and number of values."""
    lower, median, upper = statistics.quantiles(values, method="inclusive") if len(values) > 1 else (*values,) * 3
    return {"median": median, "lower_quartile": lower, "upper_quartile": upper, "values": len(values)}


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def _finish(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
