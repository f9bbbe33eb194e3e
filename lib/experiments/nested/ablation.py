"""An ablation: a recipe and variants of it, compared by nested cross-validation over all patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.nested.protocol import OUTER_FOLDS, Candidate, NestedResult, run_nested
from lib.experiments.nested.table import write_nested
from lib.experiments.variants import REFERENCE, Variant, read_variants
from lib.learning.recipe import RECIPES, load_recipe
from lib.pairing.prepared import Preparation, PreparedSet
from lib.types import Progress, no_progress

CHOICES = RECIPES / "choices" / "ablation.toml"


def run_ablation(
    prepared_for: Callable[[Preparation], PreparedSet],
    recipe: str,
    settings: Sequence[str],
    choices: Path,
    out: Path,
    *,
    only: Sequence[str] = (),
    folds: int = OUTER_FOLDS,
    device: str = "auto",
    processes: int = 0,
    title: str = "Ablation",
    note: str = "",
    progress: Progress = no_progress,
) -> tuple[NestedResult, tuple[Path, ...]]:
    """Compare a recipe with its variants, and write tables and a figure; return the result and the files.

    Args:
        prepared_for: Returns the arrays of a preparation.
        recipe: Name or file of the reference.
        settings: `key=value` changes to the reference and to all variants.
        choices: TOML file of the variants.
        out: Output folder; an interrupted ablation continues there.
        only: Topics or names of variants; all when empty.
        folds, device, processes, progress: As of `run_nested`.
        title, note: Of the report; the note names the data.

    Raises:
        RecipeError: An invalid setting, or an unknown topic or name.
        PreparedDataError: As of `run_nested`.
    """
    candidates = [
        Candidate(variant, load_recipe(recipe, settings=(*settings, *variant.settings)))
        for variant in (Variant(REFERENCE, REFERENCE), *_selected(read_variants(choices), only))
    ]
    result = run_nested(
        prepared_for, candidates, out, folds=folds, device=device, processes=processes, progress=progress
    )
    paths = write_nested(result, out, title=title, note=note)
    return result, (*paths, *draw_if_possible(result, out, note=note))


def draw_if_possible(result: NestedResult, out: Path, *, note: str) -> tuple[Path, ...]:
    """Draw the figure and return its path; nothing where matplotlib is missing, as on a bare training machine."""
    try:
        from lib.experiments.nested.figure import draw_nested
    except ModuleNotFoundError:
        return ()
    return (draw_nested(result, out / "nested.png", note=note),)


def prepared_arrays(
    folders: Sequence[Path], out: Path, *, progress: Progress = no_progress
) -> Callable[[Preparation], PreparedSet]:
    """Return a function that opens the arrays of a preparation, or prepares the studies for it.

    Args:
        folders: Folders of prepared arrays, one for each preparation, or one folder of DICOM studies.
        out: The studies are prepared in its folder `prepared`.

    Raises:
        PreparedDataError: By the function: no folder was prepared like that, and there is not one of studies.
    """

    def prepared_for(preparation: Preparation) -> PreparedSet:
        """Return the arrays prepared with this grid and these windows."""
        for folder in folders:
            if (folder / "index.json").is_file() and PreparedSet.open(folder).preparation == preparation:
                return PreparedSet.open(folder)
        raw = [folder for folder in folders if not (folder / "index.json").is_file()]
        if len(raw) != 1:
            raise PreparedDataError(
                f"none of the {len(folders)} folders was prepared with {preparation}; give one that was, or one folder "
                "of studies"
            )
        # imported here, because a training machine may lack the DICOM libraries
        from lib.dicom.scan.scan import scan_folder
        from lib.pairing.pairs import pair_series
        from lib.pairing.prepare import prepare_pairs

        scan = scan_folder(raw[0])
        folder = out / "prepared" / preparation.digest()
        return prepare_pairs(
            pair_series(scan).pairs, folder, preparation=preparation, scan=scan, progress=progress
        ).prepared

    return prepared_for


def _selected(variants: Sequence[Variant], only: Sequence[str]) -> list[Variant]:
    known = {term for variant in variants for term in (variant.topic, variant.name)}
    if unknown := sorted(set(only) - known):
        raise RecipeError(f"{unknown[0]!r} is neither a topic nor a name of a variant; expected one of {sorted(known)}")
    return [variant for variant in variants if not only or {variant.topic, variant.name} & set(only)]
