"""Pairs that are new: seen, given their side for good, checked once, counted; and uploads of a CT and a PET."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from ct2pet_app.datastore import pairs as pairs_module
from ct2pet_app.datastore.folder import KEPT, FolderDatastore
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.pairs import accept_pair, add_pair, describe_pairs
from lib.dicom.scan import scan_folder
from lib.dicom.synthetic import MadeBy, plan_series
from lib.dicom.write import write_series
from lib.errors import ImageFileError, PairingError, SplitFileError
from lib.imaging.volume import Unit, Volume
from lib.learning.card import patient_digest
from lib.pairing.pairs import pair_series
from lib.pairing.plausible import PairCheck
from lib.pairing.split import Split
from lib.pairing.split_file import TRAINED_ON
from lib.sources.phantom import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model

TINY = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# by tests/pairing/test_split.py: the first is on the training side, the second tests
FIRST, SECOND = "PHANTOM_0001", "PHANTOM_0002"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder of one pair, that a test may change."""
    write_phantoms(tmp_path / "studies", patients=1, settings=TINY)
    return tmp_path / "studies"


@pytest.fixture
def coming(phantoms: Path) -> Path:
    """The study of the second patient, which is not in the folder."""
    return phantoms / SECOND


@pytest.fixture
def datastore(studies: Path, tmp_path: Path) -> FolderDatastore:
    return FolderDatastore(studies, tmp_path / "models")


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that packs folders of DICOM files, under names that lead elsewhere."""
    count = iter(range(100))

    def pack(*folders: Path) -> Path:
        path = tmp_path / f"upload-{next(count)}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number, file in enumerate(file for folder in folders for file in sorted(folder.rglob("*.dcm"))):
                archive.write(file, f"../../{number}.dcm")
        return path

    return pack


def change(folder: Path, alter: Callable[[Any], None], to: Path) -> Path:
    """Return a copy of a series with its headers or pixels altered."""
    to.mkdir(parents=True)
    for file in sorted(folder.glob("*.dcm")):
        dataset = dcmread(file)
        alter(dataset)
        dataset.save_as(to / file.name)
    return to


def in_thousands(dataset: Any) -> None:
    dataset.RescaleSlope = float(f"{float(dataset.RescaleSlope) * 1000:.8g}")


def counts(datastore: FolderDatastore) -> dict[str, Any]:
    told: dict[str, Any] = datastore.status()["pairs"]
    return told


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# -- sides, checks and counts ------------------------------------------------------------------------------------------


def test_a_pair_is_counted_before_it_is_looked_at(datastore: FolderDatastore, tmp_path: Path) -> None:
    expected = {"total": 1, "plausible": 0, "implausible": 0, "unchecked": 1, "train": 0, "validation": 0, "test": 0}
    assert counts(datastore) == expected
    assert describe_pairs(datastore)[0]["check"] == {"result": "unchecked"}
    assert not (tmp_path / "models" / "split.csv").exists()  # asking writes nothing


def test_a_new_pair_gets_a_side_and_a_check(datastore: FolderDatastore, studies: Path) -> None:
    datastore.pairs.look()
    write_phantoms(studies, patients=2, settings=TINY)
    datastore.refresh()
    assert (counts(datastore)["total"], counts(datastore)["unchecked"]) == (2, 1)
    datastore.pairs.look()
    expected = {"total": 2, "plausible": 2, "implausible": 0, "unchecked": 0, "train": 1, "validation": 0, "test": 1}
    assert counts(datastore) == expected
    first, second = describe_pairs(datastore)
    assert (first["patient_id"], first["side"], second["side"]) == (FIRST, "train", "test")
    assert first["side_decided_by"] == "hash: validation 0.1 test 0.2 offset 0 salt ct2pet"
    assert first["side_since"] <= second["side_since"]
    assert first["check"]["result"] == "plausible" and 0.3 < first["check"]["median_suv"] < 1.2


def test_a_pair_is_checked_once(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def counted(paired: Any) -> PairCheck:
        checked.append(paired.pair.ct.uid)
        return PairCheck(True, ())

    monkeypatch.setattr(pairs_module, "check_pair", counted)
    for book in (datastore.pairs, datastore.pairs, FolderDatastore(studies, tmp_path / "models").pairs):
        book.look()  # the last one is another process's
    assert len(checked) == 1
    file = files_in(studies)[0]
    os.utime(file, (1, 1))
    datastore.refresh()
    datastore.pairs.look()
    assert len(checked) == 2  # a file has changed


def test_other_shares_and_salts_move_nobody(datastore: FolderDatastore, studies: Path, tmp_path: Path) -> None:
    datastore.pairs.look()
    other = FolderDatastore(studies, tmp_path / "models", split=Split(test=0.0, validation=0.9, salt="pepper"))
    pairs = other.training_pairs()
    assert other.sides(pairs, Split(test=0.9, validation=0.0)) == {FIRST: "train"}
    write_phantoms(studies, patients=2, settings=TINY)
    assert other.sides(other.training_pairs(), Split())[SECOND] == Split(
        test=0.0, validation=0.9, salt="pepper"
    ).side_of_patient(SECOND)


def test_a_split_by_slice_does_not_use_the_file(
    datastore: FolderDatastore, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    assert datastore.sides(datastore.training_pairs(), Split(unit="slice", validation=0.0)) == {}
    assert "a split by slice has no sides of patients: split.csv is not used" in caplog.text
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
    datastore.pairs.look()
    assert (counts(datastore)["plausible"], counts(datastore)["implausible"]) == (1, 1)
    told = describe_pairs(datastore)[0]
    assert told["check"]["result"] == "implausible"
    assert "expected 0.05 to 10: look at Units" in told["check"]["reasons"][0]

    accepted = accept_pair(datastore, told["ct_series_instance_uid"])
    assert (accepted["check"]["result"], len(datastore.training_pairs())) == ("accepted", 2)
    assert counts(datastore)["plausible"] == 2


def test_nothing_plausible_is_said(datastore: FolderDatastore, studies: Path, tmp_path: Path) -> None:
    broken = change(studies / FIRST / "PET", in_thousands, tmp_path / "broken")
    for file in broken.iterdir():
        file.replace(studies / FIRST / "PET" / file.name)
    with pytest.raises(PairingError, match="none of 1 pairs is plausible; GET /ct2pet/pairs says why"):
        datastore.training_pairs()


def test_only_a_pair_that_is_there_can_be_answered_for(datastore: FolderDatastore) -> None:
    with pytest.raises(NotFoundError, match=r"no pair has a CT '\.\./x'"):
        accept_pair(datastore, "../x")


def test_a_damaged_split_file_stops_training_and_nothing_else(datastore: FolderDatastore, tmp_path: Path) -> None:
    path = tmp_path / "models" / "split.csv"
    path.parent.mkdir()
    path.write_text("torn")
    told = counts(datastore)
    assert (told["total"], told["train"]) == (1, None) and "split.csv, line 1" in told["trouble"]
    with pytest.raises(SplitFileError):
        datastore.pairs.look()
    assert counts(datastore)["plausible"] == 1  # checked all the same
    with pytest.raises(SplitFileError, match="is not made anew"):
        datastore.sides(datastore.training_pairs(), Split())
    assert path.read_text() == "torn"


def test_a_patient_whom_a_model_was_trained_on(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stays on the training side by itself; moved to validation by hand, stays there, with a warning."""
    models = tmp_path / "models"
    (models / "unet").mkdir(parents=True)
    save_constant_model(models / "unet" / "model.safetensors", 1.0, stages=1, trained_on=[SECOND])
    write_phantoms(studies, patients=2, settings=TINY)  # the hash would have the second test
    datastore.pairs.look()
    told = {one["patient_id"]: one for one in describe_pairs(datastore)}
    assert (told[SECOND]["side"], told[SECOND]["side_decided_by"], told[SECOND]["warning"]) == (
        "train",
        TRAINED_ON,
        None,
    )
    path = models / "split.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace(f"{SECOND},train", f"{SECOND},validation"))
    assert datastore.sides(datastore.training_pairs(), Split())[SECOND] == "validation"
    assert "a model of this server was trained on this patient" in caplog.text
    told = {one["patient_id"]: one for one in describe_pairs(datastore)}
    assert told[SECOND]["side"] == "validation" and "move the patient back to train" in told[SECOND]["warning"]
    assert told[FIRST]["warning"] is None
    assert patient_digest(SECOND) not in str(told)


