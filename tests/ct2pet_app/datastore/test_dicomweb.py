"""A PACS as a datastore, against a real Orthanc with real studies and a phantom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore import dicomweb as dicomweb_module
from ct2pet_app.datastore.dicomweb import PacsStudies
from ct2pet_app.errors import NotFoundError
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import Credentials
from lib.dicom.scan.scan import ScanReport, scan_folder
from lib.errors import RemoteError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepare import prepare_pairs
from tests.ct2pet_app.constant_model import save_constant_model, tiny_recipe
from tests.server.orthanc import PASSWORD, USER, Orthanc, running_orthanc
from tests.server.processes import running_server

PATIENT = "STS_008"  # 103 files


@pytest.fixture(scope="module")
def studies(sts_folder: Path) -> ScanReport:
    """The same studies as a folder."""
    return scan_folder(sts_folder / PATIENT)


@pytest.fixture(scope="module")
def orthanc(
    require_program: Callable[[str], str], sts_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An Orthanc that holds the first of the patients."""
    folder = tmp_path_factory.mktemp("orthanc")
    with running_orthanc(require_program("Orthanc"), folder, sts_folder / PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that several tests use, so that files are fetched once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def pacs_settings(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set user, password and cache folder by MONAI Label's own settings."""
    monkeypatch.setattr(dicomweb_module.monailabel_settings, "MONAI_LABEL_DATASTORE_CACHE_PATH", str(cached))
    monkeypatch.setattr(dicomweb_module.monailabel_settings, "MONAI_LABEL_DATASTORE_USERNAME", USER)
    monkeypatch.setattr(dicomweb_module.monailabel_settings, "MONAI_LABEL_DATASTORE_PASSWORD", PASSWORD)


@pytest.fixture
def app(
    make_app: Callable[..., CT2PETApp], orthanc: Orthanc, pacs_settings: None, tmp_path: Path
) -> Iterator[CT2PETApp]:
    """An app on the PACS whose unet predicts 2.5 SUV everywhere."""
    built = make_app(studies=orthanc.url)
    built.models.publish("unet", save_constant_model(tmp_path / "constant.safetensors", 2.5, stages=1))
    yield built
    built.studies_datastore.close()


def looked_at(orthanc: Orthanc, folder: Path, *, credentials: Credentials = Credentials(USER, PASSWORD)) -> PacsStudies:
    pacs = Pacs(orthanc.url, credentials)
    cache = SeriesCache(folder / "series", pacs, limit_bytes=10**9)
    return PacsStudies(pacs, cache, index=folder / "index.sqlite", filters={})


def only_pair(studies: PacsStudies) -> PairedSeries:
    (paired,) = studies.rescan().pairs.values()
    return paired


def test_a_pacs_lists_what_the_same_folder_lists(orthanc: Orthanc, studies: ScanReport, tmp_path: Path) -> None:
    paired = only_pair(looked_at(orthanc, tmp_path))
    for remote, kind in ((paired.ct, "CT"), (paired.pet, "PT")):
        (scanned,) = studies.usable(kind)
        assert (remote.series.uid, remote.suv, remote.matrix) == (scanned.series.uid, scanned.suv, scanned.matrix)
        assert [path.stem for path in remote.series.files] == [
            dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in scanned.series.files
        ]
        assert remote.geometry is not None and scanned.geometry is not None
        assert remote.geometry.same_grid_as(scanned.geometry, tolerance_mm=1e-4)
    assert not list(tmp_path.rglob("*.dcm"))  # nothing was downloaded for it


def test_headers_are_requested_once(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = only_pair(looked_at(orthanc, tmp_path))
    monkeypatch.setattr(Pacs, "read_headers", None)  # calling it would fail
    assert only_pair(looked_at(orthanc, tmp_path)).pair == first.pair


def test_volumes_of_a_pacs_are_those_of_the_folder(orthanc: Orthanc, studies: ScanReport, cached: Path) -> None:
    pacs = looked_at(orthanc, cached)
    pair = only_pair(pacs).pair
    with pacs.local_files(pair.ct, pair.pet):
        ct, pet = read_ct(pair.ct), read_pet(pair.pet)
    np.testing.assert_array_equal(ct.array, read_ct(studies.usable("CT")[0].series).array)
    np.testing.assert_array_equal(pet.array, read_pet(studies.usable("PT")[0].series).array)


def test_training_prepares_pairs_of_the_pacs_once(orthanc: Orthanc, cached: Path, tmp_path: Path) -> None:
    for reused in (0, 1):  # the second time everything is fetched again, into an empty cache
        pacs = looked_at(orthanc, cached if reused == 0 else tmp_path / "another cache")
        pairs = tuple(pacs.rescan().pairs.values())
        report = prepare_pairs(
            pairs, tmp_path / "prepared", preparation=tiny_recipe(1).preparation, local_files=pacs.local_files
        )
        assert (len(report.prepared.pairs), report.failed, report.reused) == (1, (), reused)


def test_wrong_password(orthanc: Orthanc, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"refuses us \(401\); check the user name and password") as refusal:
        looked_at(orthanc, tmp_path, credentials=Credentials(USER, "wrong")).listing()
    assert "wrong" not in str(refusal.value)


def test_a_pacs_that_is_killed_in_the_middle_of_a_download(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs = looked_at(orthanc, tmp_path)
    ct = only_pair(pacs).pair.ct
    downloaded = threading.Event()
    fetch = Pacs.fetch

    def slowly(self: Pacs, *uids: str, **limits: Any) -> None:
        if len(list(tmp_path.rglob("*.dcm"))) >= 10:
            downloaded.set()
            time.sleep(0.3)
        fetch(self, *uids, **limits)

    monkeypatch.setattr(Pacs, "fetch", slowly)
    killer = threading.Thread(target=lambda: (downloaded.wait(60), orthanc.kill()))
    killer.start()
    with pytest.raises(RemoteError, match=r"cannot be reached, or breaks off.*What was fetched is kept"):
        pacs.local_files(ct).__enter__()
    killer.join()
    kept = len(list(tmp_path.rglob("*.dcm")))
    assert 10 <= kept < len(ct.files)
    assert pacs.listing().images  # the previous listing is kept

    orthanc.start()
    fetched: list[str] = []

    def counted(self: Pacs, study_uid: str, series_uid: str, sop_uid: str, *path: Path, **limits: Any) -> None:
        fetched.append(sop_uid)
        fetch(self, study_uid, series_uid, sop_uid, *path, **limits)

    monkeypatch.setattr(Pacs, "fetch", counted)
    with pacs.local_files(ct):
        assert len(fetched) == len(ct.files) - kept
        assert read_ct(ct).geometry.shape[0] == len(ct.files)
    pacs.close()


def test_a_synthetic_pet_is_stored_once_and_never_taken_for_a_real_one(
    app: CT2PETApp, orthanc: Orthanc, tmp_path: Path
) -> None:
    datastore = app.studies_datastore
    (image,) = datastore.list_images()
    before, series = datastore.status(), orthanc.count(Modality="PT")
    for _ in range(2):
        answer = app.infer({"model": "unet", "image": image, "store": True})
    params = answer["params"]
    assert orthanc.count(Modality="PT") == series + 1
    assert orthanc.count(SeriesInstanceUID=params["series"]["series_instance_uid"]) == 1
    datastore.refresh()
    assert datastore.status() == before
    (synthetic,) = (one for one in datastore.describe_series() if "synthetic PET" in (one["why_not"] or ""))
    assert synthetic["series_instance_uid"] == params["series"]["series_instance_uid"]

    found = datastore.listing().report.find(synthetic["series_instance_uid"])
    assert found is not None
    with datastore.local_files(found.series):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(found.series.files[0].parent)))
        read_back = reader.Execute()
    answered = read_volume_file(Path(answer["file"]), unit=Unit.SUV_BW)
    assert read_back.GetSize() == tuple(reversed(answered.geometry.shape))
    np.testing.assert_allclose(read_back.GetOrigin(), answered.geometry.affine[:3, 3], atol=1e-3)
    np.testing.assert_allclose(read_back.GetSpacing(), tuple(reversed(answered.geometry.spacing_mm)), atol=1e-4)
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_back), answered.array, atol=2.5 / 30_000)


