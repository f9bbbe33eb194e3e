"""Compare a recipe with variants of it by nested cross-validation; see `scripts/ablate --help`.

Like `main.py ablate`, without its libraries: a machine with torch, monai and prepared arrays is enough.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.errors import CT2PETError  # noqa: E402
from lib.experiments.nested.ablation import CHOICES, prepared_arrays, run_ablation  # noqa: E402
from lib.experiments.nested.protocol import OUTER_FOLDS  # noqa: E402
from lib.learning.recipe import DEFAULT_RECIPE  # noqa: E402
from lib.types import Progress  # noqa: E402


def main() -> int:
    """Run the command; return the exit status."""
    args = _arguments()
    progress = _progress_lines()
    try:
        _, paths = run_ablation(
            prepared_arrays(args.studies, args.out, progress=progress), args.recipe, args.set, args.choices, args.out,
            only=args.only, folds=args.folds, device=args.device, processes=args.processes, title=args.title,
            note=args.note, progress=progress,
        )  # fmt: skip
    except CT2PETError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    print(paths[0].read_text())
    for path in paths:
        print(path)
    return 0


def _progress_lines() -> Progress:
    """Return a progress callback that prints plain lines, for machines without a progress bar library."""
    last = ""

    def report(done: int, total: int, what: str) -> None:
        """Print a line when the message changes."""
        nonlocal last
        if what != last:
            last = what
            print(f"{100 * done / max(1, total):5.1f} %  {what}", file=sys.stderr, flush=True)

    return report


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/ablate",
        description="Compare the recipe with variants of it by nested cross-validation over all patients: the inner "
        "folds choose, the outer folds report. An interrupted run resumes.",
    )
    parser.add_argument("studies", nargs="+", type=Path, help="folder of studies, or prepared folders")
    parser.add_argument("--out", type=Path, required=True, help="output folder for runs and tables")
    parser.add_argument("--choices", type=Path, default=CHOICES, help="TOML file of [[choice]] tables")
    parser.add_argument("--only", action="append", default=[], metavar="TOPIC|NAME", help="only these variants")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help="reference recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change all variants")
    parser.add_argument("--folds", type=int, default=OUTER_FOLDS, help=f"outer folds (default {OUTER_FOLDS})")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument(
        "--processes", type=int, default=0, help="networks trained at once (default: one on every processor or GPU)"
    )
    parser.add_argument("--title", default="Ablation", help="title of the table")
    parser.add_argument("--note", default="", help="line below the table, such as the data's attribution")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