def test_a_watch_sees_a_new_pair_by_itself(datastore: FolderDatastore, studies: Path) -> None:
    datastore.pairs.look()
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


# -- uploads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["study", "ct and pet"])
def test_an_uploaded_pair_is_kept_where_the_studies_are(
    datastore: FolderDatastore, studies: Path, coming: Path, zipped: Callable[..., Path], together: bool
) -> None:
    apart = {"ct": coming / "CT", "pet": coming / "PET"}
    archives = {"study": zipped(coming)} if together else {field: zipped(folder) for field, folder in apart.items()}
    told = add_pair(datastore, archives)
    assert (told["patient_id"], told["side"], told["check"]["result"]) == (SECOND, "test", "plausible")
    assert sorted(told["added_instances"].values()) == [6, 6]
    (kept,) = (studies / KEPT).iterdir()
    assert sorted(path.relative_to(kept).as_posix() for path in files_in(kept))[::11] == ["1/00001.dcm", "2/00006.dcm"]
    sent = {dcmread(path).SOPInstanceUID: path.read_bytes() for path in files_in(coming)}
    assert {dcmread(path).SOPInstanceUID: path.read_bytes() for path in files_in(kept)} == sent
    assert (counts(datastore)["total"], counts(datastore)["test"]) == (2, 1)


