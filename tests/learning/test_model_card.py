"""What a card tells of a model: its figures with confidence, its standing, its limits, and nobody's name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import ModelCard, patient_digest, split_digest
from lib.learning.model_card.limits import limits_of, origins_of
from lib.learning.model_card.scores import MetricsTable, Scores, scores_of
from lib.learning.training import describe, train
from lib.metrics.criteria import METHODS, STANDING_MEASURES
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side, Split
from tests.learning.conftest import make_card, tiny_recipe


def figures(model_mae: float, other_mae: float) -> MetricsTable:
    """Figures of one pair: the model leads by its MAE alone, or loses by it."""
    equal = {measure.name: 1.0 for measure in STANDING_MEASURES}
    best = equal | {"psnr_db_body": 2.0, "ssim_body": 2.0, "correlation_body": 2.0}
    return {
        method: {
            **(best if method == "model" else equal),
            "mae_suv_body": model_mae if method == "model" else other_mae,
        }
        for method in METHODS
    }


# -- scores ------------------------------------------------------------------------------------------------------------


def test_means_are_over_patients_and_carry_their_confidence() -> None:
    measured = [("a", figures(1.0, 9.0)), ("a", figures(3.0, 9.0)), ("b", figures(5.0, 9.0))]
    scores = scores_of("test", measured)
    assert (scores.side, scores.patients) == ("test", 2)
    assert scores.by_patient["a"]["model"]["mae_suv_body"] == 2.0  # a patient's pairs count once, as their mean
    assert scores.table["model"]["mae_suv_body"] == 3.5
    assert scores.intervals["model"]["mae_suv_body"] == {"mean": 3.5, "low": 2.0, "high": 5.0, "count": 2}
    assert scores.intervals["zero"]["mae_suv_body"]["high"] == 9.0


def test_what_is_defined_for_nobody_has_no_mean() -> None:
    undefined: dict[str, dict[str, float | None]] = {"model": {"psnr_db": None}, "zero": {"psnr_db": 20.0}}
    scores = scores_of("test", [("a", undefined), ("b", {**undefined, "model": {"psnr_db": None}})])
    assert (scores.table["model"]["psnr_db"], scores.table["zero"]["psnr_db"]) == (None, 20.0)
    assert scores.intervals["model"]["psnr_db"] == {"mean": None, "low": None, "high": None, "count": 0}


# -- standing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_mae", "mark", "words"),
    [
        (0.4, "beats all", "Beats every trivial predictor: mae_suv_body 0.400 against 0.500"),
        (
            0.6,
            "does not beat all",
            "does not beat zero, constant, hu_mean and hu_median in mae_suv_body",
        ),
    ],
)
def test_the_card_says_whether_its_model_beats_the_trivial(model_mae: float, mark: str, words: str) -> None:
    card = make_card(scores=scores_of("validation", [(str(n), figures(model_mae, 0.5)) for n in range(10)]))
    assert card.standing.mark == mark and words in card.standing.sentence
    assert "Judged on 10 validation patients, on whom its weights were chosen." in card.standing.sentence
    assert json.loads(card.to_json())["standing"] == card.standing.as_json()


def test_a_test_side_is_told_as_never_seen_but_not_where_slices_were_split() -> None:
    scores = scores_of("test", [("a", figures(0.4, 0.5))])
    assert "1 test patient, whom it has never seen" in make_card(scores=scores).standing.sentence
    recipe = tiny_recipe("split.unit=slice")
    card = make_card(scores=scores, recipe=recipe, network=recipe.network)
    assert "1 test patient, from other slices of whom it has learnt" in card.standing.sentence


def test_a_card_without_scores_says_that_nothing_is_known() -> None:
    standing = make_card(scores=None).standing
    assert (standing.mark, standing.outcomes) == ("not judged", {})
    assert "nobody was set aside to judge it on" in standing.sentence


def test_nobody_can_write_another_standing_into_a_card() -> None:
    card = make_card(scores=scores_of("test", [("a", figures(0.6, 0.5))]))
    told = json.loads(card.to_json())
    told["standing"] = {"mark": "beats all", "sentence": "Beats everything.", "outcomes": {}}
    assert ModelCard.from_json(json.dumps(told)) == card
    assert ModelCard.from_json(json.dumps(told)).standing.mark == "does not beat all"


# -- cards of old ------------------------------------------------------------------------------------------------------


def as_written_before(card: ModelCard) -> dict[str, Any]:
    """The card as ct2pet wrote it before it kept patients' figures, the split, origins and a standing."""
    told: dict[str, Any] = json.loads(card.to_json())
    del told["standing"], told["calibration"]
    for name in ("test_patients", "split", "origins"):
        del told["training"][name]
    del told["scores"]["intervals"], told["scores"]["by_patient"]
    return told


