"""What is each choice of the recipe worth? See `scripts/ablate --help`."""

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
    """Do what the command line says; return the exit status."""
    asked = _arguments()
    try:
        ablation = run_ablation(
            _provider(asked.studies, asked.out), asked.recipe, asked.set, _choices(asked), asked.out,
            folds=asked.folds, only=asked.fold, device=asked.device, progress=_teller(),
        )  # fmt: skip
        paths = [*write_ablation(ablation, asked.out, title=asked.title, note=asked.note), *_picture(ablation, asked)]
    except CT2PETError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    print(paths[1].read_text())
    for path in paths:
        print(path)
    return 0


def _choices(asked: argparse.Namespace) -> list[Variant]:
    choices = read_variants(asked.choices)
    known = {word for choice in choices for word in (choice.topic, choice.name)}
    if unknown := set(asked.only) - known:
        raise RecipeError(f"--only {sorted(unknown)[0]!r} is no topic and no name; {asked.choices} has {sorted(known)}")
    return [choice for choice in choices if not asked.only or {choice.topic, choice.name} & set(asked.only)]


def _picture(ablation: Ablation, asked: argparse.Namespace) -> list[Path]:
    try:
        from lib.experiments.ablation_figure import draw_ablation
    except ModuleNotFoundError:
        print("no picture: matplotlib is not installed; the same command elsewhere draws it", file=sys.stderr)
        return []
    return [draw_ablation(ablation, asked.out / "ablation.png", note=asked.note)]


def _teller() -> Progress:
    """Return a progress of plain lines, one an epoch: a bare training machine has nothing to draw bars with."""
    last = ""

    def tell(done: int, total: int, what: str) -> None:
        """Print a line when there is something new to say."""
        nonlocal last
        if what != last:
            last = what
            print(f"{100 * done / max(1, total):5.1f} %  {what}", file=sys.stderr, flush=True)

    return tell


def _provider(studies: Sequence[Path], out: Path) -> Callable[[Preparation], PreparedSet]:
    """Return what gives the arrays of a preparation: prepared folders as they are, studies prepared once for each."""

    def prepared_for(preparation: Preparation) -> PreparedSet:
        """Return the arrays made under that grid and these windows."""
        for folder in studies:
            if (folder / "index.json").is_file() and PreparedSet.open(folder).preparation == preparation:
                return PreparedSet.open(folder)
        raw = [folder for folder in studies if not (folder / "index.json").is_file()]
        if len(raw) != 1:
            raise PreparedDataError(
                f"none of the given folders was prepared with {preparation}; give such a one (main.py prepare) or one "
                "folder of studies"
            )
        # here, because a bare training machine has no DICOM libraries
        from lib.dicom.scan.scan import scan_folder
        from lib.pairing.pairs import pair_series
        from lib.pairing.prepare import prepare_pairs

        scan = scan_folder(raw[0])
        folder = out / "prepared" / preparation.digest()
        return prepare_pairs(
            pair_series(scan).pairs, folder, preparation=preparation, scan=scan, progress=_teller()
        ).prepared

    return prepared_for


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/ablate",
        description="Train the recipe and departures from it, each fold's patients measured by a network that was not "
        "trained on them, and write one table of what each choice gains and costs. The recipe's test patients are left "
        "out. May be stopped and started again.",
    )
    parser.add_argument("studies", nargs="+", type=Path, help="a folder of studies, or prepared folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and tables")
    parser.add_argument("--choices", type=Path, default=CHOICES, help="TOML file of [[choice]] tables")
    parser.add_argument("--only", action="append", default=[], metavar="TOPIC|NAME", help="only these choices")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help="the reference")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top, for all of them")
    parser.add_argument("--folds", type=int, default=4, help="parts that the patients are cut into (4)")
    parser.add_argument("--fold", action="append", type=int, default=[], help="do only this one, from 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--title", default="What each choice is worth", help="of the table")
    parser.add_argument("--note", default="", help="a line below the table, such as the data's attribution")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
