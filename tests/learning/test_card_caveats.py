"""A card's scores hold what a reader sees at once, and its comparison names the caveats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.scores import Scores
from lib.learning.validation import fit_prepared_baselines, score
from lib.networks.cascade import Cascade
from lib.pairing.split import Side
from tests.learning.conftest import make_card, make_prepared, tiny_recipe


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    """The scores of an untrained network, which shows next to nothing."""
    recipe = tiny_recipe()
    prepared = make_prepared(tmp_path_factory.mktemp("prepared"), recipe.preparation)
    sides = split_pairs(prepared, recipe.split)
    baselines = fit_prepared_baselines(prepared, sides.train)
    torch.manual_seed(0)
    return score(
        Cascade(recipe.network), prepared, sides.validation, recipe, baselines,
        side=Side.VALIDATION, device=torch.device("cpu"),
    )  # fmt: skip


def test_the_table_has_the_appearance_of_every_method(scores: Scores) -> None:
    for row in scores.table.values():
        assert {"mip_correlation", "mip_mae_suv", "roughness_ratio", "hot_found_ml", "hot_false_ml"} <= row.keys()
    assert (scores.table["zero"]["hot_found_ml"], scores.table["zero"]["mip_correlation"]) == (0, None)
    # the organ, 4 SUV, is the only uptake above 2.5, and a lookup table finds all of it
    assert scores.table["hu_median"]["hot_found_ml"] == pytest.approx(
        scores.table["model"]["hot_found_ml"] + scores.table["model"]["hot_missed_ml"], rel=0.01  # type: ignore[operator]
    )  # fmt: skip


def test_the_standing_names_the_caveats_and_survives_the_file(scores: Scores) -> None:
    card = make_card(scores=scores)
    assert [caveat.key for caveat in card.standing.caveats][:1] == ["projection_below_baseline"]
    assert "its maximum intensity projections resemble the real ones less" in card.standing.sentence
    again = ModelCard.from_json(card.to_json())
    assert again.standing == card.standing


def test_a_card_of_an_earlier_version_has_none(scores: Scores) -> None:
    earlier = ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "hu_share")
    by_patient = {
        digest: {
            method: {name: value for name, value in row.items() if name in earlier} for method, row in table.items()
        }
        for digest, table in scores.by_patient.items()
    }
    card = make_card(scores=replace(scores, by_patient=by_patient))
    assert card.standing.caveats == () and card.standing.outcomes


def test_without_scores_there_is_no_caveat() -> None:
    assert make_card(scores=None).standing.as_json()["caveats"] == []
