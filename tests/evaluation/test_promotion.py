"""Challenger against champion, on values computed by hand and on phantoms."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.evaluation.champion_comparison import MIN_PATIENTS
from lib.evaluation.promotion import PromotionResult, compare_with_champion, promotion_result, select_pairs
from lib.learning.checkpoint import read_card
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import COMPARED_METRICS, FABRICATION_METRICS
from lib.pairing.pairs import PairedSeries, pair_series
from lib.phantom.generate import PhantomSettings, write_phantoms
from lib.synthesis.synthesizer import Synthesizer
from tests.ct2pet_app.constant_model import save_constant_model

NAMES = [metric.name for metric in COMPARED_METRICS]
# the champion beats the baselines everywhere: MAE 0.4 against 0.5, PSNR 24 against 22, and so on
BASELINE = {"mae_suv_body": 0.5, "psnr_db_body": 22.0, "ssim_body": 0.6, "correlation_body": 0.3}
CHAMPION = {"mae_suv_body": 0.4, "psnr_db_body": 24.0, "ssim_body": 0.7, "correlation_body": 0.5}


def promotion(*challenger: dict[str, float], champion: bool = True) -> PromotionResult:
    """Return the result for patients with these metrics of the challenger; all other methods have equal ones."""
    patients = []
    for number, metrics in enumerate(challenger):
        by_method = {**dict.fromkeys(BASELINE_NAMES, BASELINE), "model": {**CHAMPION, **metrics, "hu_share": 0.1}}
        patients.append((f"p{number}", {**by_method, **({"champion": CHAMPION} if champion else {})}))
    return promotion_result(patients, description="of the validation side that neither was trained on")


def mae(*values: float) -> list[dict[str, float]]:
    return [{"mae_suv_body": value} for value in values]


# The champion's MAE is 0.40 in every patient. A bootstrap mean lies between the smallest and the largest value, so
# the interval of values that are all above 0.40 is above 0.40.
@pytest.mark.parametrize(
    ("values", "outcome", "is_promotable"),
    [
        ((0.40, 0.40, 0.40, 0.40, 0.40), "level", True),
        ((0.38, 0.37, 0.39, 0.38, 0.37), "better", True),
        ((0.42, 0.43, 0.41, 0.42, 0.43), "worse", False),
        ((0.35, 0.45, 0.36, 0.46, 0.41), "level", True),  # worse on average (0.406), but not significantly
        ((0.41, 0.41, 0.37), "better", True),  # three patients: their mean decides, and it is 0.397
        ((0.41, 0.41, 0.39), "worse", False),  # 0.403
        ((0.41,), "worse", False),  # one patient
    ],
)
def test_the_interval_decides_or_the_mean_for_few_patients(
    values: Sequence[float], outcome: str, is_promotable: bool
) -> None:
    found = promotion(*mae(*values))
    assert found.comparisons[0].metric.name == "mae_suv_body"
    # the other metrics are equal, and with one patient no baseline is beaten significantly
    assert (found.comparisons[0].outcome, found.is_promotable) == (outcome, is_promotable and len(values) > 1)


def test_worse_in_one_metric_is_not_promoted_and_the_values_are_stated() -> None:
    found = promotion(*[{"ssim_body": value, "mae_suv_body": 0.3} for value in (0.62, 0.63, 0.64, 0.65, 0.66)])
    assert [comparison.metric.name for comparison in found.lost] == ["ssim_body"]
    message = "Worse than version 3: body SSIM 0.640 against 0.700 (difference -0.060, 95 % -0.07"
    assert found.sentence("version 3").startswith(message)
    assert "MAE" not in found.sentence("version 3").split("; tested")[0]
    assert "; tested on 5 patients." in found.sentence("version 3")


def test_worse_on_average_in_every_metric_is_not_promoted() -> None:
    worse = {"mae_suv_body": 0.5, "psnr_db_body": 23.0, "ssim_body": 0.6, "correlation_body": 0.4}
    better = {"mae_suv_body": 0.35, "psnr_db_body": 24.5, "ssim_body": 0.75, "correlation_body": 0.55}
    found = promotion(
        worse, better, worse, better, worse, better
    )  # in each metric the mean is worse, and the interval contains 0
    assert {comparison.outcome for comparison in found.comparisons} == {"level"}
    assert ([comparison.metric.name for comparison in found.lost], found.is_promotable) == (NAMES, False)
    assert (
        "Worse than the champion on average, but not significantly: body MAE 0.425 against 0.400 SUV"
        in found.sentence()
    )


@pytest.mark.parametrize(
    ("name", "value"), [("correlation_body", math.nan), ("psnr_db_body", -math.inf), ("mae_suv_body", math.inf)]
)
def test_a_collapsed_pet_is_worse_although_its_metric_is_not_finite(name: str, value: float) -> None:
    found = promotion(*[{name: value}] * MIN_PATIENTS)
    assert [(comparison.metric.name, comparison.outcome) for comparison in found.lost] == [(name, "worse")]
    assert json.dumps(found.as_json()["beside_champion"][name], allow_nan=False).startswith('{"challenger": null')
    assert found.sentence().startswith(f"Worse than the champion: {found.lost[0].metric.words} ")


FABRICATED = [metric.name for metric in FABRICATION_METRICS]


def fabrication(challenger: Sequence[float], champion: Sequence[float]) -> PromotionResult:
    """Return the result for a challenger with a better MAE, and numbers of fabricated lesions of 10 mL each."""
    patients = []
    for number, (theirs, served) in enumerate(zip(challenger, champion, strict=True)):
        counts = [dict(zip(FABRICATED, (count, 10 * count), strict=True)) for count in (theirs, served)]
        better = {**CHAMPION, "mae_suv_body": 0.3, "hu_share": 0.1, **counts[0]}
        by_method = {**dict.fromkeys(BASELINE_NAMES, BASELINE), "model": better, "champion": CHAMPION | counts[1]}
        patients.append((f"p{number}", by_method))
    return promotion_result(patients, description="that neither was trained on")


@pytest.mark.parametrize(
    ("challenger", "champion", "outcome"),
    [
        ((3, 4, 3, 5, 4), (1, 1, 0, 2, 1), "worse"),  # more in every patient
        ((1, 1, 0, 2, 1), (3, 4, 3, 5, 4), "better"),
        ((3, 0, 3, 0, 1), (1, 1, 1, 1, 1), "level"),  # more on average, but not significantly
        ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2), "level"),
        ((3, 2), (1, 2), "level"),  # of two patients, both have to have more
        ((9,), (1,), "level"),  # one patient gives no interval
    ],
)
def test_a_challenger_that_significantly_fabricates_more_lesions_is_not_promoted(
    challenger: Sequence[float], champion: Sequence[float], outcome: str
) -> None:
    found = fabrication(challenger, champion)
    assert [comparison.outcome for comparison in found.fabrication] == [outcome, outcome]
    assert found.is_promotable == (outcome != "worse" and len(challenger) > 1)


def test_fabricated_lesions_are_stated_in_the_sentence_and_in_the_json() -> None:
    found = fabrication((3, 4, 3, 5, 4), (1, 1, 0, 2, 1))
    assert found.sentence("version 3").startswith(
        "Significantly more fabricated lesions than version 3 (fabricated lesions per patient 3.8 against 1.0 "
        "(difference +2.8, 95 % "
    )
    assert "volume of fabricated lesions 38 against 10 mL" in found.sentence()
    assert found.as_json()["fabricates_more"] == FABRICATED and not found.lost
    assert set(found.as_json()["fabrication"]) == set(FABRICATED)
    json.dumps(found.as_json(), allow_nan=False)


def test_an_undefined_mean_is_described() -> None:
    found = promotion(*[{"correlation_body": math.nan}] * MIN_PATIENTS)
    assert "Worse than the champion: body correlation (no patient has a value of both)" in found.sentence()
    assert "nan" not in found.sentence()


def test_a_perfect_pet_is_not_worse_although_its_psnr_is_infinite() -> None:
    assert not promotion(*[{"psnr_db_body": math.inf}] * MIN_PATIENTS).lost


def test_a_first_model_must_significantly_beat_all_baselines_in_one_metric() -> None:
    level = dict(BASELINE)
    assert not promotion(*[level] * 6, champion=False).is_promotable
    ahead = promotion(*[{**level, "ssim_body": 0.61 + n / 100} for n in range(6)], champion=False)
    assert (ahead.leads, ahead.comparisons, ahead.is_promotable) == (("ssim_body",), (), True)
    assert ahead.sentence().startswith(
        "Better than all baselines in body SSIM. Not better than any baseline in body MAE"
    )
    all_metrics = {"mae_suv_body": 0.1, "psnr_db_body": 40.0, "ssim_body": 0.95, "correlation_body": 0.95}
    best = promotion(*[all_metrics] * 6, champion=False)
    assert best.leads == tuple(NAMES)
    assert best.sentence().startswith("Better than all four baselines; tested on 6 patients")
    none = "Not better than all baselines in any metric. "
    assert promotion(*[level] * 6, champion=False).sentence().startswith(none)


def test_a_model_that_beats_the_champion_but_no_baseline_is_not_promoted() -> None:
    patients = []
    for number in range(6):
        others = {**dict.fromkeys(BASELINE_NAMES, BASELINE), "champion": {**CHAMPION, "mae_suv_body": 0.9}}
        level = {name: BASELINE[name] for name in NAMES}
        patients.append((f"p{number}", {**others, "champion": {**level, "mae_suv_body": 0.9}, "model": level}))
    patients = [(patient, {**metrics, "model": {**metrics["model"], "hu_share": 0.1}}) for patient, metrics in patients]
    found = promotion_result(patients, description="")
    assert (found.comparisons[0].outcome, found.lost, found.leads, found.is_promotable) == ("better", (), (), False)


def test_pairs_of_one_patient_count_as_their_mean() -> None:
    metrics = {**dict.fromkeys(BASELINE_NAMES, BASELINE), "champion": CHAMPION}
    pair = [{**metrics, "model": {**CHAMPION, "mae_suv_body": value, "hu_share": 0.1}} for value in (0.3, 0.6)]
    found = promotion_result([("p", pair[0]), ("p", pair[1])], description="")
    assert (found.patients, found.comparisons[0].challenger) == (1, pytest.approx(0.45))


def test_without_patients_a_model_is_not_promoted() -> None:
    found = promotion_result([], description="that neither was trained on")
    assert not found.is_promotable
    assert found.sentence().startswith(
        "Not compared with the baselines: there is no patient that neither was trained on with a PET"
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairedSeries, ...]:
    """Seven small phantoms."""
    folder = tmp_path_factory.mktemp("phantoms")
    small = PhantomSettings(slices=4, ct_matrix=48, ct_pixel_mm=8.5, pet_matrix=48, pet_pixel_mm=8.5)
    write_phantoms(folder, patients=7, settings=small)
    return pair_series(scan_folder(folder)).pairs


def model(path: Path, suv: float, *, trained_on: Sequence[int] = (), validated_on: Sequence[int] = ()) -> Synthesizer:
    named = ([f"PHANTOM_{number:04d}" for number in numbers] for numbers in (trained_on, validated_on))
    trained, validated = named
    return Synthesizer.load(
        save_constant_model(path, suv, stages=1, trained_on=trained, validated_on=validated), device="cpu"
    )


def test_validation_patients_that_neither_was_trained_on_are_selected(
    pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    challenger = model(tmp_path / "a", 1.0, trained_on=[1], validated_on=[2, 3, 4, 5, 6, 7]).card
    champion = model(tmp_path / "b", 1.0, trained_on=[2]).card
    chosen, description = select_pairs(challenger, champion, pairs)
    assert [paired.pair.ct.patient_id[-1] for paired in chosen] == ["3", "4", "5", "6", "7"]
    assert description == "of the validation side that neither was trained on"


def test_with_few_validation_patients_all_that_neither_was_trained_on_are_selected(
    pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    challenger = read_card(save_constant_model(tmp_path / "a", 1.0, trained_on=["PHANTOM_0001"]))
    chosen, description = select_pairs(challenger, None, pairs)
    assert [paired.pair.ct.patient_id[-1] for paired in chosen] == ["2", "3", "4", "5", "6", "7"]
    assert description == "that it was not trained on"


def test_patients_of_cross_validated_models_judge_out_of_fold(pairs: tuple[PairedSeries, ...], tmp_path: Path) -> None:
    card = read_card(save_constant_model(tmp_path / "a", 1.0, trained_on=["PHANTOM_0001", "PHANTOM_0002"]))
    challenger = replace(card, training=replace(card.training, folds=dict.fromkeys(card.training.patients, 0)))
    champion = read_card(save_constant_model(tmp_path / "b", 1.0, trained_on=["PHANTOM_0002"]))
    chosen, _ = select_pairs(challenger, champion, pairs)
    assert [paired.pair.ct.patient_id[-1] for paired in chosen] == ["1", "3", "4", "5", "6", "7"]
    chosen, _ = select_pairs(challenger, challenger, pairs)
    assert len(chosen) == 7


# Phantom uptake is about 0.5 to 2 SUV in most of the body: 0.8 is a far better constant than 9.
@pytest.mark.parametrize(("champion_suv", "challenger_suv", "lost"), [(9.0, 0.8, False), (0.8, 9.0, True)])
def test_of_two_constants_the_closer_one_is_better(
    pairs: tuple[PairedSeries, ...], tmp_path: Path, champion_suv: float, challenger_suv: float, lost: bool
) -> None:
    challenger, champion = model(tmp_path / "a", challenger_suv), model(tmp_path / "b", champion_suv)
    found = compare_with_champion(challenger, champion, pairs[:MIN_PATIENTS])
    assert (found.patients, bool(found.lost)) == (MIN_PATIENTS, lost)
    assert found.comparisons[0].outcome == ("worse" if lost else "better")
    # 9 SUV everywhere is one component that holds every real lesion, and 0.8 is none: neither is fabricated
    assert {comparison.outcome for comparison in found.fabrication} == {"level"}


def test_a_pair_that_cannot_be_read_is_skipped_and_logged_by_its_uid(
    pairs: tuple[PairedSeries, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = pairs[0].pair.pet.files[0]
    full = one.read_bytes()
    one.write_bytes(b"not DICOM")
    try:
        found = compare_with_champion(model(tmp_path / "a", 1.0), None, pairs[:2])
    finally:
        one.write_bytes(full)
    assert found.patients == 1
    assert pairs[0].pair.ct.uid in caplog.text and "PHANTOM" not in caplog.text.replace(str(one.parent), "")
