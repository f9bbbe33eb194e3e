"""New pairs in a real Orthanc: seen and checked one at a time, nothing fetched for those that were there; uploads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ct2pet_app.datastore.dicomweb import DicomwebDatastore, PacsStudies
from ct2pet_app.datastore.pair_service import add_pair, describe_pairs
from lib.dicom.remote.cache import SeriesCache
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.server.orthanc import Orthanc, running_orthanc

TINY = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The folders of three phantoms."""
    return write_phantoms(tmp_path_factory.mktemp("patients"), patients=3, settings=TINY)


@pytest.fixture(scope="module")
def orthanc(
    require_program: Callable[[str], str], patients: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An Orthanc with the first patient."""
    with running_orthanc(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc"), patients[0]) as running:
        yield running


def zip_of(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.dcm")):
            archive.write(file, file.name if file.parent == folder else f"{file.parent.name}/{file.name}")
    return path


def test_pairs_of_a_pacs(orthanc: Orthanc, patients: tuple[Path, ...], tmp_path: Path) -> None:
    """One long story, for Orthanc is started once: there, new by itself, uploaded, trained on."""
    pacs = orthanc.pacs()
    cache = SeriesCache(tmp_path / "cache", pacs, limit_bytes=10**9)
    studies = PacsStudies(pacs, cache, index=tmp_path / "index.sqlite", filters={})
    datastore = DicomwebDatastore(pacs, studies, tmp_path / "models")
    try:
        datastore.pairs.update()
        expected = {
            "total": 1,
            "plausible": 0,
            "implausible": 0,
            "unchecked": 1,
            "train": 1,
            "validation": 0,
            "test": 0,
        }
        assert datastore.status()["pairs"] == expected
        assert not list(tmp_path.rglob("*.dcm"))  # what was there is not dragged through the cache

        orthanc.upload(patients[1])
        datastore.refresh()
        datastore.pairs.update()
        counted = datastore.status()["pairs"]
        assert (counted["total"], counted["plausible"], counted["unchecked"], counted["test"]) == (2, 1, 1, 1)

        third = {
            "ct": zip_of(patients[2] / "CT", tmp_path / "ct.zip"),
            "pet": zip_of(patients[2] / "PET", tmp_path / "p"),
        }
        for added in ([6, 6], []):
            response = add_pair(datastore, third)
            assert list(response["added_instances"].values()) == added
            assert (response["patient_id"], response["side"], response["check"]["result"]) == (
                "PHANTOM_0003",
                "train",
                "plausible",
            )
            assert (orthanc.count(Modality="CT"), orthanc.count(Modality="PT")) == (3, 3)
        assert orthanc.count(SeriesInstanceUID=response["pet_series_instance_uid"]) == 1

        assert len(datastore.training_pairs()) == 3  # the first one was checked for it
        assert [one["check"]["result"] for one in describe_pairs(datastore)] == ["plausible"] * 3
    finally:
        datastore.close()


def test_a_pet_for_a_ct_in_the_pacs(orthanc: Orthanc, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder,) = write_phantoms(tmp_path_factory.mktemp("fourth"), patients=1, seed=4, settings=TINY)
    orthanc.upload(folder / "CT")
    pacs = orthanc.pacs()
    cache = SeriesCache(tmp_path / "cache", pacs, limit_bytes=10**9)
    datastore = DicomwebDatastore(
        pacs, PacsStudies(pacs, cache, index=tmp_path / "index.sqlite", filters={}), tmp_path / "models"
    )
    try:
        response = add_pair(datastore, {"pet": zip_of(folder / "PET", tmp_path / "pet.zip")})
        assert (list(response["added_instances"].values()), response["check"]["result"]) == ([6], "plausible")
    finally:
        datastore.close()
