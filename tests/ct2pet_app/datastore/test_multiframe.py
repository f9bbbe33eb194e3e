"""Multi-frame studies behind the server: in a folder, uploaded, in a real PACS."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore.dicomweb import PacsStudies
from ct2pet_app.datastore.folder import FolderDatastore
from ct2pet_app.datastore.pair_service import add_pair, describe_pairs
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.scan.scan import ScanReport, scan_folder
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from tests.ct2pet_app.constant_model import save_constant_model
from tests.dicom.enhanced import Kind, read_slices, write_multi_frame
from tests.server.orthanc import running_orthanc

PATIENT = "PHANTOM_0001"
SLICES = 6


@pytest.fixture
def single(phantoms: Path) -> ScanReport:
    """The single-frame study the multi-frame one is made of."""
    return scan_folder(phantoms / PATIENT)


@pytest.fixture(params=["legacy", "enhanced"])
def studies(request: pytest.FixtureRequest, phantoms: Path, tmp_path: Path) -> Path:
    """A folder of one multi-frame study, two files a series."""
    kind: Kind = request.param
    for folder in ("CT", "PET"):
        slices = read_slices(phantoms / PATIENT / folder)
        write_multi_frame(slices, tmp_path / "studies" / folder, kind=kind, files=2, seed=9)
    return tmp_path / "studies"


def test_a_folder_lists_checks_and_serves_the_pair(studies: Path, single: ScanReport, tmp_path: Path) -> None:
    datastore = FolderDatastore(studies, tmp_path / "models")
    ct, pet = single.usable("CT")[0], single.usable("PT")[0]
    assert datastore.datalist() == [{"image": ct.series.uid, "label": pet.series.uid}]
    metadata = datastore.get_image_info(ct.series.uid)
    assert (metadata["slices"], metadata["pet"]["slices"], metadata["pet"]["suv"]) == (SLICES, SLICES, pet.suv)
    datastore.pairs.update()
    assert describe_pairs(datastore)[0]["check"]["result"] == "plausible"
    image = read_volume_file(Path(datastore.get_image_uri(ct.series.uid)), unit=Unit.HU)
    np.testing.assert_array_equal(image.array, read_ct(ct.series).array)
    label = read_volume_file(Path(datastore.get_label_uri(pet.series.uid, "final")), unit=Unit.SUV_BW)
    np.testing.assert_allclose(label.array, read_pet(pet.series).array, rtol=1e-6)


def test_an_app_synthesizes_a_pet_of_it(
    make_app: Callable[..., CT2PETApp], studies: Path, single: ScanReport, tmp_path: Path
) -> None:
    app = make_app(studies=studies)
    app.models.publish("unet", save_constant_model(tmp_path / "constant.safetensors", 2.5, stages=1))
    ct = single.usable("CT")[0].series
    result = app.infer({"model": "unet", "image": ct.uid, "result_extension": ".nrrd"})
    volume = read_volume_file(Path(result["file"]), unit=Unit.SUV_BW)
    assert volume.geometry.same_grid_as(read_ct(ct).geometry, tolerance_mm=1e-3)
    assert volume.array.max() == pytest.approx(2.5, rel=1e-3)


def test_an_uploaded_pair_is_kept(studies: Path, phantoms: Path, tmp_path: Path) -> None:
    archive = tmp_path / "upload.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for number, path in enumerate(sorted(studies.rglob("*.dcm"))):
            zipped.write(path, f"{number}.dcm")
    (tmp_path / "empty").mkdir()
    datastore = FolderDatastore(tmp_path / "empty", tmp_path / "models")
    added = add_pair(datastore, {"study": archive})
    assert (added["check"]["result"], sorted(added["added_instances"].values())) == ("plausible", [2, 2])
    again = add_pair(datastore, {"study": archive})
    assert sum(again["added_instances"].values()) == 0


def test_a_pacs_gives_the_same_volumes(
    studies: Path, single: ScanReport, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    with running_orthanc(require_program("Orthanc"), tmp_path / "orthanc", studies) as orthanc:
        pacs = orthanc.pacs()
        cache = SeriesCache(tmp_path / "cache" / "series", pacs, limit_bytes=10**9)
        for _ in range(2):  # the second time headers come from the index
            seen = PacsStudies(pacs, cache, index=tmp_path / "cache" / "index.sqlite", filters={})
            (paired,) = seen.rescan().pairs.values()
            pair = paired.pair
            assert (pair.ct.slice_count, len(pair.ct.files), paired.pet.suv) == (SLICES, 2, "BQML -> SUVbw")
        with seen.local_files(pair.ct, pair.pet):
            ct, pet = read_ct(pair.ct), read_pet(pair.pet)
    np.testing.assert_array_equal(ct.array, read_ct(single.usable("CT")[0].series).array)
    np.testing.assert_allclose(pet.array, read_pet(single.usable("PT")[0].series).array, rtol=1e-6)
