"""Run an ablation study of a recipe; see `scripts/ablate --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.errors import CT2PETError, PreparedDataError, RecipeError  # noqa: E402
from lib.experiments.ablation import Ablation, run_ablation  # noqa: E402
from lib.experiments.ablation_table import write_ablation  # noqa: E402
from lib.experiments.ablation_variants import Variant, read_variants  # noqa: E402
from lib.learning.recipe import DEFAULT_RECIPE  # noqa: E402
from lib.pairing.prepared import Preparation, PreparedSet  # noqa: E402
from lib.types import Progress  # noqa: E402

CHOICES = ROOT / "lib" / "learning" / "recipes" / "choices" / "ablation.toml"


def main() -> int:
    """Run the command; return the exit status."""
    args = _arguments()
    try:
        ablation = run_ablation(
            _provider(args.studies, args.out), args.recipe, args.set, _select_variants(args), args.out,
            folds=args.folds, only=args.fold, device=args.device, progress=_progress_lines(),
        )  # fmt: skip
        paths = [*write_ablation(ablation, args.out, title=args.title, note=args.note), *_draw_figure(ablation, args)]
    except CT2PETError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    print(paths[1].read_text())
    for path in paths:
        print(path)
    return 0


def _select_variants(args: argparse.Namespace) -> list[Variant]:
    variants = read_variants(args.choices)
    known = {term for variant in variants for term in (variant.topic, variant.name)}
    if unknown := set(args.only) - known:
        raise RecipeError(
            f"--only {sorted(unknown)[0]!r} is neither a topic nor a name; {args.choices} has {sorted(known)}"
        )
    return [variant for variant in variants if not args.only or {variant.topic, variant.name} & set(args.only)]


def _draw_figure(ablation: Ablation, args: argparse.Namespace) -> list[Path]:
    try:
        from lib.experiments.ablation_figure import draw_ablation
    except ModuleNotFoundError:
        print("no figure: matplotlib is not installed; install it and run the same command again", file=sys.stderr)
        return []
    return [draw_ablation(ablation, args.out / "ablation.png", note=args.note)]


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


def _provider(studies: Sequence[Path], out: Path) -> Callable[[Preparation], PreparedSet]:
    """Return a function that opens the prepared arrays of a preparation, or prepares the studies."""

    def prepared_for(preparation: Preparation) -> PreparedSet:
        """Return the arrays prepared with this grid and these windows."""
        for folder in studies:
            if (folder / "index.json").is_file() and PreparedSet.open(folder).preparation == preparation:
                return PreparedSet.open(folder)
        raw = [folder for folder in studies if not (folder / "index.json").is_file()]
        if len(raw) != 1:
            raise PreparedDataError(
                f"none of the given folders was prepared with {preparation}; give one that was (main.py prepare) or "
                "one folder of studies"
            )
        # imported here, because a training machine may lack the DICOM libraries
        from lib.dicom.scan.scan import scan_folder
        from lib.pairing.pairs import pair_series
        from lib.pairing.prepare import prepare_pairs

        scan = scan_folder(raw[0])
        folder = out / "prepared" / preparation.digest()
        return prepare_pairs(
            pair_series(scan).pairs, folder, preparation=preparation, scan=scan, progress=_progress_lines()
        ).prepared

    return prepared_for


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/ablate",
        description="Train the recipe and variants of it, measure each fold's patients with networks that were not "
        "trained on them, and write one table of the gain and cost of each variant. The recipe's test patients are "
        "excluded. An interrupted run resumes.",
    )
    parser.add_argument("studies", nargs="+", type=Path, help="folder of studies, or prepared folders")
    parser.add_argument("--out", type=Path, required=True, help="output folder for runs and tables")
    parser.add_argument("--choices", type=Path, default=CHOICES, help="TOML file of [[choice]] tables")
    parser.add_argument("--only", action="append", default=[], metavar="TOPIC|NAME", help="only these variants")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help="reference recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change all variants")
    parser.add_argument("--folds", type=int, default=4, help="number of folds (default 4)")
    parser.add_argument("--fold", action="append", type=int, default=[], help="run only this fold, from 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--title", default="Ablation", help="title of the table")
    parser.add_argument("--note", default="", help="line below the table, such as the data's attribution")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
