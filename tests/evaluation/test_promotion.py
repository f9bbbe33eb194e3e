"""Challenger against champion, in figures worked by hand and on phantoms."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.evaluation.promotion import ENOUGH, Contest, compare_with_champion, contest_of, judges
from lib.learning.checkpoint import read_card
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import COMPARED_METRICS
from lib.pairing.pairs import PairedSeries, pair_series
from lib.phantom.generate import PhantomSettings, write_phantoms
from lib.synthesis.synthesizer import Synthesizer
from tests.ct2pet_app.constant_model import save_constant_model

NAMES = [measure.name for measure in COMPARED_METRICS]
# a champion that leads the trivial predictors everywhere: MAE 0.4 against 0.5, PSNR 24 against 22, and so on
TRIVIAL = {"mae_suv_body": 0.5, "psnr_db_body": 22.0, "ssim_body": 0.6, "correlation_body": 0.3}
CHAMPION = {"mae_suv_body": 0.4, "psnr_db_body": 24.0, "ssim_body": 0.7, "correlation_body": 0.5}


def contest(*challenger: dict[str, float], champion: bool = True) -> Contest:
    """Return the contest of patients with these figures of the challenger, beside equal ones of all others."""
    patients = []
    for number, figures in enumerate(challenger):
        of_patient = {**dict.fromkeys(BASELINE_NAMES, TRIVIAL), "model": {**CHAMPION, **figures, "hu_share": 0.1}}
        patients.append((f"p{number}", {**of_patient, **({"champion": CHAMPION} if champion else {})}))
    return contest_of(patients, whose="of the validation side that neither was trained on")


def mae(*values: float) -> list[dict[str, float]]:
    return [{"mae_suv_body": value} for value in values]


# The champion's MAE is 0.40 in every patient. A mean over patients drawn with replacement lies between the least and
# the largest value, so an interval of values all above 0.40 is wholly above it.
@pytest.mark.parametrize(
    ("values", "outcome", "won"),
    [
        ((0.40, 0.40, 0.40, 0.40, 0.40), "level", True),
        ((0.38, 0.37, 0.39, 0.38, 0.37), "better", True),
        ((0.42, 0.43, 0.41, 0.42, 0.43), "worse", False),
        ((0.35, 0.45, 0.36, 0.46, 0.41), "level", True),  # behind in the mean (0.406), and not surely
        ((0.41, 0.41, 0.37), "better", True),  # three patients: their mean decides, and it is 0.397
        ((0.41, 0.41, 0.39), "worse", False),  # 0.403
        ((0.41,), "worse", False),  # one patient
    ],
)
def test_the_interval_over_patients_decides_and_the_mean_where_they_are_few(
    values: Sequence[float], outcome: str, is_promotable: bool
) -> None:
    held = contest(*mae(*values))
    assert held.duels[0].measure.name == "mae_suv_body"
    # the other measures are equal, and one patient alone surely beats nobody
    assert (held.duels[0].outcome, held.is_promotable) == (outcome, is_promotable and len(values) > 1)


def test_worse_in_one_measure_is_enough_to_lose_and_is_told_in_numbers() -> None:
    held = contest(*[{"ssim_body": value, "mae_suv_body": 0.3} for value in (0.62, 0.63, 0.64, 0.65, 0.66)])
    assert [duel.measure.name for duel in held.lost] == ["ssim_body"]
    words = "It is worse than version 3 in ssim_body 0.640 against 0.700 (difference -0.060, 95 % -0.07"
    assert held.sentence("version 3").startswith(words)
    assert "mae_suv_body" not in held.sentence("version 3").split("). ")[0]
    assert "(5 patients)" in held.sentence("version 3")


def test_behind_in_every_measure_loses_though_no_difference_is_sure() -> None:
    worse = {"mae_suv_body": 0.5, "psnr_db_body": 23.0, "ssim_body": 0.6, "correlation_body": 0.4}
    better = {"mae_suv_body": 0.35, "psnr_db_body": 24.5, "ssim_body": 0.75, "correlation_body": 0.55}
    held = contest(worse, better, worse, better, worse, better)  # each measure: the mean behind, the interval around 0
    assert {duel.outcome for duel in held.duels} == {"level"}
    assert ([duel.measure.name for duel in held.lost], held.is_promotable) == (NAMES, False)
    assert "is behind, if not surely, the champion in mae_suv_body 0.425 against 0.400" in held.sentence()


@pytest.mark.parametrize(
    ("name", "value"), [("correlation_body", math.nan), ("psnr_db_body", -math.inf), ("mae_suv_body", math.inf)]
)
def test_a_collapsed_pet_is_worse_though_its_figure_is_no_number(name: str, value: float) -> None:
    held = contest(*[{name: value}] * ENOUGH)
    assert [(duel.measure.name, duel.outcome) for duel in held.lost] == [(name, "worse")]
    assert json.dumps(held.as_json()["beside_champion"][name], allow_nan=False).startswith('{"challenger": null')
    assert f"It is worse than the champion in {name}" in held.sentence()


def test_a_mean_that_is_no_number_is_put_into_words() -> None:
    held = contest(*[{"correlation_body": math.nan}] * ENOUGH)
    assert "worse than the champion in correlation_body (no patient has a value of both)" in held.sentence()
    assert "nan" not in held.sentence()


def test_a_perfect_pet_is_not_worse_though_its_psnr_is_no_number() -> None:
    assert not contest(*[{"psnr_db_body": math.inf}] * ENOUGH).lost


def test_a_first_model_must_surely_lead_all_trivial_predictors_in_one_measure() -> None:
    level = dict(TRIVIAL)
    assert not contest(*[level] * 6, champion=False).is_promotable
    ahead = contest(*[{**level, "ssim_body": 0.61 + n / 100} for n in range(6)], champion=False)
    assert (ahead.leads, ahead.duels, ahead.is_promotable) == (("ssim_body",), (), True)
    assert ahead.sentence().startswith("It beats every trivial predictor in ssim_body. Does not beat every trivial")
    assert contest(*[level] * 6, champion=False).sentence().startswith("It beats all trivial predictors in no measure")


def test_a_model_that_beats_its_champion_and_no_trivial_predictor_does_not_win() -> None:
    patients = []
    for number in range(6):
        others = {**dict.fromkeys(BASELINE_NAMES, TRIVIAL), "champion": {**CHAMPION, "mae_suv_body": 0.9}}
        level = {name: TRIVIAL[name] for name in NAMES}
        patients.append((f"p{number}", {**others, "champion": {**level, "mae_suv_body": 0.9}, "model": level}))
    patients = [(patient, {**figures, "model": {**figures["model"], "hu_share": 0.1}}) for patient, figures in patients]
    held = contest_of(patients, whose="")
    assert (held.duels[0].outcome, held.lost, held.leads, held.is_promotable) == ("better", (), (), False)


def test_pairs_of_one_patient_count_as_their_mean() -> None:
    figures = {**dict.fromkeys(BASELINE_NAMES, TRIVIAL), "champion": CHAMPION}
    pair = [{**figures, "model": {**CHAMPION, "mae_suv_body": value, "hu_share": 0.1}} for value in (0.3, 0.6)]
    held = contest_of([("p", pair[0]), ("p", pair[1])], whose="")
    assert (held.patients, held.duels[0].challenger) == (1, pytest.approx(0.45))


def test_nobody_to_judge_by_is_no_victory() -> None:
    held = contest_of([], whose="that neither was trained on")
    assert not held.is_promotable
    assert held.sentence().startswith("Not judged: there is no patient that neither was trained on with a PET")


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


def test_patients_of_the_validation_side_judge_whom_neither_was_trained_on(
    pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    challenger = model(tmp_path / "a", 1.0, trained_on=[1], validated_on=[2, 3, 4, 5, 6, 7]).card
    champion = model(tmp_path / "b", 1.0, trained_on=[2]).card
    chosen, whose = judges(challenger, champion, pairs)
    assert [paired.pair.ct.patient_id[-1] for paired in chosen] == ["3", "4", "5", "6", "7"]
    assert whose == "of the validation side that neither was trained on"


def test_where_they_are_few_all_judge_whom_neither_was_trained_on(
    pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    challenger = read_card(save_constant_model(tmp_path / "a", 1.0, trained_on=["PHANTOM_0001"]))
    chosen, whose = judges(challenger, None, pairs)
    assert [paired.pair.ct.patient_id[-1] for paired in chosen] == ["2", "3", "4", "5", "6", "7"]
    assert whose == "that it was not trained on"


# Phantom uptake lies near 0.5 to 2 SUV in most of the body: 0.8 is a far better constant than 9.
@pytest.mark.parametrize(("champion_suv", "challenger_suv", "lost"), [(9.0, 0.8, False), (0.8, 9.0, True)])
def test_of_two_constants_the_nearer_one_wins(
    pairs: tuple[PairedSeries, ...], tmp_path: Path, champion_suv: float, challenger_suv: float, lost: bool
) -> None:
    challenger, champion = model(tmp_path / "a", challenger_suv), model(tmp_path / "b", champion_suv)
    held = compare_with_champion(challenger, champion, pairs[:ENOUGH])
    assert (held.patients, bool(held.lost)) == (ENOUGH, lost)
    assert held.duels[0].outcome == ("worse" if lost else "better")


def test_a_pair_that_cannot_be_read_is_left_out_by_its_uid(
    pairs: tuple[PairedSeries, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = pairs[0].pair.pet.files[0]
    whole = one.read_bytes()
    one.write_bytes(b"not DICOM")
    try:
        held = compare_with_champion(model(tmp_path / "a", 1.0), None, pairs[:2])
    finally:
        one.write_bytes(whole)
    assert held.patients == 1
    assert pairs[0].pair.ct.uid in caplog.text and "PHANTOM" not in caplog.text.replace(str(one.parent), "")
