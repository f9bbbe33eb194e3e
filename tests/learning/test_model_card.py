"""The card of a model: metrics with confidence intervals, baseline comparison, limits, and no patient's name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import ModelCard, patient_digest, split_digest
from lib.learning.model_card.creation import new_card
from lib.learning.model_card.facts import card_facts
from lib.learning.model_card.limits import limits_of, origins_of
from lib.learning.model_card.scores import MetricsTable, Scores, scores_of
from lib.learning.training import train
from lib.metrics.criteria import COMPARED_METRICS, METHODS
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side, Split
from tests.learning.conftest import make_card, tiny_recipe
from tests.learning.known_intervals import known_intervals


def figures(model_mae: float, other_mae: float) -> MetricsTable:
    """Metrics of one pair: the model is better or worse by its MAE alone."""
    equal = {measure.name: 1.0 for measure in COMPARED_METRICS}
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


def test_a_metric_undefined_for_all_patients_has_no_mean() -> None:
    undefined: dict[str, dict[str, float | None]] = {"model": {"psnr_db": None}, "zero": {"psnr_db": 20.0}}
    scores = scores_of("test", [("a", undefined), ("b", {**undefined, "model": {"psnr_db": None}})])
    assert (scores.table["model"]["psnr_db"], scores.table["zero"]["psnr_db"]) == (None, 20.0)
    assert scores.intervals["model"]["psnr_db"] == {"mean": None, "low": None, "high": None, "count": 0}


# -- standing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_mae", "mark", "message"),
    [
        (0.4, "beats all", "body MAE 0.400 and 0.500 SUV (zero uptake)"),
        (
            0.6,
            "does not beat all",
            "Not better than any baseline in body MAE",
        ),
    ],
)
def test_the_card_says_whether_its_model_beats_the_baselines(model_mae: float, mark: str, message: str) -> None:
    card = make_card(scores=scores_of("validation", [(str(n), figures(model_mae, 0.5)) for n in range(10)]))
    assert card.standing.mark == mark and message in card.standing.sentence
    assert "; tested on 10 validation patients, on whom its weights were selected." in card.standing.sentence
    assert json.loads(card.to_json())["standing"] == card.standing.as_json()


def test_the_test_side_is_described_as_unused_except_with_a_split_by_slice() -> None:
    scores = scores_of("test", [("a", figures(0.4, 0.5))])
    assert "1 test patient, not used in training" in make_card(scores=scores).standing.sentence
    recipe = tiny_recipe("split.unit=slice")
    card = make_card(scores=scores, recipe=recipe, network=recipe.network)
    assert "1 test patient, whose other slices were used in training" in card.standing.sentence


def test_a_card_without_scores_is_not_judged() -> None:
    standing = make_card(scores=None).standing
    assert (standing.mark, standing.outcomes) == ("not judged", {})
    assert "there were no validation or test patients" in standing.sentence


def test_a_comparison_written_into_a_card_is_ignored() -> None:
    card = make_card(scores=scores_of("test", [("a", figures(0.6, 0.5))]))
    reported = json.loads(card.to_json())
    reported["standing"] = {"mark": "beats all", "sentence": "Beats everything.", "outcomes": {}}
    assert ModelCard.from_json(json.dumps(reported)) == card
    assert ModelCard.from_json(json.dumps(reported)).standing.mark == "does not beat all"


# -- intervals -----------------------------------------------------------------------------------------------------


def test_readers_get_the_coverage_of_the_intervals_and_no_tables() -> None:
    card = make_card(intervals=known_intervals().to_json())
    coverage = card.interval_coverage
    assert (
        coverage.startswith("90 % intervals, calibrated on 20 patients") and "90 % for the SUV of a voxel" in coverage
    )
    assert card.for_clients()["interval_coverage"] == coverage and "intervals" not in card.for_clients()
    assert card_facts(card)["Intervals"] == coverage


@pytest.mark.parametrize("intervals", [None, {"scale": "stars"}])
def test_a_card_without_valid_intervals_says_nothing_of_their_coverage(intervals: dict[str, Any] | None) -> None:
    card = make_card(intervals=intervals)
    assert card.interval_coverage == "" and "Intervals" not in card_facts(card)


# -- cards of old ------------------------------------------------------------------------------------------------------


def as_written_before(card: ModelCard) -> dict[str, Any]:
    """A card of an earlier version, without patients' metrics, split, origins and baseline comparison."""
    reported: dict[str, Any] = json.loads(card.to_json())
    del reported["standing"], reported["calibration"]
    for name in ("test_patients", "split", "origins"):
        del reported["training"][name]
    del reported["scores"]["intervals"], reported["scores"]["by_patient"]
    return reported


def test_a_card_of_an_earlier_version_is_judged_by_its_means_with_a_caution() -> None:
    card = make_card(scores=scores_of("validation", [(name, figures(0.4, 0.5)) for name in "abc"]))
    old = ModelCard.from_json(json.dumps(as_written_before(card)))
    assert (old.training.split, old.training.origins, old.scores and old.scores.by_patient) == ("", {}, {})
    assert old.standing.mark == "not surely"
    assert "its card has only means, so the significance is unknown" in old.standing.sentence
    worse = replace(card, scores=scores_of("validation", [("a", figures(0.6, 0.5))]))
    assert ModelCard.from_json(json.dumps(as_written_before(worse))).standing.mark == "does not beat all"


def test_scores_without_the_compared_metrics_are_not_judged() -> None:
    assert make_card(scores=Scores("test", 1, {})).standing.mark == "not judged"
    assert make_card().standing.mark == "not judged"  # only SSIM and PSNR of the slice


# -- data and limits ---------------------------------------------------------------------------------------------------


def test_the_split_hash_depends_on_settings_and_sides() -> None:
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
        "Trained on 3 patients: one CT scanner model (ACME 1, unknown for 1); one body part (LEG). Its accuracy on "
        "others is unknown. Missing in the headers: PET scanner model, tracer."
    )


def test_limits_name_the_commonest_of_many() -> None:
    reported = limits_of(21, {"ct_scanner": {name: count for count, name in enumerate("ABCDEF", 1)}})
    assert "6 CT scanner models (F: 6, E: 5, D: 4, C: 3, B: 2, 1 more)" in reported
    assert limits_of(1, {}).endswith(
        "Trained on 1 patient. Missing in the headers: CT scanner model, PET scanner model, body part, tracer."
    )


def test_the_card_of_a_trained_model_is_complete_and_has_no_patient_id(prepared: PreparedSet, tmp_path: Any) -> None:
    card = train(prepared, tiny_recipe(), tmp_path / "run").card
    sides = split_pairs(prepared, card.recipe.split)
    assert card.training.test_patients == tuple(sorted(map(patient_digest, sides.patients("test"))))
    assert card.training.split == new_card(card.recipe, sides, epoch=9).training.split
    assert card.scores is not None and tuple(card.scores.by_patient) == card.training.validation_patients
    assert 0 <= card.scores.by_patient[card.training.validation_patients[0]]["model"]["hu_share"] <= 1  # type: ignore[operator]
    assert card.standing.mark in ("does not beat all", "not surely", "beats all")
    assert "Trained on 3 patients." in card.limits
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
def test_the_side_of_a_patient(patient_id: str, side: Side, *, shaped_weights: bool) -> None:
    card = make_card()
    card = replace(card, training=replace(card.training, test_patients=(patient_digest("P3"),)))

    assert card.side_of(patient_id) is side
    assert side.shaped_weights is shaped_weights
