"""ONNX out and in: our own model comes back the same, and another program's gets a card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.errors import CheckpointError, InputError, RecipeError, TrainingError
from lib.imaging.grid import Grid
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import CARD, ONNX, load_checkpoint, load_network, read_card, save_checkpoint, save_external
from lib.learning.exchange import physical
from lib.learning.exchange.export_onnx import OnnxExport, export_onnx
from lib.learning.exchange.import_onnx import ImportSettings, copy_baselines, import_onnx, judge_on_arrays
from lib.learning.familiarity.assessment import Level
from lib.learning.model_card.card import patient_digest
from lib.learning.model_card.facts import card_facts
from lib.networks.cascade import Cascade
from lib.networks.external.onnx_runtime import inspect_onnx
from lib.pairing.split import Side
from lib.phantom.generate import phantom_patient
from lib.synthesis.familiarity import check_familiarity
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import BASELINES, PATIENTS, make_card, make_prepared, tiny_recipe
from tests.learning.exchange.models import COARSE, save_model
from tests.learning.familiarity.limbs import limb_reference
from tests.networks.external.onnx_files import picking

SEVEN = ImportSettings(ct_window=(-900, 200), formula="7*x^2", output_range=(0, 1), pixel_mm=2.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ct() -> Volume:
    volume = phantom_patient(1, 0, COARSE).ct
    return Volume(volume.array, volume.geometry, Unit.HU)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OnnxExport]:
    """A model of the default recipe, and its export in a folder that did not exist."""
    folder = tmp_path_factory.mktemp("exported")
    path = save_model(folder / "model.safetensors", "context_spacing_mm=4.5")
    return path, export_onnx(path, folder / "new" / "model.onnx")


@pytest.mark.parametrize(
    "settings",
    [(), ("flips=false", "pet_curve=linear", "normalization=instance", "bits=8", "grid.size=40")],
    ids=["default", "8 bits"],
)
def test_our_model_comes_back_with_the_same_pet(
    settings: tuple[str, ...], ct: Volume, exported: tuple[Path, OnnxExport], tmp_path: Path
) -> None:
    path, done = exported
    if settings:
        path = save_model(tmp_path / "model.safetensors", *settings)
        done = export_onnx(path, tmp_path / "model.onnx")
    assert done.max_difference_suv < 1e-4
    content = done.path.read_bytes()
    card = import_onnx(content, "", ImportSettings())
    imported = save_external(tmp_path / "imported.safetensors", content, card)
    ours, theirs = (
        Synthesizer.load(path, device="cpu", precision="float32").apply(ct).array for path in (path, imported)
    )
    assert ours.std() > 0.02 and ours.max() < 20
    np.testing.assert_allclose(theirs, ours, atol=1e-3)
    before, after = read_card(path), read_card(imported)
    assert (after.name, after.training, after.scores) == (before.name, before.training, before.scores)
    assert after.side_of("P1") == Side.TRAIN and after.standing.as_json() == before.standing.as_json()


def test_the_patients_of_an_imported_ensemble_count_as_trained_on(
    exported: tuple[Path, OnnxExport], tmp_path: Path
) -> None:
    network, card = load_network(exported[0], device=CPU)
    assert isinstance(network, Cascade)
    training = replace(card.training, folds={patient_digest("P1"): 0})
    ensemble = save_checkpoint(
        tmp_path / "model.safetensors", network, replace(card, training=training, fold_baselines=(BASELINES,))
    )
    assert read_card(ensemble).side_of("P1") is Side.OUT_OF_FOLD
    content = export_onnx(ensemble, tmp_path / "model.onnx").path.read_bytes()
    assert import_onnx(content, "", ImportSettings()).side_of("P1") is Side.TRAIN


def test_an_imported_model_recognises_cts_unlike_its_training_cts(
    exported: tuple[Path, OnnxExport], ct: Volume, tmp_path: Path
) -> None:
    network, card = load_network(exported[0], device=CPU)
    assert isinstance(network, Cascade)
    limbs = save_checkpoint(
        tmp_path / "model.safetensors", network, replace(card, familiarity=limb_reference().to_json())
    )
    content = export_onnx(limbs, tmp_path / "model.onnx").path.read_bytes()
    path = save_external(tmp_path / "imported.safetensors", content, import_onnx(content, "", ImportSettings()))
    assert check_familiarity(Synthesizer.load(path, device="cpu"), ct).level is Level.UNLIKE


def test_the_metadata_of_an_export(exported: tuple[Path, OnnxExport]) -> None:
    path, done = exported
    assert [file.name for file in done.path.parent.iterdir()] == ["model.onnx"]  # no second file with weights
    signature = inspect_onnx(done.path.read_bytes())
    metadata = signature.metadata
    assert (signature.input_name, signature.output_name) == ("ct_hu", "suv_bw")
    assert (signature.input_shape, signature.output_shape) == ((None, 3, None, None), (None, 1, None, None))
    assert (metadata["name"], metadata["pixel_mm"], metadata["size"]) == ("tiny", "9", "")
    assert (metadata["context_slices"], metadata["context_spacing_mm"]) == ("3", "4.5")
    assert metadata["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == done.weights_sha256
    assert "NOT FOR DIAGNOSIS" in metadata["intended_use"]


def test_settings_contradict_a_file_that_brings_its_own(exported: tuple[Path, OnnxExport]) -> None:
    content = exported[1].path.read_bytes()
    with pytest.raises(RecipeError, match="brings its own settings; found formula, pixel_mm in addition"):
        import_onnx(content, "", ImportSettings(formula="x", pixel_mm=1.0))


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physical, "MAX_DIFFERENCE_SUV", -1.0)
    with pytest.raises(TrainingError, match="nothing was written") as refused:
        export_onnx(save_model(tmp_path / "m.safetensors", "stages=1", "flips=false"), tmp_path / "m.onnx")
    assert refused.value.code == "export_differs" and not (tmp_path / "m.onnx").exists()


def test_the_card_of_another_programs_network(tmp_path: Path) -> None:
    content = picking([0, 3, 6], 7)
    card = import_onnx(content, "WuLab", SEVEN, source="https://example.org", license_text="CC BY-NC 4.0\nmore")
    path = save_external(tmp_path / "wulab.safetensors", content, card)
    found = read_card(path)
    assert found == card and found.external is not None
    assert (found.name, found.recipe.grid, found.network.context_slices) == ("WuLab", Grid(pixel_mm=2.0), 7)
    assert "on which patients it was trained is unknown" in found.limits
    assert found.training_summary == "unknown data (imported network)"
    assert (
        found.standing.as_json()["sentence"].startswith("Not compared with the baselines")
        and found.side_of("anyone") == Side.UNSEEN
    )
    facts = card_facts(found)
    assert facts["Input"] == "-900 to 200 HU as 0 to 1, axes NSRC"
    assert facts["Output"] == "SUVbw = 7*x^2, axes NSRC"
    assert (facts["Source"], facts["License"]) == ("https://example.org", "CC BY-NC 4.0")
    assert json.loads(found.to_json())["external"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_an_imported_network_cannot_be_trained_further(tmp_path: Path) -> None:
    content = picking([0], 1)
    path = save_external(tmp_path / "a.safetensors", content, import_onnx(content, "a", ImportSettings(size=64)))
    with pytest.raises(CheckpointError, match="was imported as ONNX") as refused:
        load_checkpoint(path)
    assert refused.value.code == "imported_model"


@pytest.mark.parametrize(
    ("size", "settings", "grid", "frame"),
    [
        (("r", "c"), ImportSettings(pixel_mm=2.0), Grid(pixel_mm=2.0), None),
        (("r", "c"), ImportSettings(size=256), Grid(size=256), None),
        (("r", "c"), ImportSettings(pixel_mm=2.0, frame=256), Grid(pixel_mm=2.0), (256, 256)),
        ((64, 64), ImportSettings(), Grid(size=64), None),
        ((64, 96), ImportSettings(pixel_mm=4.0), Grid(pixel_mm=4.0), (64, 96)),
    ],
)
def test_pixels(
    size: tuple[int | str, int | str], settings: ImportSettings, grid: Grid, frame: tuple[int, int] | None
) -> None:
    card = import_onnx(picking([0], 1, size=size), "a", settings)
    assert card.external is not None and (card.recipe.grid, card.external.frame) == (grid, frame)


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        (lambda: picking([0], 1), ImportSettings(), "the pixel size of an imported network is unknown"),
        (lambda: picking([0], 1), ImportSettings(pixel_mm=2.0, size=64), "either pixel_mm .* or size"),
        (lambda: picking([0], 7), ImportSettings(pixel_mm=2.0, context_slices=5), "takes 7 context slices, found 5"),
        (lambda: picking([0], 4), ImportSettings(pixel_mm=2.0), "context_slices must be odd"),
        (lambda: picking([0], 1), ImportSettings(pixel_mm=2.0, input_axes="N1SRC"), "4 axes, N1SRC names 5"),
        (lambda: picking([0], 1, size=(64, 64)), ImportSettings(pixel_mm=2.0, frame=32), "takes 64 x 64 pixels"),
        (lambda: picking([0], 1), ImportSettings(pixel_mm=2.0, ct_window=(5, 5)), "ct_low_hu 5"),
    ],
)
def test_settings_that_do_not_fit(content: Callable[[], bytes], settings: ImportSettings, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        import_onnx(content(), "a", settings)


def test_settings_are_tried_on_the_network() -> None:
    with pytest.raises(CheckpointError, match="correct the axes, the output slice or the size"):
        import_onnx(picking([0], 1), "a", ImportSettings(pixel_mm=2.0, output_slice=3))


def test_baselines_and_scores_from_arrays(tmp_path: Path) -> None:
    """The training side fits the baselines and does not judge; all other patients judge."""
    content = picking([0], 1)
    card = import_onnx(content, "identity", ImportSettings(pixel_mm=2.0))
    sides = {patient: card.recipe.split.side_of_patient(patient) for patient in PATIENTS}
    patients = {side: patient for patient, side in sides.items()}  # one of each side
    prepared = make_prepared(tmp_path / "arrays", card.recipe.preparation, tuple(patients.values()))
    judged = judge_on_arrays(card, content, prepared, device=CPU)
    assert judged.external is not None and judged.scores is not None and judged.calibration is not None
    digests = {side: patient_digest(patient) for side, patient in patients.items()}
    assert judged.external.baseline_patients == (digests[Side.TRAIN],) and judged.training.patients == ()
    assert judged.side_of(patients[Side.TRAIN]) == Side.TRAIN
    assert set(judged.scores.by_patient) == {digests[Side.VALIDATION], digests[Side.TEST]}
    assert judged.standing.mark == "does not beat all"
    assert "tested on 2 test patients, on whom it may have been trained" in judged.standing.sentence
    assert judged.scores.side == "test" and set(judged.scores.table) >= {"model", "hu_median"}


def test_arrays_of_another_grid_give_baselines_alone(tmp_path: Path) -> None:
    content = picking([0], 1)
    card = import_onnx(content, "identity", ImportSettings(size=64))
    judged = judge_on_arrays(card, content, make_prepared(tmp_path / "a", tiny_recipe().preparation), device=CPU)
    assert judged.baselines is not None and judged.scores is None


def test_baselines_of_another_model(tmp_path: Path) -> None:
    card = import_onnx(picking([0], 1), "identity", ImportSettings(pixel_mm=2.0))
    copied = copy_baselines(card, make_card())
    assert copied.baselines == BASELINES and copied.side_of("P1") == Side.TRAIN and copied.side_of("P2") == Side.UNSEEN
    with pytest.raises(InputError, match="has no baselines to copy"):
        copy_baselines(card, replace(make_card(), baselines=None))


def test_a_file_without_its_onnx_bytes_is_refused(tmp_path: Path) -> None:
    content = picking([0], 1)
    card = import_onnx(content, "a", ImportSettings(size=64))
    for tensors, words in (({"other": torch.zeros(1)}, "without its ONNX file"), ({ONNX: torch.zeros(1)}, "float32")):
        path = tmp_path / "a.safetensors"
        save_file(tensors, path, metadata={CARD: card.to_json()})
        with pytest.raises(CheckpointError, match=words):
            load_network(path)
    save_external(path, content + b"\0", card)
    with pytest.raises(CheckpointError, match="not the one that its model card describes"):
        load_network(path)
