"""A CT and a PET that a client sends: kept once where the studies are, or refused with the reason and nothing left."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from ct2pet_app.datastore.folder import KEPT, FolderDatastore
from ct2pet_app.datastore.pair_service import add_pair
from ct2pet_app.errors import RequestError
from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.files import write_series
from lib.dicom.write.plan import SourceModel, plan_series
from lib.errors import ImageFileError, PairingError
from lib.imaging.volume import Unit, Volume
from lib.pairing.pairs import pair_series
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.tiny_studies import FIRST, SECOND, TINY, change, counts, files_in, in_thousands


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


@pytest.mark.parametrize("together", [True, False], ids=["study", "ct and pet"])
def test_an_uploaded_pair_is_kept_where_the_studies_are(
    datastore: FolderDatastore, studies: Path, coming: Path, zipped: Callable[..., Path], together: bool
) -> None:
    apart = {"ct": coming / "CT", "pet": coming / "PET"}
    archives = {"study": zipped(coming)} if together else {field: zipped(folder) for field, folder in apart.items()}
    added = add_pair(datastore, archives)
    assert (added["patient_id"], added["side"], added["check"]["result"]) == (SECOND, "test", "plausible")
    assert sorted(added["added_instances"].values()) == [6, 6]
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
    added = add_pair(datastore, archives)
    assert list(added["added_instances"].values()) == [6]
    assert (added["patient_id"], added["side"], counts(datastore)["total"]) == (FIRST, "train", 1)


def test_missing_instances_of_a_series_are_added(
    datastore: FolderDatastore, studies: Path, zipped: Callable[..., Path]
) -> None:
    whole = zipped(studies / FIRST)
    for file in sorted((studies / FIRST / "PET").iterdir())[2:4]:
        file.unlink()
    added = add_pair(datastore, {"study": whole})
    assert list(added["added_instances"].values()) == [2]
    assert len(scan_folder(studies).usable("PT")[0].series.files) == 6


def other_frame(dataset: Any) -> None:
    dataset.FrameOfReferenceUID = "1.2.3"


def other_day(dataset: Any) -> None:
    dataset.StudyInstanceUID = "1.2.3"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "20200102"
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = ""


def other_patient(dataset: Any) -> None:
    dataset.PatientID = "SOMEBODY_ELSE"


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "another frame of reference": (other_frame, "another frame of reference; register them"),
    "another study of another day": (other_day, "in the patient's other studies CT .* was acquired on another day"),
    "another patient": (other_patient, "has another PatientID"),
    "another unit": (in_thousands, "do not look like one patient's: median SUV"),
}


@pytest.mark.parametrize(("alter", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_pair_is_refused_and_leaves_nothing(
    datastore: FolderDatastore,
    studies: Path,
    coming: Path,
    tmp_path: Path,
    zipped: Callable[..., Path],
    alter: Callable[[Any], None],
    message: str,
) -> None:
    before = files_in(studies)
    pet = change(coming / "PET", alter, tmp_path / "altered")
    with pytest.raises(PairingError, match=message):
        add_pair(datastore, {"ct": zipped(coming / "CT"), "pet": zipped(pet)})
    assert files_in(studies) == before and not (studies / KEPT).exists()
    assert not (tmp_path / "models" / "split.csv").exists()


def test_an_implausible_upload_is_accepted_on_request(
    datastore: FolderDatastore, coming: Path, tmp_path: Path, zipped: Callable[..., Path]
) -> None:
    pet = change(coming / "PET", in_thousands, tmp_path / "altered")
    archives = {"ct": zipped(coming / "CT"), "pet": zipped(pet)}
    added = add_pair(datastore, archives, despite_checks=True)
    assert added["check"]["result"] == "accepted" and added["check"]["reasons"]
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


def test_a_file_that_is_not_an_image_is_named(
    datastore: FolderDatastore, coming: Path, zipped: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "notes.dcm").write_text("call Jane Doe back")
    added = add_pair(datastore, {"study": zipped(coming, tmp_path / "more")})
    assert added["left_out"]["files"].startswith("1 that are not DICOM images, first: ")
    assert "Doe" not in str(added)


@pytest.fixture
def synthetic(coming: Path, tmp_path: Path) -> Iterator[Path]:
    """Our own synthetic PET of the second patient's CT."""
    (ct,) = scan_folder(coming).usable("CT")
    planned = plan_series(ct.series, SourceModel("unet", "1", "0" * 64))
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


def test_a_synthetic_pet_next_to_a_real_one_is_left_out(
    datastore: FolderDatastore, studies: Path, coming: Path, synthetic: Path, zipped: Callable[..., Path]
) -> None:
    added = add_pair(datastore, {"study": zipped(coming, synthetic)})
    (reason,) = added["left_out"].values()
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
    with pytest.raises(OutputError, match=r"No space left on device.*no files remain there"):
        add_pair(datastore, {"study": zipped(coming)})
    assert not files_in(studies / KEPT) and not list((studies / KEPT).iterdir())
