"""A model with a reference in its card: prepared arrays and CTs have one profile, other kinds of CTs are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dicom.scan.open_ct import find_ct, open_ct
from lib.errors import UnlikeTrainingError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import save_checkpoint
from lib.learning.dataset import Entries
from lib.learning.familiarity.assessment import Level, assess
from lib.learning.familiarity.prepared_profiles import fit_prepared_reference, prepared_profile
from lib.learning.familiarity.reference import Reference, fit_reference
from lib.learning.model_card.card import ModelCard
from lib.networks.cascade import Cascade
from lib.pairing.prepared import PreparedSet
from lib.phantom.patient import PhantomSettings, phantom_patient
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.familiarity import check_familiarity, profile_of_ct, read_header_facts, refuse_unlike
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, make_prepared, tiny_recipe

RECIPE = tiny_recipe("stages=1", "normalization=instance", "pixel_mm=2.0")  # of `make_prepared`
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_prepared(tmp_path_factory.mktemp("familiarity") / "prepared", RECIPE.preparation)


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    torch.manual_seed(0)
    return Cascade(RECIPE.network).eval()


def entries(prepared: PreparedSet) -> Entries:
    return [(pair, tuple(range(pair.shape[0]))) for pair in prepared.pairs]


def synthesizer_of(cascade: Cascade, path: Path, reference: Reference | None) -> Synthesizer:
    values = None if reference is None else reference.to_json()
    card = make_card(recipe=RECIPE, network=RECIPE.network, familiarity=values)
    return Synthesizer.load(save_checkpoint(path, cascade, card), device="cpu")


def ct_of(prepared: PreparedSet, number: int) -> Volume:
    pair = prepared.pairs[number]
    return Volume(prepared.arrays(pair).ct_hu(), pair.geometry(), Unit.HU)


def test_a_ct_and_its_prepared_arrays_have_the_same_profile(
    prepared: PreparedSet, cascade: Cascade, tmp_path: Path
) -> None:
    pair, indices = entries(prepared)[0]
    of_arrays = prepared_profile(cascade, prepared, pair, indices, device=CPU)
    of_ct = profile_of_ct(synthesizer_of(cascade, tmp_path / "model.safetensors", None), ct_of(prepared, 0))
    assert of_arrays.numbers == pytest.approx({name: of_ct.numbers[name] for name in of_arrays.numbers}, rel=1e-4)
    assert set(of_ct.numbers) - set(of_arrays.numbers) == {"pixel_mm", "metal_ml"}  # not stored with these arrays
    np.testing.assert_allclose(of_arrays.features, of_ct.features, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(of_arrays.histogram, of_ct.histogram, atol=1e-3)


def test_a_mirrored_order_of_voxels_is_the_same_ct(prepared: PreparedSet, cascade: Cascade, tmp_path: Path) -> None:
    """Rows and columns may be stored in any direction: the geometry tells, and the profile does not change."""
    synthesizer = synthesizer_of(cascade, tmp_path / "model.safetensors", None)
    ct = ct_of(prepared, 0)
    affine = ct.geometry.affine.copy()
    _, rows, columns = ct.geometry.shape
    affine[:3, 3] += affine[:3, 0] * (columns - 1) + affine[:3, 1] * (rows - 1)
    affine[:3, :2] *= -1
    turned = Volume(np.ascontiguousarray(ct.array[:, ::-1, ::-1]), Geometry(ct.geometry.shape, affine), Unit.HU)
    np.testing.assert_allclose(
        profile_of_ct(synthesizer, turned).template, profile_of_ct(synthesizer, ct).template, atol=1e-5
    )


def test_a_known_ct_is_familiar_and_a_shifted_one_is_refused(
    prepared: PreparedSet, cascade: Cascade, tmp_path: Path
) -> None:
    reference = fit_prepared_reference(cascade, prepared, entries(prepared), device=CPU)
    assert reference.patients == 10 and reference.judges
    synthesizer = synthesizer_of(cascade, tmp_path / "model.safetensors", reference)
    ct = ct_of(prepared, 0)
    known = check_familiarity(synthesizer, ct)
    assert known.level is Level.FAMILIAR, known
    refuse_unlike(known, "CT 1.2.3")
    found = check_familiarity(Ensemble([synthesizer]), Volume(ct.array + 150, ct.geometry, Unit.HU))
    with pytest.raises(UnlikeTrainingError, match=r"CT 1\.2\.3: This CT is unlike the training CTs: ") as refusal:
        refuse_unlike(found, "CT 1.2.3")
    assert refusal.value.params["reasons"] == list(found.reasons)
    assert refusal.value.params["score"] > refusal.value.params["limit"] == 2.0


def test_a_model_without_or_with_a_small_reference_says_unknown(
    prepared: PreparedSet, cascade: Cascade, tmp_path: Path
) -> None:
    ct = ct_of(prepared, 0)
    old = check_familiarity(synthesizer_of(cascade, tmp_path / "old.safetensors", None), ct)
    assert old.level is Level.UNKNOWN and "the model card does not describe them" in old.sentence
    few = fit_prepared_reference(cascade, prepared, entries(prepared)[:3], device=CPU)
    assert few == Reference(3)
    small = check_familiarity(synthesizer_of(cascade, tmp_path / "small.safetensors", few), ct)
    assert small.level is Level.UNKNOWN and "trained on 3 patients, too few" in small.sentence


def test_a_card_of_an_earlier_version_has_no_reference() -> None:
    card = make_card()
    text = replace(card, familiarity=None).to_json().replace('"familiarity": null, ', "")
    assert "familiarity" not in text
    assert ModelCard.from_json(text) == card
    assert "familiarity" not in make_card(familiarity=Reference(9).to_json()).for_clients()


@pytest.fixture(scope="module")
def limbs(
    sts_folder: Path, cascade: Cascade, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Synthesizer, Reference]:
    """A model and the reference of eleven real limbs; STS_001 is not among them."""
    synthesizer = synthesizer_of(cascade, tmp_path_factory.mktemp("limbs") / "model.safetensors", None)
    chosen = sorted(sts_folder.glob("STS_0*"))[1::3][:11]
    profiles = [(path.name, profile_of_ct(synthesizer, open_ct(path / "CT" / "image"))) for path in chosen]
    return synthesizer, fit_reference(profiles)


def test_another_real_limb_is_not_refused(limbs: tuple[Synthesizer, Reference], sts_folder: Path) -> None:
    synthesizer, reference = limbs
    found = assess(profile_of_ct(synthesizer, open_ct(sts_folder / "STS_001" / "CT" / "image")), reference)
    assert found.level is not Level.UNLIKE, found


def test_a_real_chest_ct_and_a_phantom_are_unlike_limbs(
    limbs: tuple[Synthesizer, Reference], shared_data: Path
) -> None:
    synthesizer, reference = limbs
    chest = open_ct(shared_data / "ct_only" / "Lung_Dx-A0001")
    phantom = phantom_patient(1, 0, PhantomSettings(slices=12, ct_matrix=128, ct_pixel_mm=3.2)).ct
    tall = Geometry((14 * len(chest.array), *chest.geometry.shape[1:]), chest.geometry.affine)
    whole_body = Volume(np.tile(chest.array, (14, 1, 1)), tall, Unit.HU)
    for ct, reason in ((chest, "field of view"), (phantom, "field of view"), (whole_body, "length along the body")):
        found = assess(profile_of_ct(synthesizer, ct), reference)
        assert found.level is Level.UNLIKE, found
        assert any(text.startswith(reason) for text in found.reasons), found


def test_facts_of_a_real_header(sts_folder: Path) -> None:
    facts = read_header_facts(find_ct(sts_folder / "STS_001" / "CT" / "image"))
    assert (facts.ct_scanner, facts.kernel, facts.sex) == ("GE MEDICAL SYSTEMS Discovery ST", "SOFT", "M")
    assert (facts.age_years, facts.contrast_agent, facts.body_part) == (None, "", "EXTREMITY")
