"""A folder of studies as a datastore, on phantoms: lists, labels, uploads, and new studies without a restart."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.responses import JSONResponse

from ct2pet_app.advice import detail_of
from ct2pet_app.datastore import arrivals
from ct2pet_app.datastore import study_index as listing_module
from ct2pet_app.datastore.folder import FolderDatastore
from ct2pet_app.datastore.pair_service import describe_pairs
from ct2pet_app.errors import NotFoundError, RequestError
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.header_index import HeaderIndex
from lib.dicom.scan.scan import scan_folder
from lib.errors import ImageFileError, InputError
from lib.files import fingerprint, same_fingerprint
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.volume import Unit
from lib.learning.recipe import load_recipe
from lib.pairing.prepare import prepare_pairs


@pytest.fixture
def datastore(phantoms: Path, tmp_path: Path) -> FolderDatastore:
    return FolderDatastore(phantoms, tmp_path / "writable")


def test_building_it_reads_and_writes_nothing(tmp_path: Path) -> None:
    FolderDatastore(tmp_path / "no such folder", tmp_path / "writable")
    assert list(tmp_path.iterdir()) == []


def test_images_are_ct_series_and_final_labels_their_pet(datastore: FolderDatastore, phantoms: Path) -> None:
    report = scan_folder(phantoms)
    assert datastore.list_images() == [found.series.uid for found in report.usable("CT")]
    status = datastore.status()
    assert (status["total"], status["completed"], status["label_tags"]) == (2, 2, {"final": 2})
    ct, pet = report.usable("CT")[0].series, report.usable("PT")[0].series
    assert datastore.get_labels_by_image_id(ct.uid) == {"final": pet.uid}
    assert datastore.datalist()[0] == {"image": ct.uid, "label": pet.uid}


def test_a_ct_without_pet_is_an_image_without_label(phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms / "PHANTOM_0001" / "CT", tmp_path / "studies" / "CT")
    datastore = FolderDatastore(tmp_path / "studies", tmp_path / "writable")
    (image,) = datastore.get_unlabeled_images()
    assert datastore.status()["completed"] == 0
    assert "PET" in datastore.get_image_info(image)["why_no_pet"]


def test_image_metadata_has_ids_and_never_names(datastore: FolderDatastore, ct_uids: tuple[str, ...]) -> None:
    metadata = datastore.get_image_info(ct_uids[0])
    assert (metadata["patient_id"], metadata["slices"], metadata["matrix"]) == ("PHANTOM_0001", 6, (64, 64))
    assert metadata["pet"]["slices"] == 6
    assert "PHANTOM^" not in str(datastore.json())


def test_an_image_downloads_as_the_ct_in_hu(
    datastore: FolderDatastore, phantoms: Path, ct_uids: tuple[str, ...]
) -> None:
    ct = read_ct(scan_folder(phantoms).usable("CT")[0].series)
    downloaded = read_volume_file(Path(datastore.get_image_uri(ct_uids[0])), unit=Unit.HU)
    assert downloaded.geometry.same_grid_as(ct.geometry, tolerance_mm=1e-4)
    np.testing.assert_array_equal(downloaded.array, ct.array)


@pytest.mark.parametrize("by", ["the PET's UID", "the CT's UID"])  # the second is what HEAD /datastore/label sends
def test_a_final_label_downloads_as_the_pet_in_suv(
    datastore: FolderDatastore, phantoms: Path, ct_uids: tuple[str, ...], by: str
) -> None:
    series = scan_folder(phantoms).usable("PT")[0].series
    label = series.uid if by == "the PET's UID" else ct_uids[0]
    downloaded = read_volume_file(Path(datastore.get_label_uri(label, "final")), unit=Unit.SUV_BW)
    np.testing.assert_array_equal(downloaded.array, read_pet(series).array)


def test_new_studies_appear_and_removed_ones_go(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "MIN_RESCAN_INTERVAL_S", 0.0)
    monkeypatch.setattr(listing_module, "REST", 0.0)
    studies = tmp_path / "studies"
    shutil.copytree(phantoms / "PHANTOM_0001", studies / "1")
    datastore = FolderDatastore(studies, tmp_path / "writable")
    assert datastore.status()["total"] == 1
    shutil.copytree(phantoms / "PHANTOM_0002", studies / "2")
    assert datastore.status()["total"] == 2
    shutil.rmtree(studies / "1")
    assert datastore.status()["total"] == 1


def test_a_series_that_still_arrives_is_not_used_silently(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ct_uids: tuple[str, ...]
) -> None:
    studies = tmp_path / "studies"
    (studies / "CT").mkdir(parents=True)
    datastore = FolderDatastore(studies, tmp_path / "writable")
    files = sorted((phantoms / "PHANTOM_0001" / "CT").iterdir())

    def copied(some: list[Path]) -> None:
        for path in some:
            shutil.copy2(path, studies / "CT" / path.name)  # keeps the modification time, as rsync does
        datastore.refresh()

    copied(files[:3])
    (warning,) = datastore.cts.image(ct_uids[0]).warnings
    assert "may still be arriving" in warning and "3 slices so far" in warning
    assert datastore.get_image_info(ct_uids[0])["warnings"] == [warning]
    copied(files[3:])
    with pytest.raises(NotFoundError, match="still arriving: 3 files in the previous scan and 6 now"):
        datastore.cts.image(ct_uids[0])
    assert datastore.list_images() == []
    datastore.refresh()
    with pytest.raises(NotFoundError, match="still arriving: 6 files now"):
        datastore.cts.image(ct_uids[0])
    monkeypatch.setattr(arrivals, "SETTLE_S", 0.0)
    datastore.refresh()
    assert datastore.cts.image(ct_uids[0]).warnings == ()


def test_a_clock_that_is_wrong_keeps_no_series_from_being_used(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ct_uids: tuple[str, ...]
) -> None:
    shutil.copytree(phantoms / "PHANTOM_0001", tmp_path / "studies")
    datastore = FolderDatastore(tmp_path / "studies", tmp_path / "writable")
    monkeypatch.setattr(arrivals.time, "time", lambda: 0.0)  # all files are of the future
    assert datastore.cts.image(ct_uids[0]).warnings == ()
    max((tmp_path / "studies" / "CT").iterdir()).unlink()
    datastore.refresh()
    assert ct_uids[0] not in datastore.list_images()
    datastore.refresh()
    assert ct_uids[0] in datastore.list_images()


def test_names_that_are_no_text_are_scanned_once_and_marked(phantoms: Path, tmp_path: Path) -> None:
    studies = tmp_path / os.fsdecode(b"\xe9tudes")
    shutil.copytree(phantoms / "PHANTOM_0001", studies / os.fsdecode(b"J\xfcrgen"))
    for path in sorted(studies.rglob("*.dcm")):
        path.rename(path.with_name(os.fsdecode(b"M\xfcller\n\xe2\x80\xae") + path.name))
    (studies / os.fsdecode(b"j\xfcnk")).write_text("no DICOM")
    index = HeaderIndex(tmp_path / "index.sqlite")
    first = scan_folder(studies, index=index)
    (folder,) = {path.parent for path in first.usable("CT")[0].series.files}
    assert len(HeaderIndex(tmp_path / "index.sqlite").known(str(folder))) == 6
    assert [found.series for found in scan_folder(studies, index=index).series] == [one.series for one in first.series]
    datastore = FolderDatastore(studies, tmp_path / "writable")
    (paired,) = datastore.training_pairs()
    assert same_fingerprint(*(fingerprint(paired.pair.ct.files) for _ in range(2)))
    report = prepare_pairs([paired], tmp_path / "prepared", preparation=load_recipe("paper").preparation)
    assert not report.failed
    JSONResponse([datastore.describe_series(), datastore.json(), describe_pairs(datastore), datastore.name()])


def test_a_folder_is_not_scanned_at_every_question(datastore: FolderDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    datastore.status()
    monkeypatch.setattr(listing_module, "scan_folder", None)  # calling it would fail
    assert datastore.status()["total"] == 2


@pytest.mark.parametrize("image", ["/etc/passwd", "../PHANTOM_0001", "", "1.2.3"])
def test_what_is_no_image_id_is_never_opened(datastore: FolderDatastore, image: str) -> None:
    for ask in (datastore.get_image_uri, datastore.get_image_info, datastore.cts.image):
        with pytest.raises(NotFoundError) as raised:
            ask(image)
        expected = r"no image .* give the SeriesInstanceUID of one of its CT series"
        assert re.search(expected, detail_of(raised.value))
    with pytest.raises(NotFoundError, match="no label"):
        datastore.get_label_uri(image, "final")


def test_a_series_that_is_no_ct_says_so(datastore: FolderDatastore, phantoms: Path) -> None:
    pet = scan_folder(phantoms).usable("PT")[0].series
    with pytest.raises(NotFoundError, match="cannot be used as an image: it is PT, and an image is a CT"):
        datastore.cts.image(pet.uid)


def test_an_uploaded_ct_becomes_an_image_and_can_be_removed(
    datastore: FolderDatastore, phantoms: Path, tmp_path: Path
) -> None:
    ct = read_ct(scan_folder(phantoms).usable("CT")[0].series)
    upload = write_volume_file(ct, tmp_path / "upload.nii.gz")
    assert datastore.add_image("my CT", str(upload), {"client_id": "slicer"}) == "my CT"
    assert datastore.status()["total"] == 3
    assert datastore.get_image_info("my CT")["slices"] == 6
    assert datastore.cts.image("my CT").read().geometry.shape == ct.geometry.shape
    datastore.remove_image("my CT")
    assert datastore.status()["total"] == 2
    assert list((tmp_path / "writable" / "shelf").glob("*.nii.gz")) == []


def test_an_upload_that_is_not_a_ct_is_refused_and_removed(
    datastore: FolderDatastore, phantoms: Path, tmp_path: Path
) -> None:
    pet = read_pet(scan_folder(phantoms).usable("PT")[0].series)
    upload = write_volume_file(pet, tmp_path / "upload.nrrd")
    with pytest.raises(ImageFileError, match=r"mine\.nrrd: not a CT in HU"):
        datastore.add_image("mine", str(upload), {})
    assert not upload.exists()


@pytest.mark.parametrize("image", ["../../evil", "a/b", "..", "", "x" * 201])
def test_an_upload_may_not_choose_a_path(
    datastore: FolderDatastore, phantoms: Path, tmp_path: Path, image: str
) -> None:
    ct = read_ct(scan_folder(phantoms).usable("CT")[0].series)
    upload = write_volume_file(ct, tmp_path / "upload.nrrd")
    with pytest.raises(RequestError, match="expected 1 to 200 letters, digits"):
        datastore.add_image(image, str(upload), {})


def test_an_upload_may_not_take_the_place_of_a_study(
    datastore: FolderDatastore, ct_uids: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="is a series of the studies folder; choose another name for the upload"):
        datastore.add_image(ct_uids[0], str(tmp_path / "x.nrrd"), {})


def test_a_series_of_the_studies_is_never_removed(datastore: FolderDatastore, ct_uids: tuple[str, ...]) -> None:
    with pytest.raises(NotFoundError, match="the studies folder is only read"):
        datastore.remove_image(ct_uids[0])


def test_a_synthetic_pet_is_a_label_under_another_tag(
    datastore: FolderDatastore, phantoms: Path, ct_uids: tuple[str, ...], tmp_path: Path
) -> None:
    pet = read_pet(scan_folder(phantoms).usable("PT")[0].series)
    label = write_volume_file(pet, tmp_path / "pet.nrrd")
    assert datastore.save_label(ct_uids[0], str(label), "synthetic", {"model": "unet"}) == ct_uids[0]
    assert datastore.status()["label_tags"] == {"final": 2, "synthetic": 1}
    assert Path(datastore.get_label_uri(ct_uids[0], "synthetic")).read_bytes() == label.read_bytes()
    datastore.update_label_info(ct_uids[0], "synthetic", {"seen": True})
    assert datastore.get_label_info(ct_uids[0], "synthetic") == {"model": "unet", "seen": True}
    assert datastore.get_unlabeled_images("synthetic") == [ct_uids[1]]
    datastore.remove_label(ct_uids[0], "synthetic")
    assert datastore.get_label_by_image_id(ct_uids[0], "synthetic") == ""


def test_nothing_synthetic_is_ever_the_final_label(datastore: FolderDatastore, ct_uids: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match="the final label of a CT is the real PET of its study"):
        datastore.save_label(ct_uids[0], "pet.nrrd", "final", {})


def test_notes_about_an_image_are_kept(phantoms: Path, ct_uids: tuple[str, ...], tmp_path: Path) -> None:
    FolderDatastore(phantoms, tmp_path).record_image(ct_uids[0], {"strategy": {"first": {"ts": 1}}})
    FolderDatastore(phantoms, tmp_path).update_image_info(ct_uids[0], {"seen": 2})
    metadata = FolderDatastore(phantoms, tmp_path).get_image_info(ct_uids[0])
    assert (metadata["strategy"]["first"]["ts"], metadata["seen"]) == (1, 2)


def test_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        FolderDatastore(tmp_path / "gone", tmp_path / "writable").status()