def test_the_same_upload_twice_changes_nothing(
    datastore: FolderDatastore, studies: Path, coming: Path, zipped: Callable[..., Path]
) -> None:
    first = add_pair(datastore, {"study": zipped(coming)})
    before = {path: path.stat().st_mtime_ns for path in files_in(studies)}
    second = add_pair(datastore, {"ct": zipped(coming / "CT"), "pet": zipped(coming / "PET")})
    assert second["added_instances"] == {}
    assert {**second, "added_instances": None} == {**first, "added_instances": None}
    assert {path: path.stat().st_mtime_ns for path in files_in(studies)} == before


@pytest.mark.parametrize("alone", [True, False], ids=["pet", "ct and pet"])
def test_a_pet_for_a_ct_that_is_there(
    datastore: FolderDatastore, studies: Path, tmp_path: Path, zipped: Callable[..., Path], alone: bool
) -> None:
    pet = studies / FIRST / "PET"
    pet.rename(tmp_path / "pet")
    archives = {"pet": zipped(tmp_path / "pet")} | ({} if alone else {"ct": zipped(studies / FIRST / "CT")})
    assert counts(datastore)["total"] == 0
    told = add_pair(datastore, archives)
    assert list(told["added_instances"].values()) == [6]
    assert (told["patient_id"], told["side"], counts(datastore)["total"]) == (FIRST, "train", 1)


def test_missing_instances_of_a_series_are_added(
    datastore: FolderDatastore, studies: Path, zipped: Callable[..., Path]
) -> None:
    whole = zipped(studies / FIRST)
    for file in sorted((studies / FIRST / "PET").iterdir())[2:4]:
        file.unlink()
    told = add_pair(datastore, {"study": whole})
    assert list(told["added_instances"].values()) == [2]
    assert len(scan_folder(studies).usable("PT")[0].series.files) == 6


def other_frame(dataset: Any) -> None:
    dataset.FrameOfReferenceUID = "1.2.3"


def other_study(dataset: Any) -> None:
    dataset.StudyInstanceUID = "1.2.3"


def other_patient(dataset: Any) -> None:
    dataset.PatientID = "SOMEBODY_ELSE"


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "another frame of reference": (other_frame, "another frame of reference; register them"),
    "another study": (other_study, "no pair: no PET in the same study|no pair: no CT in the same study"),
    "another patient": (other_patient, "names another PatientID"),
    "another unit": (in_thousands, "do not look like one patient's: median SUV .* despite_checks=true"),
}