@pytest.mark.server
@pytest.mark.slow
def test_the_real_server_on_a_pacs(
    orthanc: Orthanc, phantoms: Path, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed, synthesised, a new study seen by itself, and no way into the PACS for clients."""
    monkeypatch.setenv("MONAI_LABEL_DATASTORE_USERNAME", USER)
    monkeypatch.setenv("MONAI_LABEL_DATASTORE_PASSWORD", PASSWORD)
    monkeypatch.setenv("MONAI_LABEL_DATASTORE_CACHE_PATH", str(cached))
    conf = {"models": "unet", "width": "2"}
    with running_server("ct2pet_app", orthanc.url, tmp_path, **conf) as server:
        deadline = time.monotonic() + 60
        while server.json("/datastore/")["completed"] < 1:
            assert time.monotonic() < deadline, "the studies of the PACS are not listed within a minute"
            time.sleep(0.2)
        model = save_constant_model(tmp_path / "unet.safetensors", 2.5, stages=1)
        assert server.request("PUT", "/model/unet", files={"file": model.read_bytes()}).ok
        (image,) = server.json("/datastore/?output=all")["objects"]
        answer = server.infer("unet", image=image, output="json")
        assert answer.status_code == 200, answer.text
        assert answer.json()["metrics"] is not None  # against the real PET, which was fetched, too
        for path in ("studies", "../instances", "%2e%2e/instances"):
            assert server.request("GET", f"/proxy/dicom/wado/{path}").status_code == 404
        orthanc.upload(phantoms / "PHANTOM_0001")
        deadline = time.monotonic() + 60
        while server.json("/datastore/")["completed"] < 2:
            assert time.monotonic() < deadline, "a new study does not appear within a minute"
            time.sleep(1)
        assert PASSWORD not in server.log.read_text()


def test_an_unknown_image_is_never_requested_from_the_pacs(app: CT2PETApp) -> None:
    for image in ("1.2.3", "../instances", "/etc/passwd"):
        with pytest.raises(NotFoundError, match="no image"):
            app.studies_datastore.cts.image(image)
