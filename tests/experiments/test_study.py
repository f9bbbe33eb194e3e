"""The study of 1 to 6 stages: its table and its seven figures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.study import parse_stages, recipe_of_stages, run_study, width_of_equal_flops
from lib.learning.tracking.options import Tracking
from lib.learning.tracking.progress import read_history
from lib.networks.cascade import NetworkConfig, forward_flops
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import make_prepared, tiny_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedSet:
    return make_prepared(tmp_path / "prepared", tiny_recipe().preparation)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's own use of SQLAlchemy
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_study_resumes_with_table_and_figures_and_a_further_call_trains_nothing(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    def cut_off(done: int, total: int, what: str) -> None:
        if what.startswith("2 stage") and "epoch 2" in what:
            raise KeyboardInterrupt

    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run_study(prepared, tiny_recipe(), out, stages=(1, 2), note="phantoms", progress=cut_off)
    first = (out / "stages-1" / "model.safetensors").stat().st_mtime_ns
    study = run_study(prepared, tiny_recipe(), out, stages=(1, 2), note="phantoms")
    assert [row.stages for row in study.rows] == [1, 2]
    assert (out / "stages-1" / "model.safetensors").stat().st_mtime_ns == first
    with study.table_csv.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines[:2]] == ["1 stage", "2 stages"]
    assert len(lines) == 2 + 4  # the baselines are in the same table
    assert all(float(line["mae_suv"]) > 0 for line in lines[:2])
    assert "compare them with the baselines" in study.table_markdown.read_text()
    assert len(study.figures) == 7
    assert all(np.ptp(imread(path)) > 0 for path in study.figures)
    recorded = read_history(out / "stages-2")[-1].recorded
    assert set(recorded) == {"train", "test"}
    assert {"loss", "ssim", "ms_ssim", "vif", "psnr_db", "mse", "mae_suv"} <= set(recorded["test"])

    weights = {path: path.stat().st_mtime_ns for path in out.glob("stages-*/model.safetensors")}
    mirror = Tracking(str(tmp_path / "mlflow"), "study")
    again = run_study(prepared, tiny_recipe(), out, stages=(1, 2), note="phantoms", tracking=mirror)
    tracked = [json.loads((out / f"stages-{stages}" / "tracking.json").read_text())["run_id"] for stages in (1, 2)]
    assert len(set(tracked)) == 2
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert json.dumps([row.scores.table for row in again.rows], sort_keys=True) == json.dumps(
        [row.scores.table for row in study.rows], sort_keys=True
    )


@pytest.mark.parametrize("stages", [2, 3, 6])
def test_equal_flops_are_nearly_equal(stages: int) -> None:
    network = NetworkConfig(stages=1, base_channels=64, context_slices=5)
    narrow = width_of_equal_flops(network, stages)
    one = forward_flops(network, rows=256, columns=256)
    many = forward_flops(NetworkConfig(stages, narrow, context_slices=5), rows=256, columns=256)
    assert many / one == pytest.approx(1, abs=0.05)
    assert recipe_of_stages(tiny_recipe(), 2, equal="flops").network.base_channels < tiny_recipe().network.base_channels


@pytest.mark.parametrize(
    ("text", "expected"), [("1-6", (1, 2, 3, 4, 5, 6)), ("3", (3,)), ("1,3,5", (1, 3, 5)), ("2-3,6", (2, 3, 6))]
)
def test_stages_are_parsed(text: str, expected: tuple[int, ...]) -> None:
    assert parse_stages(text) == expected


@pytest.mark.parametrize("text", ["", "0-2", "7", "one", "1-", "3-1"])
def test_invalid_stages_are_rejected(text: str) -> None:
    with pytest.raises(RecipeError, match="stages"):
        parse_stages(text)


def test_without_test_patients_there_is_no_study(tmp_path: Path) -> None:
    no_test_patients = make_prepared(tmp_path / "prepared", tiny_recipe().preparation, patients=("P0", "P1", "P6"))
    with pytest.raises(PreparedDataError, match="the test side of the split has no patients"):
        run_study(no_test_patients, tiny_recipe(), tmp_path / "study", stages=(1,))
