"""The paper's study: 1 to 6 stages with one recipe and one split, one table and seven figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.nested.ablation import draw_if_possible
from lib.experiments.nested.protocol import Candidate, NestedResult, run_nested
from lib.experiments.nested.table import write_nested
from lib.experiments.study_figures import draw_curves, draw_examples
from lib.experiments.study_row import StudyRow
from lib.experiments.study_table import write_table
from lib.experiments.variants import Variant
from lib.files import write_text
from lib.learning.checkpoint import load_checkpoint
from lib.learning.dataset import split_pairs
from lib.learning.model_card.scores import Scores
from lib.learning.recipe import Recipe
from lib.learning.tracking.options import Tracking
from lib.learning.tracking.progress import read_history
from lib.learning.training import TrainingResult, train
from lib.learning.validation import fit_prepared_baselines, score
from lib.networks.cascade import MAX_STAGES, NetworkConfig, count_parameters, forward_flops
from lib.networks.precision import choose_device
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side
from lib.types import Progress, no_progress, partial_progress

Equal = Literal["width", "flops"]
ROW_FILE = "row.json"
MIN_RECORDED_SLICES = 32  # per epoch, of train and of test, where the recipe sets none
REFERENCE_PIXELS = 256  # rows and columns, for FLOPs


@dataclass(frozen=True)
class Study:
    """A finished study and its files."""

    rows: tuple[StudyRow, ...]
    table_csv: Path
    table_markdown: Path
    figures: tuple[Path, ...]


def run_study(
    prepared: PreparedSet,
    recipe: Recipe,
    out: Path,
    *,
    stages: Sequence[int] = range(1, MAX_STAGES + 1),
    equal: str = "width",
    device: str = "auto",
    note: str = "",
    tracking: Tracking | None = None,
    progress: Progress = no_progress,
) -> Study:
    """Train each number of stages, measure it on the test side, and write the table and the seven figures.

    An interrupted study resumes with the same arguments: a finished number of stages is not trained again.

    Args:
        prepared: Arrays made under the recipe's grid and windows.
        recipe: All settings but the number of stages.
        out: Folder of the study; `stages-<n>/` inside it are ordinary runs.
        stages: Numbers of stages to train.
        equal: `width` gives every stage the recipe's channels, so that n stages cost n times as much as one. `flops`
            reduces the channels until n stages cost as much as one, so that only the depth changes.
        note: Line below every figure, such as the data's attribution.
        tracking: Log the run of each number of stages to MLflow.
        progress: Called during training.

    Raises:
        RecipeError: Invalid numbers of stages or an unknown comparison.
        PreparedDataError: The test side has no patients.
    """
    recipes = _recipes(recipe, stages, equal)
    if not split_pairs(prepared, recipe.split).test:
        raise PreparedDataError("the test side of the split has no patients; add patients or increase split.test")
    rows = []
    for index, (number, stage_recipe) in enumerate(recipes.items()):
        report = partial_progress(progress, index, len(recipes), "1 stage" if number == 1 else f"{number} stages")
        result = train(
            prepared,
            stage_recipe,
            out / f"stages-{number}",
            resume=True,
            device=device,
            tracking=tracking,
            progress=report,
        )
        rows.append(_row(prepared, stage_recipe, out / f"stages-{number}", result, device=device))
    csv_path, markdown_path = write_table(rows, out, recipe=recipe, equal=equal, note=note)
    histories = {number: read_history(out / f"stages-{number}") for number in recipes}
    runs = {number: out / f"stages-{number}" for number in recipes}
    figures = (
        draw_examples(prepared, recipe, runs, out / "figure-1-examples.png", device=device, note=note),
        *draw_curves(histories, out, note=note),
    )
    return Study(tuple(rows), csv_path, markdown_path, figures)


def compare_stages(
    prepared: PreparedSet,
    recipe: Recipe,
    out: Path,
    *,
    stages: Sequence[int],
    equal: str = "width",
    folds: int,
    device: str = "auto",
    processes: int = 0,
    note: str = "",
    progress: Progress = no_progress,
) -> tuple[NestedResult, tuple[Path, ...]]:
    """Compare numbers of stages by nested cross-validation over all patients; return the result and its files.

    Args and errors: as of `run_study` and `run_nested`.
    """
    candidates = [
        Candidate(Variant("stages", f"{number} stage{'s' if number > 1 else ''}"), stage_recipe)
        for number, stage_recipe in _recipes(recipe, stages, equal).items()
    ]
    result = run_nested(
        lambda _: prepared, candidates, out, folds=folds, device=device, processes=processes, progress=progress
    )
    title = f"{len(candidates)} numbers of stages, recipe {recipe.name}, equal {equal}"
    return result, (*write_nested(result, out, title=title, note=note), *draw_if_possible(result, out, note=note))


def _recipes(recipe: Recipe, stages: Sequence[int], equal: str) -> dict[int, Recipe]:
    """Return the recipe of each number of stages, ascending; raise RecipeError for an invalid comparison."""
    if not stages or any(not 1 <= number <= MAX_STAGES for number in stages):
        raise RecipeError(f"expected numbers of stages from 1 to {MAX_STAGES}, found {list(stages)}")
    if equal not in get_args(Equal):
        raise RecipeError(f"equal must be one of {', '.join(get_args(Equal))}, found {equal!r}")
    return {number: recipe_of_stages(recipe, number, equal=equal) for number in sorted(set(stages))}


def parse_stages(text: str) -> tuple[int, ...]:
    """Parse numbers of stages such as `1-6`, `3` or `1,3,5`.

    Raises:
        RecipeError: Not of that form, or not from 1 to 6.
    """
    try:
        numbers: set[int] = set()
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers.update(range(int(first), int(last if dash else first) + 1))
    except ValueError as error:
        raise RecipeError(f"stages {text!r}: expected the form 1-6 or 1,3,5") from error
    if not numbers or not numbers <= set(range(1, MAX_STAGES + 1)):
        raise RecipeError(f"stages {text!r}: expected numbers from 1 to {MAX_STAGES}")
    return tuple(sorted(numbers))


def recipe_of_stages(recipe: Recipe, stages: int, *, equal: str) -> Recipe:
    """Return the recipe with this number of stages, at equal width or at the compute of one stage."""
    network = replace(recipe.network, stages=stages)
    if equal == "flops":
        network = replace(network, base_channels=width_of_equal_flops(recipe.network, stages))
    recorded = max(MIN_RECORDED_SLICES, recipe.schedule.record_slices)
    return replace(recipe, network=network, schedule=replace(recipe.schedule, record_slices=recorded))


def width_of_equal_flops(network: NetworkConfig, stages: int) -> int:
    """Return the base channels at which the cost of `stages` stages is closest to that of one stage at full width."""
    budget = _flops(replace(network, stages=1))

    def distance(width: int) -> float:
        """Return the absolute log ratio of the compute and the budget."""
        return abs(math.log(_flops(replace(network, stages=stages, base_channels=width)) / budget))

    return min(range(1, network.base_channels + 1), key=distance)


def _row(prepared: PreparedSet, recipe: Recipe, run: Path, result: TrainingResult, *, device: str) -> StudyRow:
    path = run / ROW_FILE
    if path.is_file():
        values = json.loads(path.read_text())
        return StudyRow(**{**values, "scores": Scores(**values["scores"])})
    sides = split_pairs(prepared, recipe.split)
    torch_device = choose_device(device)
    cascade, card = load_checkpoint(result.model, device=torch_device)
    scores = score(
        cascade,
        prepared,
        sides.test,
        recipe,
        fit_prepared_baselines(prepared, sides.train),
        side=Side.TEST,
        device=torch_device,
    )
    row = StudyRow(
        stages=recipe.network.stages,
        base_channels=recipe.network.base_channels,
        parameters=count_parameters(cascade),
        gflop=_flops(recipe.network) / 1e9,
        epochs=len(read_history(run)),
        epoch=card.epoch,
        scores=scores,
    )
    write_text(path, json.dumps(asdict(row)))
    return row


def _flops(network: NetworkConfig) -> int:
    return forward_flops(network, rows=REFERENCE_PIXELS, columns=REFERENCE_PIXELS)