def test_a_card_of_old_is_read_and_judged_by_its_means_with_a_caution() -> None:
    card = make_card(scores=scores_of("validation", [(name, figures(0.4, 0.5)) for name in "abc"]))
    old = ModelCard.from_json(json.dumps(as_written_before(card)))
    assert (old.training.split, old.training.origins, old.scores and old.scores.by_patient) == ("", {}, {})
    assert old.standing.mark == "not surely"
    assert "its card keeps only their means, so how sure this is is unknown" in old.standing.sentence
    worse = replace(card, scores=scores_of("validation", [("a", figures(0.6, 0.5))]))
    assert ModelCard.from_json(json.dumps(as_written_before(worse))).standing.mark == "does not beat all"


def test_scores_that_lack_what_a_standing_is_made_of_are_not_judged() -> None:
    assert make_card(scores=Scores("test", 1, {})).standing.mark == "not judged"
    assert make_card().standing.mark == "not judged"  # only SSIM and PSNR of the slice


# -- data and limits ---------------------------------------------------------------------------------------------------


def test_the_split_hash_is_of_settings_and_sides() -> None:
    sides = {"train": ("a", "b"), "validation": ("c",), "test": ()}
    first = split_digest(Split(), sides)
    assert first == split_digest(Split(), {**sides, "train": ("b", "a")})
    assert len({first, split_digest(Split(salt="other"), sides), split_digest(Split(), {**sides, "test": ("d",)})}) == 3


def test_origins_count_patients_and_limits_name_them(prepared: PreparedSet) -> None:
    first, second, third = (
        replace(prepared.pairs[number], ct_scanner=scanner, body_part="LEG")
        for number, scanner in enumerate(("ACME 1", "ACME 1", ""))
    )
    origins = origins_of([first, replace(first, id="another"), second, third])
    assert origins["ct_scanner"] == {"": 1, "ACME 1": 2} and origins["tracer"] == {"": 3}
    assert limits_of(3, origins).endswith(
        "Learnt from 3 patients: one CT scanner model (ACME 1, not told of 1); one body part (LEG). Of others it knows "
        "nothing. The headers do not tell: PET scanner model, tracer."
    )


def test_limits_name_the_commonest_of_many() -> None:
    told = limits_of(21, {"ct_scanner": {name: count for count, name in enumerate("ABCDEF", 1)}})
    assert "6 CT scanner models (F: 6, E: 5, D: 4, C: 3, B: 2, 1 more)" in told
    assert limits_of(1, {}).endswith(
        "Learnt from 1 patient. The headers do not tell: CT scanner model, PET scanner model, body part, tracer."
    )


def test_a_trained_model_carries_all_of_it_and_no_patients_name(prepared: PreparedSet, tmp_path: Any) -> None:
    card = train(prepared, tiny_recipe(), tmp_path / "run").card
    sides = split_pairs(prepared, card.recipe.split)
    assert card.training.test_patients == tuple(sorted(map(patient_digest, sides.patients("test"))))
    assert card.training.split == describe(card.recipe, sides, epoch=9).training.split
    assert card.scores is not None and tuple(card.scores.by_patient) == card.training.validation_patients
    assert 0 <= card.scores.by_patient[card.training.validation_patients[0]]["model"]["hu_share"] <= 1  # type: ignore[operator]
    assert card.standing.mark in ("does not beat all", "not surely", "beats all")
    assert "Learnt from 3 patients." in card.limits
    names = {f'"{patient}"' for patient in prepared.patients()}
    assert not [name for name in names if name in card.to_json()]


@pytest.mark.parametrize(
    ("patient_id", "side", "shaped_weights"),
    [
        ("P1", Side.TRAIN, True),
        ("P2", Side.VALIDATION, True),
        ("P3", Side.TEST, False),
        ("P4", Side.UNSEEN, False),
    ],
)
def test_a_card_says_what_the_model_used_a_patient_for(patient_id: str, side: Side, *, shaped_weights: bool) -> None:
    card = make_card()
    card = replace(card, training=replace(card.training, test_patients=(patient_digest("P3"),)))

    assert card.side_of(patient_id) is side
    assert side.shaped_weights is shaped_weights
