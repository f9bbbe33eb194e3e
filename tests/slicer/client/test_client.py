"""All methods of the client against a real server with accounts."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import (
    CancelledError,
    ForbiddenError,
    InvalidResponseError,
    RefusedError,
    SignInError,
    UnreachableError,
    UntrainedError,
)
from CT2PETLib.client.http.transport import RetryPolicy
from CT2PETLib.client.image_id import image_id_of
from CT2PETLib.client.infer_result import Slab, read_slab
from CT2PETLib.client.nrrd import read_nrrd, to_nrrd

from lib.dicom.read.volume import read_pet
from lib.dicom.scan.scan import scan_folder
from tests.server.processes import PASSWORD
from tests.slicer.client.conftest import SLICES, Clinic, publish, save_varied_model
from tests.slicer.proxy import Proxy

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def full(clinic: Clinic) -> Slab:
    """Return the synthetic PET and uncertainty map of all slices in one request."""
    return clinic.client().slab("cascade3", clinic.ct_uid, 0, SLICES, uncertainty=True)


def test_sign_in_is_shared_by_copies_until_sign_out(clinic: Clinic) -> None:
    client = Client(clinic.server.url)
    with pytest.raises(SignInError, match="requires authentication"):
        client.studies()
    client.sign_in("una", PASSWORD)
    assert client.is_signed_in
    assert clinic.ct_uid in [study.image_id for study in client.copy().studies()]
    client.sign_out()
    with pytest.raises(SignInError, match="requires authentication"):
        client.studies()


def test_wrong_password(clinic: Clinic) -> None:
    client = Client(clinic.server.url)
    with pytest.raises(SignInError, match="Wrong user name or password"):
        client.sign_in("una", "eight geese")
    assert not client.is_signed_in


def test_invalid_token(clinic: Clinic, client: Client) -> None:
    client._token.value = client._token.value[:-3] + "abc"
    with pytest.raises(SignInError, match="sign in again"):
        client.copy().server()
    assert not client.is_signed_in  # so that the panel offers to sign in


def test_repr_has_neither_token_nor_password(clinic: Clinic, client: Client) -> None:
    shown = f"{client!r} {client._transport!r} {client._token!r} {vars(client)}"
    assert client._token.value not in shown
    assert PASSWORD not in shown


def test_server_describes_its_models(client: Client) -> None:
    server = client.server()
    assert [model.name for model in server.models] == ["unet", "cascade3", "cascade2"]
    assert "cascade2" not in [model.name for model in server.trained]
    model = server.model("cascade3")
    assert model is not None and model.card is not None
    assert (model.card.stages, model.card.recipe, model.baseline_result, model.uncertainty) == (
        3,
        "quantitative",
        "not judged",
        True,
    )
    assert "NOT FOR DIAGNOSIS" in model.card.intended_use
    assert "Uptake that is not visible on CT" in model.card.limits
    assert model.baseline_summary.startswith("Not compared with the baselines")
    assert len(model.checksum) == 64
    assert server.models[0].settings["max_epochs"] == 3
    assert 2 <= server.pairs <= server.studies


def test_studies_are_listed_newest_first(clinic: Clinic, client: Client) -> None:
    studies = client.studies()
    assert [study.date for study in studies] == sorted((study.date for study in studies), reverse=True)
    (study,) = (study for study in studies if study.image_id == clinic.ct_uid)
    assert study.patient_id == "PHANTOM_0001"
    assert (study.image_id, study.date, study.description) == (clinic.ct_uid, "20240115", "PHANTOM CT")
    assert (study.slices, study.matrix, study.has_real_pet, study.uploaded) == (SLICES, (64, 64), True, False)
    assert client.study(clinic.ct_uid) == study
    assert client.study("1.2.3") is None


def test_ct_is_downloaded_unchanged(clinic: Clinic, client: Client) -> None:
    progress: list[tuple[int, int]] = []
    content = client.ct(clinic.ct_uid, progress=lambda done, total: progress.append((done, total)))
    volume = read_nrrd(content)
    np.testing.assert_array_equal(volume.array, clinic.ct.array)
    np.testing.assert_allclose(volume.affine, clinic.ct.geometry.affine, rtol=0, atol=1e-9)
    assert progress[-1] == (len(content), len(content))


def test_real_pet_has_its_own_grid(clinic: Clinic, client: Client) -> None:
    real = read_pet(scan_folder(clinic.studies / "PHANTOM_0001").usable("PT")[0].series)
    volume = read_nrrd(client.real_pet(clinic.ct_uid))
    np.testing.assert_allclose(volume.array, real.array, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, real.geometry.affine, rtol=0, atol=1e-9)


def test_slab_equals_the_same_slices_of_the_full_volume(clinic: Clinic, client: Client, full: Slab) -> None:
    slab = client.slab("cascade3", clinic.ct_uid, 7, 19, uncertainty=True)
    for part, of in ((slab.pet_volume(), full.pet_volume()), (slab.uncertainty_volume(), full.uncertainty_volume())):
        assert part is not None and of is not None
        assert np.ptp(of.array) > 0.1
        np.testing.assert_allclose(part.array, of.array[7:19], rtol=0, atol=1e-5)
        np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], clinic.ct.geometry.affine @ [0, 0, 7, 1], atol=1e-9)


def test_metadata_of_a_slab(clinic: Clinic, full: Slab) -> None:
    metadata, array = full.metadata, full.pet_volume().array
    assert (metadata.model, metadata.start, metadata.stop, metadata.shape) == ("cascade3", 0, SLICES, (SLICES, 64, 64))
    assert metadata.suv["max"] == pytest.approx(float(array.max()), rel=1e-6)
    assert (metadata.seen_in_training, metadata.calibrated_on, metadata.stored) == (False, 5, False)
    assert len(metadata.checksum) == 64
    assert "NOT FOR DIAGNOSIS" in metadata.notice
    assert metadata.seconds["total"] > 0


def test_metrics_include_the_baselines(clinic: Clinic, client: Client) -> None:
    metadata = client.metrics("cascade3", clinic.ct_uid)
    assert set(metadata.metrics) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert metadata.metrics["model"]["mae_suv_body"] is not None


def test_ct_is_uploaded_once(clinic: Clinic, tmp_path: Path) -> None:
    client, array = clinic.client("ann"), clinic.ct.array.astype(np.int16)
    image_id = image_id_of(array, clinic.ct.geometry.affine)
    progress: list[tuple[int, int]] = []
    content = to_nrrd(array, clinic.ct.geometry.affine)
    assert client.send_ct(content, image_id, progress=lambda done, total: progress.append((done, total)))
    assert not client.send_ct(content, image_id)
    assert progress[-1][0] == progress[-1][1] > len(content)
    study = client.study(image_id)
    assert study is not None
    assert (study.uploaded, study.slices, study.has_real_pet) == (True, SLICES, False)
    predicted = client.slab("cascade3", image_id, 7, 19).pet_volume()
    np.testing.assert_allclose(
        predicted.array, client.slab("cascade3", clinic.ct_uid, 7, 19).pet_volume().array, atol=1e-5
    )


def test_file_is_uploaded_without_its_name(clinic: Clinic, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(clinic.ct.array[:5].astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / "Doe^John.nii.gz"))
    client = clinic.client("ann")
    assert client.send_ct(tmp_path / "Doe^John.nii.gz", "a-file")
    assert client.study("a-file") is not None
    assert "Doe" not in clinic.server.log.read_text()


def test_volume_that_is_not_a_ct_is_refused(clinic: Clinic) -> None:
    pet = np.linspace(0, 12, 512, dtype=np.float32).reshape(8, 8, 8)
    with pytest.raises(RefusedError, match="looks like a PET or an MR"):
        clinic.client("ann").send_ct(to_nrrd(pet, np.eye(4)), "no-ct")


def test_reader_cannot_upload(clinic: Clinic) -> None:
    with pytest.raises(ForbiddenError, match=r"Not permitted: .*annotator"):
        clinic.client("una").send_ct(to_nrrd(clinic.ct.array, clinic.ct.geometry.affine), "not-mine")


@pytest.mark.parametrize(
    ("model", "image", "slab", "error", "message"),
    [
        ("cascade2", "", (0, 4), UntrainedError, "not trained yet"),
        ("cascade9", "", (0, 4), RefusedError, "no model cascade9"),
        ("cascade3", "1.2.3", (0, 4), RefusedError, "no CT 1.2.3"),
        ("cascade3", "", (30, 50), RefusedError, "not a range within the 40 slices"),
    ],
)
def test_invalid_inference_is_refused_with_a_reason(
    clinic: Clinic, client: Client, model: str, image: str, slab: tuple[int, int], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        client.slab(model, image or clinic.ct_uid, *slab)


def test_pet_is_downloaded_as_dicom_series(clinic: Clinic, client: Client) -> None:
    with zipfile.ZipFile(io.BytesIO(client.dicom("cascade3", clinic.ct_uid))) as zipped:
        assert len(zipped.namelist()) == SLICES


def test_pet_is_stored_with_its_ct_once(clinic: Clinic, client: Client) -> None:
    first, second = (client.store("cascade3", clinic.ct_uid) for _ in range(2))
    assert first.stored
    assert first.series_instance_uid == second.series_instance_uid
    stored = list(clinic.studies.glob("synthetic-pet/*"))
    assert [folder.name for folder in stored] == [first.series_instance_uid]
    assert len(list(stored[0].iterdir())) == SLICES


def test_roll_back_serves_a_previous_version(clinic: Clinic, client: Client, tmp_path: Path) -> None:
    first = client.slab("cascade3", clinic.ct_uid, 3, 5).metadata
    publish(clinic.server, save_varied_model(tmp_path / "other.safetensors", seed=2))
    second = client.slab("cascade3", clinic.ct_uid, 3, 5).metadata
    of_cascade = {versions.model: versions for versions in client.versions()}["cascade3"]
    assert (str(of_cascade.served), of_cascade.can_roll_back) == (second.version, True)
    assert {version.checksum: str(version.number) for version in of_cascade.versions if version.served} == {
        second.checksum: second.version
    }
    assert str(client.roll_back("cascade3").served) == first.version
    back = client.slab("cascade3", clinic.ct_uid, 3, 5).metadata
    assert (back.version, back.checksum) == (first.version, first.checksum) != (second.version, second.checksum)
    assert str(client.serve("cascade3", int(second.version)).served) == second.version
    assert str(client.roll_back("cascade3", int(first.version)).served) == first.version


def test_version_that_is_not_served_can_be_requested(clinic: Clinic, client: Client, tmp_path: Path) -> None:
    served = client.slab("cascade3", clinic.ct_uid, 3, 5)
    publish(clinic.server, save_varied_model(tmp_path / "named.safetensors", seed=5))
    newer = client.slab("cascade3", clinic.ct_uid, 3, 5).metadata
    number = int(served.metadata.version)
    una = clinic.client("una")  # any user may request a version
    named = una.slab("cascade3", clinic.ct_uid, 3, 5, version=number)
    assert (named.metadata.version, named.metadata.checksum) == (served.metadata.version, served.metadata.checksum)
    np.testing.assert_array_equal(named.pet_volume().array, served.pet_volume().array)
    assert una.metrics("cascade3", clinic.ct_uid, version=number).checksum == served.metadata.checksum
    stored = [client.store("cascade3", clinic.ct_uid, version=one).series_instance_uid for one in (number, None)]
    assert stored[0] != stored[1]
    assert stored[0] in [path.name for path in clinic.studies.glob("synthetic-pet/*")]
    zipped = client.dicom("cascade3", clinic.ct_uid, version=number)
    assert len(zipfile.ZipFile(io.BytesIO(zipped)).namelist()) == SLICES
    after = client.slab("cascade3", clinic.ct_uid, 3, 5).metadata
    assert (after.version, after.checksum) == (newer.version, newer.checksum)  # the served version is unchanged
    with pytest.raises(RefusedError, match=rf"cascade3 has no version 99; it has 1, .*{newer.version}"):
        client.slab("cascade3", clinic.ct_uid, 3, 5, version=99)
    client.roll_back("cascade3", number)


def test_annotator_cannot_train(clinic: Clinic) -> None:
    client = clinic.client("ann")
    for call in (lambda: client.train("unet"), lambda: client.roll_back("cascade3"), client.stop_training):
        with pytest.raises(ForbiddenError, match=r"Not permitted: .*admin"):
            call()


def test_interrupted_connection_is_retried(clinic: Clinic, proxy: Proxy) -> None:
    """Interrupted in the response's header, then in its body; the third attempt succeeds."""
    client = clinic.client(url=proxy.url)
    proxy.cut_all()  # otherwise the connection of the sign-in would be reused
    proxy.cuts = [30, 900]
    messages: list[str] = []
    slab = client.slab("cascade3", clinic.ct_uid, 3, 5, waiting=lambda error, _: messages.append(str(error)))
    assert slab.pet_volume().array.shape == (2, 64, 64)
    assert all("was lost" in message for message in messages)
    assert len(messages) in (2, 3)  # once more if the closed connection was still in the pool


