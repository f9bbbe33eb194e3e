"""The paper's question: what do 1, 2, ... 6 stages gain? One recipe, one split, one table, seven figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.study_figures import draw_curves, draw_examples
from lib.experiments.study_row import StudyRow
from lib.experiments.study_table import write_table
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
MIN_RECORDED_SLICES = 32  # after every epoch, of train and of test, where the recipe names none
REFERENCE_PIXELS = 256  # rows and columns that FLOPs are stated for


@dataclass(frozen=True)
class Study:
    """A finished study and where its pieces lie."""

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
    """Train each number of stages, measure it on the test side, fill the table, draw the seven figures.

    Killed and started again with the same arguments, it goes on: a finished number of stages is not trained again.

    Args:
        prepared: Arrays made under the recipe's grid and windows.
        recipe: Everything but the number of stages.
        out: Folder of the study; `stages-<n>/` inside it are ordinary runs.
        stages: Which numbers of stages.
        equal: `width` gives every stage the recipe's channels, so n stages cost n times one. `flops` narrows them until
            n stages cost what one does: more stages are then no larger network, only a deeper one.
        note: A line below every figure, such as the data's attribution.
        tracking: Mirror the run of each number of stages to MLflow.
        progress: Told all along.

    Raises:
        RecipeError: Numbers of stages or a comparison that there are not.
        PreparedDataError: Nobody is on the test side, so nothing could be measured.
    """
    if not stages or any(not 1 <= number <= MAX_STAGES for number in stages):
        raise RecipeError(f"stages are numbers from 1 to {MAX_STAGES}, found {list(stages)}")
    if equal not in get_args(Equal):
        raise RecipeError(f"equal is one of {', '.join(get_args(Equal))}, found {equal!r}")
    if not split_pairs(prepared, recipe.split).test:
        raise PreparedDataError("nobody is on the test side of the split; add patients or set split.test higher")
    recipes = {number: recipe_of_stages(recipe, number, equal=equal) for number in sorted(set(stages))}
    rows = []
    for place, (number, chosen) in enumerate(recipes.items()):
        tell = partial_progress(progress, place, len(recipes), f"{number} stage(s)")
        result = train(
            prepared, chosen, out / f"stages-{number}", resume=True, device=device, tracking=tracking, progress=tell
        )
        rows.append(_row(prepared, chosen, out / f"stages-{number}", result, device=device))
    csv_path, markdown_path = write_table(rows, out, recipe=recipe, equal=equal, note=note)
    histories = {number: read_history(out / f"stages-{number}") for number in recipes}
    runs = {number: out / f"stages-{number}" for number in recipes}
    figures = (
        draw_examples(prepared, recipe, runs, out / "figure-1-examples.png", device=device, note=note),
        *draw_curves(histories, out, note=note),
    )
    return Study(tuple(rows), csv_path, markdown_path, figures)


def parse_stages(text: str) -> tuple[int, ...]:
    """Return the numbers of stages that `1-6`, `3` or `1,3,5` names.

    Raises:
        RecipeError: Not of that form, or not within 1 to 6.
    """
    try:
        numbers: set[int] = set()
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers.update(range(int(first), int(last if dash else first) + 1))
    except ValueError as error:
        raise RecipeError(f"stages {text!r} are not of the form 1-6 or 1,3,5") from error
    if not numbers or not numbers <= set(range(1, MAX_STAGES + 1)):
        raise RecipeError(f"stages {text!r}: numbers from 1 to {MAX_STAGES} are possible")
    return tuple(sorted(numbers))


def recipe_of_stages(recipe: Recipe, stages: int, *, equal: str) -> Recipe:
    """Return the recipe with that many stages, at equal width or at the compute of one stage."""
    network = replace(recipe.network, stages=stages)
    if equal == "flops":
        network = replace(network, base_channels=width_of_equal_flops(recipe.network, stages))
    recorded = max(MIN_RECORDED_SLICES, recipe.schedule.record_slices)
    return replace(recipe, network=network, schedule=replace(recipe.schedule, record_slices=recorded))


def width_of_equal_flops(network: NetworkConfig, stages: int) -> int:
    """Return the base channels at which `stages` stages cost nearest to one stage of the recipe's width."""
    budget = _flops(replace(network, stages=1))

    def distance(width: int) -> float:
        """Return how far the compute is from the budget, as a ratio either way."""
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
