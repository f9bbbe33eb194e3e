"""Cross-validated training: folds, the lookup weight, the ensemble and its card, each patient judged out of fold."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import PreparedDataError, RecipeError, TrainingError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import load_checkpoint, read_card
from lib.learning.cross_validation import folds
from lib.learning.cross_validation.folds import assign_folds, folds_left_out, trains_on
from lib.learning.cross_validation.shrinkage import WEIGHTS, best_weight, ensemble_weight, error_ratios, shrink
from lib.learning.cross_validation.training import train_cross_validated
from lib.learning.model_card.card import TrainingData, patient_digest
from lib.learning.training import TrainingResult
from lib.learning.validation import fit_prepared_baselines
from lib.metrics.baselines import Baselines
from lib.networks.cascade import Cascade, NetworkConfig, forward_flops
from lib.networks.ensemble import CascadeEnsemble, combine, member
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import PATIENTS, make_prepared, tiny_recipe

FOLDS = 3
SETTINGS = ("stages=1", "epochs=1", "precision=float32")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_prepared(tmp_path_factory.mktemp("arrays"), tiny_recipe().preparation)


@pytest.fixture(scope="module", params=[1, 2], ids=["without one fold", "without two"])
def trained(
    shared: PreparedSet, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> TrainingResult:
    run = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "TWO_LEFT_OUT_FROM", FOLDS if request.param == 2 else FOLDS + 1)
        return train_cross_validated(shared, tiny_recipe(*SETTINGS), run, folds=FOLDS, device="cpu")


def baselines(median_suv: float = 1.0) -> Baselines:
    edges = np.array([-1024, 0, 1000], dtype=np.float32)
    medians = np.array([0.0, median_suv], dtype=np.float32)
    return Baselines(median_suv, edges, medians, medians)


# -- folds -----------------------------------------------------------------------------------------------------------


@given(count=st.integers(2, 32), data=st.data())
def test_a_patient_is_judged_by_the_networks_that_leave_their_fold_out(count: int, data: st.DataObject) -> None:
    fold = data.draw(st.integers(0, count - 1))
    left_out = folds_left_out(count)
    training = TrainingData((), (), 0, 0, "", folds={"patient": fold}, folds_left_out=left_out)
    judges = training.judges("patient", networks=count)
    assert len(judges) == left_out == (2 if count >= 8 else 1)
    assert set(judges) == {k for k in range(count) if not trains_on(k, fold, folds=count, left_out=left_out)}
    assert training.judges("someone else", networks=count) == ()


def test_folds_are_equal_in_patients_and_similar_in_hot_uptake(shared: PreparedSet) -> None:
    fold_of = assign_folds(shared, FOLDS)
    assert fold_of.keys() == set(PATIENTS)
    assert sorted(Counter(fold_of.values()).values()) == [3, 3, 4]
    assert assign_folds(shared, FOLDS) == fold_of


def test_known_patients_keep_their_fold_and_new_ones_join_the_smallest(shared: PreparedSet) -> None:
    known = {patient_digest(patient): 2 for patient in PATIENTS[:4]}
    fold_of = assign_folds(shared, FOLDS, known=known)
    assert all(fold_of[patient] == 2 for patient in PATIENTS[:4])
    assert Counter(fold_of.values()) == {2: 4, 0: 3, 1: 3}


@pytest.mark.parametrize("folds", [0, 1, 11])
def test_more_folds_than_patients_or_fewer_than_two_are_rejected(shared: PreparedSet, folds: int) -> None:
    with pytest.raises(PreparedDataError, match=f"{folds} folds for 10 patients; expected 2 to 10") as raised:
        assign_folds(shared, folds)
    assert raised.value.code == "too_few_patients_for_folds"
    assert raised.value.params == {"folds": folds, "patients": 10}


# -- shrinkage -------------------------------------------------------------------------------------------------------


@given(weight=st.sampled_from(WEIGHTS), suv=st.floats(0, 20, width=32), lookup=st.floats(0, 5, width=32))
def test_tissue_moves_towards_the_lookup_and_air_stays(weight: float, suv: float, lookup: float) -> None:
    ct_hu = np.array([[[-1000.0, 50.0]]], dtype=np.float32)
    synthetic = np.full((1, 1, 2), suv, dtype=np.float32)
    shrunk = shrink(synthetic, ct_hu, baselines(lookup), weight=weight)
    assert shrunk[0, 0, 0] == np.float32(suv)
    assert shrunk[0, 0, 1] == pytest.approx((1 - weight) * suv + weight * lookup, rel=1e-5, abs=1e-5)


def test_the_weight_with_the_smallest_error_is_chosen() -> None:
    real = np.full((1, 4, 4), 1.3, dtype=np.float32)
    ct_hu, body = np.full(real.shape, 50, dtype=np.float32), np.ones(real.shape, dtype=bool)
    # the network says 2.0, the lookup 1.0: 0.3 of the way from the lookup is right, at most half way is allowed
    ratios = error_ratios(np.full_like(real, 2.0), real, ct_hu=ct_hu, body=body, baselines=baselines(1.0))
    assert best_weight([ratios]) == 0.5
    # at 1.4 and 1.0, three quarters of the network's is right; 0.2 and 0.3 are equally near
    ratios = error_ratios(np.full_like(real, 1.4), real, ct_hu=ct_hu, body=body, baselines=baselines(1.0))
    assert best_weight([ratios]) in (0.2, 0.3)
    # MAE and RMSE are 0.1 for the network and 0.3 for the lookup
    assert ratios[0.0] == pytest.approx(math.log(0.1 / 0.3), abs=1e-4)


def test_without_patients_or_errors_no_weight_is_given_to_the_lookup() -> None:
    assert best_weight([]) == 0.0
    exact = np.ones((1, 2, 2), dtype=np.float32)
    body = np.ones(exact.shape, dtype=bool)
    ratios = error_ratios(exact, exact, ct_hu=exact * 50, body=body, baselines=baselines(1.0))
    assert all(math.isnan(ratio) for ratio in ratios.values())
    assert best_weight([ratios]) == 0.0


# -- ensembles -------------------------------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    config = NetworkConfig(stages=2, base_channels=2, depth=1)
    networks = [Cascade(config).eval() for _ in range(3)]
    ensemble = combine(networks)
    ct = torch.rand(1, 1, 8, 8)
    with torch.inference_mode():
        for stage in range(2):
            expected = torch.stack([network(ct)[stage] for network in networks]).mean(dim=0)
            torch.testing.assert_close(ensemble(ct)[stage], expected)
    assert ensemble.config.members == 3
    assert member(ensemble, 1) is networks[1]
    assert forward_flops(ensemble.config, rows=8, columns=8) == 3 * forward_flops(config, rows=8, columns=8)
    assert combine(networks[:1]) is networks[0]


def test_members_of_different_shapes_and_missing_members_are_rejected() -> None:
    small, large = Cascade(NetworkConfig(base_channels=2)), Cascade(NetworkConfig(base_channels=4))
    with pytest.raises(RecipeError, match="single cascades of one shape"):
        combine([small, large])
    with pytest.raises(RecipeError, match="members 0 to 0, found 1"):
        member(small, 1)
    with pytest.raises(RecipeError, match="members must be 1 to 32, found 33"):
        NetworkConfig(members=33)


# -- training --------------------------------------------------------------------------------------------------------


def test_the_model_is_an_ensemble_trained_on_all_patients(trained: TrainingResult) -> None:
    cascade, card = load_checkpoint(trained.model)
    assert isinstance(cascade, CascadeEnsemble) and cascade.config.members == card.network.members == FOLDS
    assert set(card.training.patients) == set(card.training.folds) == {patient_digest(p) for p in PATIENTS}
    assert not card.training.validation_patients and not card.training.test_patients
    assert card.lookup_weight in {ensemble_weight(weight) for weight in WEIGHTS}
    assert len(card.fold_baselines) == FOLDS
    assert card.calibration is not None and card.calibration["volumes"] == len(PATIENTS)
    assert card.intervals is not None


def test_no_network_is_trained_on_the_patients_that_it_judges(trained: TrainingResult) -> None:
    card, run = trained.card, trained.model.parent
    for network in range(FOLDS):
        split = json.loads((run / "folds" / str(network) / "split.json").read_text())["patients"]
        judged = {digest for digest in card.training.folds if network in card.training.judges(digest, networks=FOLDS)}
        assert {patient_digest(patient) for patient in split["train"]} == set(card.training.folds) - judged
        assert split["validation"] == split["test"] == []


def test_every_patient_is_scored_once_out_of_fold(trained: TrainingResult) -> None:
    scores = trained.card.scores
    assert scores is not None and scores.side == Side.OUT_OF_FOLD
    assert set(scores.by_patient) == {patient_digest(patient) for patient in PATIENTS}
    assert "10 patients, each judged by those networks of the ensemble that were not" in trained.card.standing.sentence
    assert all(trained.card.side_of(patient) is Side.OUT_OF_FOLD for patient in PATIENTS)
    assert not Side.OUT_OF_FOLD.shaped_weights
    assert trained.card.side_of("someone else") is Side.UNSEEN


def ct_of(shared: PreparedSet, patient: str) -> Volume:
    pair = next(pair for pair in shared.pairs if pair.patient_id == patient)
    return Volume(shared.arrays(pair).ct_hu(), Geometry(pair.shape, np.asarray(pair.affine)), Unit.HU)


def test_a_training_patient_is_evaluated_with_the_network_that_did_not_see_them(
    trained: TrainingResult, shared: PreparedSet
) -> None:
    synthesizer = Synthesizer.load(trained.model, device="cpu")
    assert synthesizer.for_patient("someone else") is synthesizer
    patient = PATIENTS[0]
    fold = trained.card.training.folds[patient_digest(patient)]
    own = synthesizer.for_patient(patient)
    assert own.card.baselines == trained.card.fold_baselines[fold]
    pair = next(pair for pair in shared.pairs if pair.patient_id == patient)
    stored = np.load(trained.model.parent / "out-of-fold" / f"{pair.id}.npy").astype(np.float32)
    expected = shrink(
        stored,
        shared.arrays(pair).ct_hu(),
        Baselines.from_json(trained.card.fold_baselines[fold]),
        weight=trained.card.lookup_weight,
    )
    found = own.apply(ct_of(shared, patient), grid="network").array
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)  # stored as float16
    assert not np.allclose(synthesizer.apply(ct_of(shared, patient), grid="network").array, expected, atol=1e-3)


def test_a_slab_of_a_shrunk_pet_equals_the_same_slices_of_the_whole(
    trained: TrainingResult, shared: PreparedSet
) -> None:
    synthesizer = Synthesizer.load(trained.model, device="cpu")
    synthesizer.card = replace(synthesizer.card, lookup_weight=0.3)
    ct = ct_of(shared, PATIENTS[1])
    whole = synthesizer.apply(ct).array
    np.testing.assert_array_equal(synthesizer.apply(ct, slice(2, 4)).array, whole[2:4])
    synthesizer.card = replace(synthesizer.card, lookup_weight=0.0)
    assert not np.array_equal(synthesizer.apply(ct).array, whole)


def test_a_finished_run_is_returned_and_an_interrupted_one_continues(
    trained: TrainingResult, shared: PreparedSet
) -> None:
    run = trained.model.parent
    before = (run / "folds" / "0" / "model.safetensors").stat().st_mtime_ns
    again = train_cross_validated(shared, tiny_recipe(*SETTINGS), run, folds=FOLDS, resume=True, device="cpu")
    assert again.card == trained.card
    trained.model.rename(trained.model.with_suffix(".kept"))
    resumed = train_cross_validated(shared, tiny_recipe(*SETTINGS), run, folds=FOLDS, resume=True, device="cpu")
    assert (run / "folds" / "0" / "model.safetensors").stat().st_mtime_ns == before
    assert resumed.card.scores == trained.card.scores
    with pytest.raises(TrainingError, match="holds a run already"):
        train_cross_validated(shared, tiny_recipe(*SETTINGS), run, folds=FOLDS, device="cpu")


def test_retraining_starts_each_network_from_its_own_weights_and_keeps_the_folds(
    trained: TrainingResult, tmp_path: Path
) -> None:
    more = make_prepared(tmp_path / "arrays", tiny_recipe().preparation, (*PATIENTS, "new"))
    second = train_cross_validated(
        more, tiny_recipe(*SETTINGS), tmp_path / "run", folds=FOLDS, initial=trained.model, device="cpu"
    )
    folds = second.card.training.folds
    assert second.card.training.folds_left_out == trained.card.training.folds_left_out
    assert {digest: folds[digest] for digest in trained.card.training.folds} == trained.card.training.folds
    assert patient_digest("new") in folds
    first, _ = load_checkpoint(trained.model)
    start = tmp_path / "run" / "folds" / "1" / "initial.safetensors"
    initial, _ = load_checkpoint(start)
    for name, weight in member(first, 1).state_dict().items():
        torch.testing.assert_close(initial.state_dict()[name], weight)
    with pytest.raises(TrainingError, match="expected one for each of 2 folds"):
        train_cross_validated(
            more, tiny_recipe(*SETTINGS), tmp_path / "other", folds=2, initial=trained.model, device="cpu"
        )


def test_a_split_by_slice_cannot_be_cross_validated(shared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"set split\.unit = patient"):
        train_cross_validated(shared, tiny_recipe(*SETTINGS, "split.unit=slice"), tmp_path / "run", device="cpu")


def test_baselines_of_a_fold_are_fitted_without_its_patients(trained: TrainingResult, shared: PreparedSet) -> None:
    others = shared.only(p for p in PATIENTS if trained.card.training.folds[patient_digest(p)] != 0)
    fitted = fit_prepared_baselines(others, [(pair, tuple(range(pair.shape[0]))) for pair in others.pairs])
    assert trained.card.fold_baselines[0] == json.loads(json.dumps(fitted.to_json()))


def test_cards_of_earlier_versions_have_no_folds(trained: TrainingResult) -> None:
    card = json.loads(read_card(trained.model.parent / "folds" / "0" / "model.safetensors").to_json())
    for name in ("lookup_weight", "fold_baselines"):
        del card[name]
    del card["training"]["folds"], card["training"]["folds_left_out"]
    del card["network"]["members"], card["recipe"]["network"]["members"]
    loaded = type(trained.card).from_json(json.dumps(card))
    assert loaded.training.folds == {} and loaded.network.members == 1 and loaded.lookup_weight == 0.0
