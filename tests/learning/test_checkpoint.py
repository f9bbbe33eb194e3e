"""Checkpoints: one file of weights and card, written completely or not at all, without code or patient names."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lib.errors import CheckpointError, TrainingError
from lib.files import file_checksum
from lib.learning.checkpoint import CARD, load_checkpoint, read_card, save_checkpoint
from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import ModelCard, data_digest, patient_digest
from lib.learning.model_card.creation import new_card
from lib.learning.recipe import SynthesisConfig
from lib.networks.cascade import Cascade
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import make_card, tiny_recipe
from tests.learning.known_intervals import known_intervals


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save_checkpoint(tmp_path / "model.safetensors", Cascade(make_card().network), make_card())


@contextlib.contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let writing fail beyond a size, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("normalization", ["none", "batch", "instance", "group"])
def test_weights_and_card_are_read_back_unchanged(tmp_path: Path, normalization: str) -> None:
    recipe = tiny_recipe(f"normalization={normalization}")
    card = make_card(recipe=recipe, network=recipe.network)
    cascade = Cascade(recipe.network)
    path = save_checkpoint(tmp_path / "new" / "model.safetensors", cascade, card)
    loaded, found = load_checkpoint(path)
    assert found == card and read_card(path) == card
    assert not loaded.training
    before, after = cascade.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    ct = torch.rand(1, recipe.network.context_slices, 20, 12)
    with torch.no_grad():
        torch.testing.assert_close(loaded(ct)[-1], cascade.eval()(ct)[-1], rtol=0, atol=1e-5)  # another memory layout


def test_a_card_without_scores_is_read_back(tmp_path: Path) -> None:
    card = make_card(scores=None, baselines=None)
    assert ModelCard.from_json(card.to_json()) == card


def test_a_card_with_a_calibration_and_one_of_an_earlier_version_are_read() -> None:
    card = make_card(calibration={"predictor": "synthetic SUV", "suv_bw": [1.0], "error_suv": [0.5], "volumes": 1})
    card = replace(card, intervals=known_intervals().to_json())
    assert ModelCard.from_json(card.to_json()) == card
    older = json.loads(card.to_json())
    del older["calibration"], older["intervals"], older["recipe"]["synthesis"]
    assert ModelCard.from_json(json.dumps(older)) == replace(
        card, calibration=None, intervals=None, recipe=replace(card.recipe, synthesis=SynthesisConfig())
    )


def test_equal_weights_and_card_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    cascade, card = load_checkpoint(saved)
    assert file_checksum(save_checkpoint(tmp_path / "again.safetensors", cascade, card)) == file_checksum(saved)


def test_no_patient_is_named_in_the_file(prepared: PreparedSet, tmp_path: Path) -> None:
    names = [f"ZZTOP^{pair.patient_id}" for pair in prepared.pairs]
    renamed = tuple(replace(pair, patient_id=name) for pair, name in zip(prepared.pairs, names, strict=True))
    recipe = tiny_recipe()
    sides = split_pairs(replace(prepared, pairs=renamed), recipe.split)
    path = tmp_path / "model.safetensors"
    content = save_checkpoint(path, Cascade(recipe.network), new_card(recipe, sides, epoch=1)).read_bytes()
    assert patient_digest(sides.patients("train")[0]).encode() in content
    assert b"ZZTOP" not in content
    uids = [pair.ct_series_instance_uid for pair in renamed] + [pair.study_instance_uid for pair in renamed]
    assert not [uid for uid in uids if f'"{uid}"'.encode() in content]


def test_the_card_has_the_intended_use(saved: Path) -> None:
    assert "NOT FOR DIAGNOSIS" in read_card(saved).intended_use
    assert "lesions may appear that do not exist" in read_card(saved).limits


def test_digests_depend_on_patients_and_data_but_not_on_their_order(prepared: PreparedSet) -> None:
    assert patient_digest("P1") == "d9756bece6af468e"  # printf 'ct2pet patient P1' | sha256sum | cut -c -16
    assert patient_digest("P1") != patient_digest("P2")
    assert data_digest(prepared.pairs) == data_digest(reversed(prepared.pairs))
    assert data_digest(prepared.pairs) != data_digest(prepared.pairs[1:])


# -- what is none of ours ----------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["CT2PET_TEST_BOMB"],)


def test_a_pickle_is_refused_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT2PET_TEST_BOMB", str(tmp_path / "exploded"))
    for path, save in ((tmp_path / "a.safetensors", torch.save), (tmp_path / "b.safetensors", pickle_dump)):
        save({"weights": Bomb()}, path)
        for read in (read_card, load_checkpoint):
            with pytest.raises(CheckpointError, match=r"not a readable \.safetensors file"):
                read(path)
    assert not (tmp_path / "exploded").exists()


def pickle_dump(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("length", [0, 1, 8, 9, 200, 3000, -1])
def test_a_cut_off_file_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable"):
        load_checkpoint(saved)


@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@given(place=st.integers(0, 7999), value=st.integers(0, 255))
def test_a_changed_byte_never_ends_in_anything_but_a_refusal(
    place: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    save_checkpoint(path, Cascade(make_card().network), make_card())
    content = bytearray(path.read_bytes())
    content[place] = value  # in the header, the card or the weights
    path.write_bytes(content)
    try:
        cascade, card = load_checkpoint(path)
    except CheckpointError as refusal:
        assert path.name in str(refusal)
    else:  # the byte was one of a weight, or left the card as good as it was
        assert cascade.config == card.network
        assert cascade.state_dict().keys() == Cascade(card.network).state_dict().keys()


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors: not a readable"):
        read_card(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="not a readable"):
        read_card(tmp_path)


def test_a_model_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"without a ct2pet model card"):
        load_checkpoint(tmp_path / "other.safetensors")


# -- forged cards ------------------------------------------------------------------------------------------------------


def save_with_card(path: Path, source: Path, text: str) -> Path:
    save_file(load_file(source), path, metadata={CARD: text})
    return path


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages=1", "unexpected key"),
        ("base_channels=8", "size mismatch"),
        ("base_channels=512", "size mismatch"),  # the widest there may be
        ("normalization=none", "Unexpected key"),
    ],
)
def test_the_card_of_another_network_is_refused(saved: Path, tmp_path: Path, setting: str, message: str) -> None:
    recipe = tiny_recipe(setting)
    text = make_card(recipe=recipe, network=recipe.network).to_json()
    with pytest.raises(CheckpointError, match="the weights do not fit the model card"):
        load_checkpoint(save_with_card(tmp_path / "lies.safetensors", saved, text))


def test_weights_are_not_saved_under_the_card_of_another_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected the network of the weights, NetworkConfig\(stages=1"):
        save_checkpoint(tmp_path / "x.safetensors", Cascade(tiny_recipe("stages=1").network), make_card())
    assert not list(tmp_path.iterdir())


def test_a_card_whose_network_is_not_its_recipes_cannot_be_made() -> None:
    with pytest.raises(CheckpointError, match="is not its recipe's"):
        make_card(network=tiny_recipe("stages=1").network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mood": "good"}, "unknown key mood; known are .*written by a newer version of ct2pet"),
        ({"epoch": "seven"}, "epoch is int, found 'seven'"),
        ({"epoch": True}, "epoch is int, found True"),
        ({"name": None}, "name is str, found None"),
        ({"training": {}}, "missing training.patients, .*, training.digest"),
        ({"training": {"patients": "P1"}}, "training.patients is tuple, found 'P1'"),
        ({"scores": {"side": "test", "patients": 1, "table": {"model": 5}}}, "scores.table.model is Mapping, found 5"),
        ({"network": {"stages": 2.0}}, r"network\.stages is int, found 2\.0"),
        ({"network": {"stagse": 2}}, r"unknown key network\.stagse; did you mean stages\?"),
        ({"recipe": {"name": "x"}}, "missing recipe.grid, recipe.windows"),
        ({"recipe": 5}, "recipe is a table of keys and values, found 5"),
    ],
)
def test_a_wrong_card_is_refused_by_name(saved: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(make_card().to_json()), **change})
    with pytest.raises(CheckpointError, match=message):
        read_card(save_with_card(tmp_path / "wrong.safetensors", saved, text))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "5", '"card"', "[" * 100_000, '{"recipe": {}}'])
def test_an_invalid_card_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="invalid model card"):
        ModelCard.from_json(text)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(value=ANY_JSON, place=st.data())
def test_any_value_anywhere_gives_a_usable_card_or_a_refusal(value: Any, place: st.DataObject) -> None:
    card = json.loads(make_card().to_json())
    branch = card
    while True:
        key = place.draw(st.sampled_from(sorted(branch)))
        if not isinstance(branch[key], dict) or not branch[key] or place.draw(st.booleans()):
            break
        branch = branch[key]
    branch[key] = value
    try:
        found = ModelCard.from_json(json.dumps(card))
    except CheckpointError:
        return
    assert type(found.epoch) is int and type(found.network.stages) is int
    assert all(isinstance(patient, str) for patient in found.training.patients)
    json.dumps(found.standing.as_json(), allow_nan=False)


# -- writing that fails ------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file_and_nothing_else(saved: Path) -> None:
    before = file_checksum(saved)
    other = Cascade(make_card().network)
    with (
        files_of_at_most(saved.stat().st_size // 2),
        pytest.raises(TrainingError, match=r"cannot be written .* what was there is kept, free space"),
    ):
        save_checkpoint(saved, other, make_card())
    assert file_checksum(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_path_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"model\.safetensors: cannot be written"):
        save_checkpoint(tmp_path / "file" / "model.safetensors", Cascade(make_card().network), make_card())


def test_a_writer_killed_at_any_moment_leaves_a_complete_file(saved: Path) -> None:
    cascade, card = load_checkpoint(saved)
    for moment in range(10):
        before = saved.stat().st_mtime_ns
        child = os.fork()
        if child == 0:  # a process of its own, killed without warning
            while True:
                save_checkpoint(saved, cascade, card)
        deadline = time.monotonic() + 60
        while saved.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.0001)
        time.sleep(moment * 0.0003)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert saved.stat().st_mtime_ns != before
        assert load_checkpoint(saved)[1] == card
