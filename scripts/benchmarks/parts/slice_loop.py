"""A process that synthesises slices on command, for `neighbours`.

usage: python -m scripts.benchmarks.parts.slice_loop MODEL DEVICE PIXELS PIXEL_MM RUNTIME

Each line of its input is a number of slices, whose times it prints as JSON, s; 0 stands for slices without end.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from lib.networks.precision import choose_device
from lib.synthesis.synthesizer import Synthesizer
from scripts.benchmarks.measure import timed
from scripts.benchmarks.network import tissue_ct

WARM_UP = 3  # slices


def main() -> None:
    """Print `ready` after the first slices, then obey."""
    model, device, pixels, pixel_mm, runtime = sys.argv[1:]
    synthesizer = Synthesizer.load(Path(model), device=device, runtime=runtime)  # type: ignore[arg-type]  # checked there
    ct = tissue_ct(1, int(pixels), pixel_mm=float(pixel_mm))

    def draw() -> float:
        return timed(lambda: synthesizer.apply(ct, grid="network"), choose_device(device)).wall_s

    for _ in range(WARM_UP):
        draw()
    print("ready", flush=True)
    for line in sys.stdin:
        if not int(line):
            for _ in itertools.repeat(None):
                draw()
        print(json.dumps([draw() for _ in range(int(line))]), flush=True)


if __name__ == "__main__":
    main()
