"""New pairs: found, assigned to a permanent side, checked once, counted."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.advice import detail_of
from ct2pet_app.datastore.folder import FolderDatastore
from ct2pet_app.datastore.pair_service import accept_pair, describe_pairs
from ct2pet_app.datastore.pairs import registry as pairs_module
from ct2pet_app.errors import NotFoundError
from lib.errors import PairingError, SplitFileError, UndecodableError
from lib.learning.model_card.card import patient_digest
from lib.pairing.quality_checks.plausibility import PairCheck
from lib.pairing.split import Split
from lib.pairing.split_file import TRAINED_ON
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.tiny_studies import FIRST, SECOND, TINY, change, counts, files_in, in_thousands


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder of one pair, that a test may change."""
    write_phantoms(tmp_path / "studies", patients=1, settings=TINY)
    return tmp_path / "studies"


@pytest.fixture
def datastore(studies: Path, tmp_path: Path) -> FolderDatastore:
    return FolderDatastore(studies, tmp_path / "models")


def test_a_pair_is_counted_before_it_is_looked_at(datastore: FolderDatastore, tmp_path: Path) -> None:
    expected = {"total": 1, "plausible": 0, "implausible": 0, "unchecked": 1, "train": 0, "validation": 0, "test": 0}
    assert counts(datastore) == expected
    assert describe_pairs(datastore)[0]["check"] == {"result": "unchecked"}
    assert not (tmp_path / "models" / "split.csv").exists()  # asking writes nothing


def test_a_new_pair_gets_a_side_and_a_check(datastore: FolderDatastore, studies: Path) -> None:
    datastore.pairs.update()
    write_phantoms(studies, patients=2, settings=TINY)
    datastore.refresh()
    assert (counts(datastore)["total"], counts(datastore)["unchecked"]) == (2, 1)
    datastore.pairs.update()
    expected = {"total": 2, "plausible": 2, "implausible": 0, "unchecked": 0, "train": 1, "validation": 0, "test": 1}
    assert counts(datastore) == expected
    first, second = describe_pairs(datastore)
    assert (first["patient_id"], first["side"], second["side"]) == (FIRST, "train", "test")
    assert first["side_decided_by"] == "hash: validation 0.1 test 0.2 offset 0 salt ct2pet"
    assert first["side_since"] <= second["side_since"]
    assert first["check"]["result"] == "plausible" and 0.3 < first["check"]["median_suv"] < 1.2
    assert {"shift_mm", "shift_sd_mm", "diaphragm_shift_mm", "shift_note"} <= set(first["check"])


