"""Measure `main.py cohort`. See `scripts/benchmark-cohort --help`. No test depends on the results."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.phantom.generate import PhantomSettings, write_phantoms  # noqa: E402
from scripts.benchmarks.machine import describe_machine  # noqa: E402
from scripts.cohort_benchmark.engines import compare_engines  # noqa: E402
from scripts.cohort_benchmark.killing import survive_kills  # noqa: E402
from scripts.cohort_benchmark.memory import compare_memory  # noqa: E402
from scripts.cohort_benchmark.throughput import compare_throughput  # noqa: E402
from tests.ct2pet_app.constant_model import save_sensitive_model  # noqa: E402

MEASURES = {
    "throughput": compare_throughput,
    "engines": compare_engines,
    "kills": survive_kills,
    "memory": compare_memory,
}
FIELD_OF_VIEW_MM = 410


def main() -> int:
    """Run one measurement and print its result as JSON."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark-cohort", description=__doc__)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument(
        "--studies", type=int, help="default: 16, 20 for engines, 300 with kills, 30 and 300 for memory"
    )
    parser.add_argument("--slices", type=int, default=6, help="of each CT (default 6)")
    parser.add_argument("--matrix", type=int, default=64, help="rows and columns of each CT (default 64)")
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput, in which all take turns (default 3)")
    parser.add_argument("--pixel-mm", default="4.0", help="of the network's grid (default 4.0, as in the recipe)")
    parser.add_argument("--out", type=Path, help="file for the result")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ct2pet-cohort-") as folder:
        work = Path(folder)
        model = save_sensitive_model(work / "model.safetensors", (f"pixel_mm={args.pixel_mm}",))
        studies = work / "studies"
        count = args.studies or {"throughput": 16, "engines": 20}.get(args.measure, 300)
        pixel_mm = FIELD_OF_VIEW_MM / args.matrix
        settings = PhantomSettings(
            slices=args.slices, ct_matrix=args.matrix, ct_pixel_mm=pixel_mm, pet_matrix=48, pet_pixel_mm=8.5
        )
        print(f"writing {count} phantoms", file=sys.stderr)
        write_phantoms(studies, patients=count, settings=settings)
        machine = describe_machine("cpu")
        result = MEASURES[args.measure](args, work, studies, model)
    sizes = {"studies": count, "slices": args.slices, "matrix": args.matrix, "pixel_mm": args.pixel_mm}
    text = json.dumps({"measure": args.measure, "machine": machine, **sizes, **result}, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