def test_retries_end_with_an_error(clinic: Clinic, proxy: Proxy) -> None:
    client = clinic.client(url=proxy.url)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    before = proxy.connections
    with pytest.raises(UnreachableError, match="was lost"):
        client.slab("cascade3", clinic.ct_uid, 3, 5, retry_policy=RetryPolicy(0.5, first_s=0.05))
    assert proxy.connections - before >= 3


def test_non_idempotent_requests_are_not_retried(clinic: Clinic, proxy: Proxy) -> None:
    client = clinic.client(url=proxy.url)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    before = proxy.connections
    with pytest.raises(UnreachableError):
        client.train("unet")
    assert proxy.connections - before <= 1


def test_read_timeout_is_not_retried(clinic: Clinic, proxy: Proxy) -> None:
    signed_in = clinic.client()
    client = Client(proxy.url, timeout_s=0.3, token=signed_in._token)
    proxy.holding.set()
    with pytest.raises(UnreachableError, match="did not respond in time"):
        client.studies()
    assert proxy.connections == 1


def test_interrupted_client_sends_no_requests_but_its_copy_does(client: Client) -> None:
    sibling = client.copy()
    client.interrupt()
    with pytest.raises(CancelledError):
        client.studies()
    with pytest.raises(CancelledError):
        client.pause(60)
    assert len(sibling.studies()) >= 2


def test_response_of_another_program_is_refused(clinic: Clinic, client: Client) -> None:
    with pytest.raises(InvalidResponseError, match="expected a multipart response"):
        read_slab(b"{}", "application/json", (0, 4))