def test_a_pair_is_checked_once(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def counted(paired: Any, **_: Any) -> PairCheck:
        checked.append(paired.pair.ct.uid)
        return PairCheck(True, ())

    monkeypatch.setattr(pairs_module, "check_pair", counted)
    for book in (datastore.pairs, datastore.pairs, FolderDatastore(studies, tmp_path / "models").pairs):
        book.update()  # the last one is another process's
    assert len(checked) == 1
    file = files_in(studies)[0]
    os.utime(file, (1, 1))
    datastore.refresh()
    datastore.pairs.update()
    assert len(checked) == 2  # a file has changed


def test_a_pair_that_cannot_be_decoded_is_read_once(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def undecodable(paired: Any, **_: Any) -> PairCheck:
        checked.append(paired.pair.ct.uid)
        raise UndecodableError(f"series {paired.pair.ct.uid}: 1.dcm: is damaged: decoding it ends the decoder")

    monkeypatch.setattr(pairs_module, "check_pair", undecodable)
    for book in (datastore.pairs, datastore.pairs, FolderDatastore(studies, tmp_path / "models").pairs):
        book.update()  # the last one is the server's after another start
    assert len(checked) == 1 and counts(datastore)["implausible"] == 1
    assert "1.dcm: is damaged: decoding it ends the decoder" in describe_pairs(datastore)[0]["check"]["reasons"][0]
    os.utime(files_in(studies)[0], (1, 1))
    datastore.refresh()
    datastore.pairs.update()
    assert len(checked) == 2  # a file has changed


def test_other_shares_and_salts_move_no_patient(datastore: FolderDatastore, studies: Path, tmp_path: Path) -> None:
    datastore.pairs.update()
    other = FolderDatastore(studies, tmp_path / "models", split=Split(test=0.0, validation=0.9, salt="pepper"))
    pairs = other.training_pairs()
    assert other.pairs.sides(pairs, Split(test=0.9, validation=0.0)) == {FIRST: "train"}
    write_phantoms(studies, patients=2, settings=TINY)
    assert other.pairs.sides(other.training_pairs(), Split())[SECOND] == Split(
        test=0.0, validation=0.9, salt="pepper"
    ).side_of_patient(SECOND)


def test_a_split_by_slice_does_not_use_the_file(
    datastore: FolderDatastore, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    assert datastore.pairs.sides(datastore.training_pairs(), Split(unit="slice", validation=0.0)) == {}
    assert "a split by slice does not assign patients: split.csv is not used" in caplog.text
    assert not (tmp_path / "models" / "split.csv").exists()


def test_an_implausible_pair_is_left_out_of_training_and_says_why(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_phantoms(studies, patients=2, settings=TINY)
    broken = change(studies / FIRST / "PET", in_thousands, tmp_path / "broken")
    for file in broken.iterdir():
        file.replace(studies / FIRST / "PET" / file.name)
    (kept,) = datastore.training_pairs()
    assert kept.pair.ct.patient_id == SECOND
    assert "is left out of training: median SUV in the body is" in caplog.text
    datastore.pairs.update()
    assert (counts(datastore)["plausible"], counts(datastore)["implausible"]) == (1, 1)
    described = describe_pairs(datastore)[0]
    assert described["check"]["result"] == "implausible"
    assert "expected 0.05 to 10: check Units" in described["check"]["reasons"][0]

    accepted = accept_pair(datastore, described["ct_series_instance_uid"])
    assert (accepted["check"]["result"], len(datastore.training_pairs())) == ("accepted", 2)
    assert counts(datastore)["plausible"] == 2


def test_nothing_plausible_is_said(datastore: FolderDatastore, studies: Path, tmp_path: Path) -> None:
    broken = change(studies / FIRST / "PET", in_thousands, tmp_path / "broken")
    for file in broken.iterdir():
        file.replace(studies / FIRST / "PET" / file.name)
    with pytest.raises(PairingError, match="none of 1 pairs is plausible") as raised:
        datastore.training_pairs()
    assert detail_of(raised.value).endswith("; GET /ct2pet/pairs gives the reasons for each")


def test_only_an_existing_pair_can_be_accepted(datastore: FolderDatastore) -> None:
    with pytest.raises(NotFoundError, match=r"no pair has a CT '\.\./x'"):
        accept_pair(datastore, "../x")


def test_a_damaged_split_file_stops_training_and_nothing_else(datastore: FolderDatastore, tmp_path: Path) -> None:
    path = tmp_path / "models" / "split.csv"
    path.parent.mkdir()
    path.write_text("torn")
    counted = counts(datastore)
    assert (counted["total"], counted["train"]) == (1, None) and "split.csv, line 1" in counted["trouble"]
    with pytest.raises(SplitFileError):
        datastore.pairs.update()
    assert counts(datastore)["plausible"] == 1  # checked nevertheless
    with pytest.raises(SplitFileError, match="is never recreated"):
        datastore.pairs.sides(datastore.training_pairs(), Split())
    assert path.read_text() == "torn"


def test_a_patient_that_a_model_was_trained_on(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stays on the training side by itself; moved to validation by hand, stays there, with a warning."""
    models = tmp_path / "models"
    (models / "unet").mkdir(parents=True)
    save_constant_model(models / "unet" / "model.safetensors", 1.0, stages=1, trained_on=[SECOND])
    write_phantoms(studies, patients=2, settings=TINY)  # the hash would have the second test
    datastore.pairs.update()
    by_patient = {one["patient_id"]: one for one in describe_pairs(datastore)}
    assert (by_patient[SECOND]["side"], by_patient[SECOND]["side_decided_by"], by_patient[SECOND]["warning"]) == (
        "train",
        TRAINED_ON,
        None,
    )
    path = models / "split.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace(f"{SECOND},train", f"{SECOND},validation"))
    assert datastore.pairs.sides(datastore.training_pairs(), Split())[SECOND] == "validation"
    assert "a model of this server was trained on this patient" in caplog.text
    by_patient = {one["patient_id"]: one for one in describe_pairs(datastore)}
    assert (
        by_patient[SECOND]["side"] == "validation" and "move the patient back to train" in by_patient[SECOND]["warning"]
    )
    assert by_patient[FIRST]["warning"] is None
    assert patient_digest(SECOND) not in str(by_patient)


def test_a_watch_sees_a_new_pair_by_itself(datastore: FolderDatastore, studies: Path) -> None:
    datastore.pairs.update()
    write_phantoms(studies, patients=2, settings=TINY)
    datastore.pairs.watch()
    try:
        for _ in range(600):
            datastore.refresh()
            datastore.listing()  # what any question of a client does
            if counts(datastore)["plausible"] == 2:
                break
            datastore.pairs._closed.wait(0.1)
        assert (counts(datastore)["plausible"], counts(datastore)["test"]) == (2, 1)
    finally:
        datastore.close()


def test_a_check_in_the_background_waits_for_a_request(datastore: FolderDatastore, studies: Path) -> None:
    datastore.pairs.update()
    os.utime(files_in(studies)[0], (1, 1))  # the pair is checked again
    datastore.refresh()
    updating = threading.Thread(target=datastore.pairs.update)
    with datastore.pairs.foreground.request():
        updating.start()
        updating.join(timeout=0.5)
        assert updating.is_alive() and counts(datastore)["unchecked"] == 1
    updating.join(timeout=60)
    assert counts(datastore)["plausible"] == 1