@pytest.mark.parametrize(("alter", "words"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_pair_is_refused_and_leaves_nothing(
    datastore: FolderDatastore,
    studies: Path,
    coming: Path,
    tmp_path: Path,
    zipped: Callable[..., Path],
    alter: Callable[[Any], None],
    words: str,
) -> None:
    before = files_in(studies)
    pet = change(coming / "PET", alter, tmp_path / "altered")
    with pytest.raises(PairingError, match=words):
        add_pair(datastore, {"ct": zipped(coming / "CT"), "pet": zipped(pet)})
    assert files_in(studies) == before and not (studies / KEPT).exists()
    assert not (tmp_path / "models" / "split.csv").exists()


def test_an_implausible_upload_is_taken_by_who_answers_for_it(
    datastore: FolderDatastore, coming: Path, tmp_path: Path, zipped: Callable[..., Path]
) -> None:
    pet = change(coming / "PET", in_thousands, tmp_path / "altered")
    archives = {"ct": zipped(coming / "CT"), "pet": zipped(pet)}
    told = add_pair(datastore, archives, despite_checks=True)
    assert told["check"]["result"] == "accepted" and told["check"]["reasons"]
    assert len(datastore.training_pairs()) == 2


def test_another_choice_of_files_is_refused(
    datastore: FolderDatastore, coming: Path, zipped: Callable[..., Path]
) -> None:
    for archives in ({}, {"ct": zipped(coming / "CT")}, {"study": zipped(coming), "pet": zipped(coming / "PET")}):
        with pytest.raises(RequestError, match=r"send ct and pet, a \.zip of one DICOM series each"):
            add_pair(datastore, archives)


def test_a_file_that_is_no_zip(datastore: FolderDatastore, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PK junk")
    with pytest.raises(ImageFileError, match=r"study\.zip: cannot be unpacked"):
        add_pair(datastore, {"study": tmp_path / "x"})


def test_two_pets_are_refused_by_name(datastore: FolderDatastore, phantoms: Path, zipped: Callable[..., Path]) -> None:
    with pytest.raises(PairingError, match=r"2 usable CT series, expected 1; found .*CT .*usable, 6 slices"):
        add_pair(datastore, {"study": zipped(phantoms)})


def test_a_slice_that_is_damaged_is_found(
    datastore: FolderDatastore, studies: Path, coming: Path, tmp_path: Path, zipped: Callable[..., Path]
) -> None:
    def cut(dataset: Any) -> None:
        if int(dataset.InstanceNumber) == 3:
            dataset.PixelData = dataset.PixelData[:100]

    ct = change(coming / "CT", cut, tmp_path / "cut")
    with pytest.raises(PairingError, match=r"0 usable CT series, expected 1; found CT .* gap: no slice between"):
        add_pair(datastore, {"ct": zipped(ct), "pet": zipped(coming / "PET")})
    assert not (studies / KEPT).exists()


def test_what_is_no_image_is_named(
    datastore: FolderDatastore, coming: Path, zipped: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "notes.dcm").write_text("call Jane Doe back")
    told = add_pair(datastore, {"study": zipped(coming, tmp_path / "more")})
    assert told["left_out"]["files"].startswith("1 that are no DICOM image, first: ")
    assert "Doe" not in str(told)


@pytest.fixture
def synthetic(coming: Path, tmp_path: Path) -> Iterator[Path]:
    """Our own synthetic PET of the second patient's CT."""
    (ct,) = scan_folder(coming).usable("CT")
    planned = plan_series(ct.series, MadeBy("unet", "1", "0" * 64))
    assert ct.geometry is not None
    pet = Volume(np.ones(ct.geometry.shape, np.float32), ct.geometry, Unit.SUV_BW)
    yield write_series(planned.fill(pet), tmp_path / "synthetic")


def test_a_synthetic_pet_is_no_real_one(
    datastore: FolderDatastore, coming: Path, synthetic: Path, zipped: Callable[..., Path]
) -> None:
    with pytest.raises(
        PairingError, match=r"0 usable PET series, expected 1; .*synthetic PET .*never used as a measured"
    ):
        add_pair(datastore, {"ct": zipped(coming / "CT"), "pet": zipped(synthetic)})


def test_beside_a_real_pet_the_synthetic_one_is_left_out(
    datastore: FolderDatastore, studies: Path, coming: Path, synthetic: Path, zipped: Callable[..., Path]
) -> None:
    told = add_pair(datastore, {"study": zipped(coming, synthetic)})
    (reason,) = told["left_out"].values()
    assert "synthetic PET" in reason
    report = scan_folder(studies)
    assert not any(found.is_synthetic for found in report.series)
    assert len(pair_series(report).pairs) == 2


def test_a_link_that_leaves_the_studies_is_not_followed(
    datastore: FolderDatastore, studies: Path, coming: Path, tmp_path: Path, zipped: Callable[..., Path]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (studies / KEPT).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="is a link that leaves it"):
        add_pair(datastore, {"study": zipped(coming)})
    assert not files_in(tmp_path / "elsewhere")


def test_a_disk_that_is_full_leaves_nothing(
    datastore: FolderDatastore,
    studies: Path,
    coming: Path,
    zipped: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ct2pet_app.datastore import folder as folder_module
    from lib.errors import OutputError

    def full(source: Path, target: Path) -> None:
        if target.name == "00004.dcm":
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(folder_module.shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"No space left on device.*nothing is left there"):
        add_pair(datastore, {"study": zipped(coming)})
    assert not files_in(studies / KEPT) and not list((studies / KEPT).iterdir())
