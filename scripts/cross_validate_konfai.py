"""Train KonfAI's own U-Net under the outer folds of `main.py ablate`, and report every patient out of fold.

For each group of folds, one network of KonfAI is trained on all other patients, with as many operations a slice as our
ensemble of the same folds, for as much CPU time. Its PETs are measured like those of `main.py ablate`, on the same
grid. Finished groups are not repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.errors import CT2PETError  # noqa: E402
from lib.learning.recipe import DEFAULT_RECIPE, load_recipe  # noqa: E402
from lib.pairing.prepared import PreparedSet  # noqa: E402
from scripts.konfai.cross_validation import CrossValidation, Settings, write_table  # noqa: E402
from scripts.konfai.program import installed  # noqa: E402


def main() -> int:
    """Run the cross-validation and return the exit code."""
    args = arguments()
    settings = Settings(args.folds, args.together, args.minutes, args.threads)
    try:
        recipe = load_recipe(args.recipe, settings=args.set or ())
        prepared = PreparedSet.open(args.arrays)
        program = installed(args.environment.resolve(), report=say)
        run = CrossValidation(prepared, recipe, settings, program=program, out=args.out.resolve(), report=say)
        if args.group:
            run.measure_group(args.group)
            return 0
        measured = run.measure()
        path = write_table(measured, args.out, ours=args.patients, title=run.title)
    except CT2PETError as error:
        raise SystemExit(str(error)) from error
    say(f"{path}")
    return 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="scripts/cross-validate-konfai", description=__doc__)
    parser.add_argument("arrays", type=Path, help="folder of prepared arrays, from `main.py prepare`")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--folds", type=int, default=10, help="outer folds, as of `main.py ablate` (default 10)")
    parser.add_argument(
        "--together", type=int, default=2, help="folds that each network leaves out, 1 or more (default 2)"
    )
    parser.add_argument(
        "--group", type=int, metavar="N", help="only this group of folds, from 1: several processes may share the work"
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU time of each training (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help="ours: its network sets the operations")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="override a setting of the recipe")
    parser.add_argument("--patients", type=Path, help="patients.csv of `main.py ablate`, to compare with ours")
    environment = Path(os.environ.get("CT2PET_KONFAI") or ROOT / ".venv-konfai")
    parser.add_argument("--environment", type=Path, default=environment, help="of KonfAI (default .venv-konfai)")
    args = parser.parse_args()
    if not (args.arrays / "index.json").is_file():
        parser.error(f"{args.arrays}: holds no prepared arrays; make them with `main.py prepare`")
    if not args.minutes > 0 or args.threads < 1:
        parser.error(f"--minutes must be above 0 and --threads at least 1, found {args.minutes:g} and {args.threads}")
    if args.folds < 2 or not 1 <= args.together < args.folds:
        parser.error(
            f"--folds must be at least 2 and --together from 1 to below it, found {args.folds} and {args.together}"
        )
    if args.group and not 1 <= args.group <= -(-args.folds // args.together):
        parser.error(f"--group must be from 1 to {-(-args.folds // args.together)}, found {args.group}")
    if args.patients and not args.patients.is_file():
        parser.error(f"{args.patients}: no such file")
    return args


def say(message: str) -> None:
    """Print a message."""
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main())
