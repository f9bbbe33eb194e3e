"""Every call of the client against the real server, accounts on."""

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
from CT2PETLib.client.image_id import image_id_of
from CT2PETLib.client.infer_result import Slab, read_slab
from CT2PETLib.client.nrrd import read_nrrd, to_nrrd
from CT2PETLib.client.transport import RetryPolicy

from lib.dicom.read.volume import read_pet
from lib.dicom.scan.scan import scan_folder
from tests.server.processes import PASSWORD
from tests.slicer.client.conftest import SLICES, Clinic, publish, save_varied_model
from tests.slicer.proxy import Proxy

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(clinic: Clinic) -> Slab:
    """The synthetic PET of all slices at once, and what error to expect."""
    return clinic.client().slab("cascade3", clinic.ct_uid, 0, SLICES, uncertainty="beside")


def test_who_signs_in_is_known_until_the_client_is_gone(clinic: Clinic) -> None:
    client = Client(clinic.server.url)
    with pytest.raises(SignInError, match="asks who you are"):
        client.studies()
    client.sign_in("una", PASSWORD)
    assert client.is_signed_in
    assert clinic.ct_uid in [study.image_id for study in client.again().studies()]
    client.sign_out()
    with pytest.raises(SignInError, match="asks who you are"):
        client.studies()


def test_a_wrong_password_is_called_that(clinic: Clinic) -> None:
    client = Client(clinic.server.url)
    with pytest.raises(SignInError, match="Wrong user name or password"):
        client.sign_in("una", "eight geese")
    assert not client.is_signed_in


def test_a_token_that_has_run_out_is_called_that(clinic: Clinic, client: Client) -> None:
    client._token.word = client._token.word[:-3] + "abc"
    with pytest.raises(SignInError, match="sign in again"):
        client.server()


def test_neither_token_nor_password_is_shown(clinic: Clinic, client: Client) -> None:
    shown = f"{client!r} {client._transport!r} {client._token!r} {vars(client)}"
    assert client._token.word not in shown
    assert PASSWORD not in shown


def test_the_server_tells_of_its_models(client: Client) -> None:
    server = client.server()
    assert [model.name for model in server.models] == ["unet", "cascade3", "cascade2"]
    assert "cascade2" not in [model.name for model in server.trained]
    model = server.model("cascade3")
    assert model is not None and model.card is not None
    assert (model.card.stages, model.card.recipe, model.mark, model.uncertainty) == (
        3,
        "quantitative",
        "not judged",
        True,
    )
    assert "NOT FOR DIAGNOSIS" in model.card.intended_use
    assert "Uptake that leaves no trace on CT" in model.card.limits
    assert model.standing.startswith("Not judged")
    assert len(model.checksum) == 64
    assert server.models[0].settings["max_epochs"] == 3
    assert 2 <= server.pairs <= server.studies


def test_the_studies_are_listed_newest_first(clinic: Clinic, client: Client) -> None:
    studies = client.studies()
    assert [study.date for study in studies] == sorted((study.date for study in studies), reverse=True)
    (study,) = (study for study in studies if study.image_id == clinic.ct_uid)
    assert study.patient_id == "PHANTOM_0001"
    assert (study.image_id, study.date, study.description) == (clinic.ct_uid, "20240115", "PHANTOM CT")
    assert (study.slices, study.matrix, study.has_real_pet, study.uploaded) == (SLICES, (64, 64), True, False)
    assert client.study(clinic.ct_uid) == study
    assert client.study("1.2.3") is None


def test_a_ct_of_the_server_comes_as_it_is(clinic: Clinic, client: Client) -> None:
    heard: list[tuple[int, int]] = []
    content = client.ct(clinic.ct_uid, progress=lambda come, of: heard.append((come, of)))
    volume = read_nrrd(content)
    np.testing.assert_array_equal(volume.array, clinic.ct.array)
    np.testing.assert_allclose(volume.affine, clinic.ct.geometry.affine, rtol=0, atol=1e-9)
    assert heard[-1] == (len(content), len(content))


def test_the_real_pet_comes_on_its_own_grid(clinic: Clinic, client: Client) -> None:
    real = read_pet(scan_folder(clinic.studies / "PHANTOM_0001").usable("PT")[0].series)
    volume = read_nrrd(client.real_pet(clinic.ct_uid))
    np.testing.assert_allclose(volume.array, real.array, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, real.geometry.affine, rtol=0, atol=1e-9)


def test_a_slab_equals_the_same_slices_of_the_whole(clinic: Clinic, client: Client, whole: Slab) -> None:
    slab = client.slab("cascade3", clinic.ct_uid, 7, 19, uncertainty="beside")
    for part, of in ((slab.pet_volume(), whole.pet_volume()), (slab.uncertainty_volume(), whole.uncertainty_volume())):
        assert part is not None and of is not None
        assert np.ptp(of.array) > 0.1
        np.testing.assert_allclose(part.array, of.array[7:19], rtol=0, atol=1e-5)
        np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], clinic.ct.geometry.affine @ [0, 0, 7, 1], atol=1e-9)


def test_what_is_told_of_a_slab(clinic: Clinic, whole: Slab) -> None:
    told, array = whole.told, whole.pet_volume().array
    assert (told.model, told.start, told.stop, told.shape) == ("cascade3", 0, SLICES, (SLICES, 64, 64))
    assert told.suv["max"] == pytest.approx(float(array.max()), rel=1e-6)
    assert (told.seen_in_training, told.calibrated_on, told.stored) == (False, 5, False)
    assert len(told.checksum) == 64
    assert "NOT FOR DIAGNOSIS" in told.notice
    assert told.seconds["total"] > 0


def test_the_figures_stand_beside_the_trivial_predictors(clinic: Clinic, client: Client) -> None:
    told = client.figures("cascade3", clinic.ct_uid)
    assert set(told.figures) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert told.figures["model"]["mae_suv_body"] is not None


def test_a_ct_of_the_scene_is_sent_once(clinic: Clinic, tmp_path: Path) -> None:
    client, array = clinic.client("ann"), clinic.ct.array.astype(np.int16)
    image_id = image_id_of(array, clinic.ct.geometry.affine)
    heard: list[tuple[int, int]] = []
    content = to_nrrd(array, clinic.ct.geometry.affine)
    assert client.send_ct(content, image_id, progress=lambda sent, of: heard.append((sent, of)))
    assert not client.send_ct(content, image_id)
    assert heard[-1][0] == heard[-1][1] > len(content)
    study = client.study(image_id)
    assert study is not None
    assert (study.uploaded, study.slices, study.has_real_pet) == (True, SLICES, False)
    drawn = client.slab("cascade3", image_id, 7, 19).pet_volume()
    np.testing.assert_allclose(drawn.array, client.slab("cascade3", clinic.ct_uid, 7, 19).pet_volume().array, atol=1e-5)


def test_a_file_is_sent_without_its_name(clinic: Clinic, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(clinic.ct.array[:5].astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / "Doe^John.nii.gz"))
    client = clinic.client("ann")
    assert client.send_ct(tmp_path / "Doe^John.nii.gz", "a-file")
    assert client.study("a-file") is not None
    assert "Doe" not in clinic.server.log.read_text()


def test_what_is_no_ct_is_refused_in_the_panels_words(clinic: Clinic) -> None:
    pet = np.linspace(0, 12, 512, dtype=np.float32).reshape(8, 8, 8)
    with pytest.raises(RefusedError, match="looks like a PET or an MR"):
        clinic.client("ann").send_ct(to_nrrd(pet, np.eye(4)), "no-ct")


def test_who_may_only_look_cannot_send(clinic: Clinic) -> None:
    with pytest.raises(ForbiddenError, match=r"may not do this: .*annotator"):
        clinic.client("una").send_ct(to_nrrd(clinic.ct.array, clinic.ct.geometry.affine), "not-mine")


@pytest.mark.parametrize(
    ("model", "image", "slab", "error", "words"),
    [
        ("cascade2", "", (0, 4), UntrainedError, "not trained yet"),
        ("cascade9", "", (0, 4), RefusedError, "no model cascade9"),
        ("cascade3", "1.2.3", (0, 4), RefusedError, "no CT 1.2.3"),
        ("cascade3", "", (30, 50), RefusedError, "not a range within the 40 slices"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_the_panels_words(
    clinic: Clinic, client: Client, model: str, image: str, slab: tuple[int, int], error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        client.slab(model, image or clinic.ct_uid, *slab)


def test_the_pet_can_be_had_as_a_dicom_series(clinic: Clinic, client: Client) -> None:
    with zipfile.ZipFile(io.BytesIO(client.dicom("cascade3", clinic.ct_uid))) as zipped:
        assert len(zipped.namelist()) == SLICES


def test_the_pet_is_stored_beside_its_ct_and_once(clinic: Clinic, client: Client) -> None:
    first, second = (client.store("cascade3", clinic.ct_uid) for _ in range(2))
    assert first.stored
    assert first.series_instance_uid == second.series_instance_uid
    stored = list(clinic.studies.glob("synthetic-pet/*"))
    assert [folder.name for folder in stored] == [first.series_instance_uid]
    assert len(list(stored[0].iterdir())) == SLICES


def test_a_version_can_be_gone_back_to_and_the_answer_names_it(clinic: Clinic, client: Client, tmp_path: Path) -> None:
    first = client.slab("cascade3", clinic.ct_uid, 3, 5).told
    publish(clinic.server, save_varied_model(tmp_path / "other.safetensors", seed=2))
    second = client.slab("cascade3", clinic.ct_uid, 3, 5).told
    of_cascade = {versions.model: versions for versions in client.versions()}["cascade3"]
    assert (str(of_cascade.served), of_cascade.can_roll_back) == (second.version, True)
    assert {version.checksum: str(version.number) for version in of_cascade.versions if version.served} == {
        second.checksum: second.version
    }
    assert str(client.roll_back("cascade3").served) == first.version
    back = client.slab("cascade3", clinic.ct_uid, 3, 5).told
    assert (back.version, back.checksum) == (first.version, first.checksum) != (second.version, second.checksum)
    assert str(client.serve("cascade3", int(second.version)).served) == second.version
    assert str(client.roll_back("cascade3", int(first.version)).served) == first.version


def test_a_version_that_is_not_served_draws_where_it_is_named(clinic: Clinic, client: Client, tmp_path: Path) -> None:
    served = client.slab("cascade3", clinic.ct_uid, 3, 5)
    publish(clinic.server, save_varied_model(tmp_path / "named.safetensors", seed=5))
    newer = client.slab("cascade3", clinic.ct_uid, 3, 5).told
    number = int(served.told.version)
    una = clinic.client("una")  # whoever may draw may name a version
    named = una.slab("cascade3", clinic.ct_uid, 3, 5, version=number)
    assert (named.told.version, named.told.checksum) == (served.told.version, served.told.checksum)
    np.testing.assert_array_equal(named.pet_volume().array, served.pet_volume().array)
    assert una.figures("cascade3", clinic.ct_uid, version=number).checksum == served.told.checksum
    stored = [client.store("cascade3", clinic.ct_uid, version=one).series_instance_uid for one in (number, None)]
    assert stored[0] != stored[1]
    assert stored[0] in [path.name for path in clinic.studies.glob("synthetic-pet/*")]
    zipped = client.dicom("cascade3", clinic.ct_uid, version=number)
    assert len(zipfile.ZipFile(io.BytesIO(zipped)).namelist()) == SLICES
    after = client.slab("cascade3", clinic.ct_uid, 3, 5).told
    assert (after.version, after.checksum) == (newer.version, newer.checksum)  # what is served stayed
    with pytest.raises(RefusedError, match=rf"cascade3 has no version 99; it has 1, .*{newer.version}"):
        client.slab("cascade3", clinic.ct_uid, 3, 5, version=99)
    client.roll_back("cascade3", number)


def test_who_may_not_train_is_told_so(clinic: Clinic) -> None:
    client = clinic.client("ann")
    for ask in (lambda: client.train("unet"), lambda: client.roll_back("cascade3"), client.stop_training):
        with pytest.raises(ForbiddenError, match=r"may not do this: .*admin"):
            ask()


def test_a_connection_that_is_cut_once_is_not_noticed(clinic: Clinic, proxy: Proxy) -> None:
    """In the middle of the answer's head, and of its body; the third time it goes through."""
    client = clinic.client(url=proxy.url)
    proxy.cut_all()  # or the connection of the sign-in would be used again
    proxy.cuts = [30, 900]
    heard: list[str] = []
    slab = client.slab("cascade3", clinic.ct_uid, 3, 5, waiting=lambda error, _: heard.append(str(error)))
    assert slab.pet_volume().array.shape == (2, 64, 64)
    assert [sentence for sentence in heard if "was lost" in sentence] == heard
    assert len(heard) in (2, 3)  # and once more, if the cut connection was still thought good


def test_a_connection_that_stays_lost_is_told(clinic: Clinic, proxy: Proxy) -> None:
    client = clinic.client(url=proxy.url)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    before = proxy.connections
    with pytest.raises(UnreachableError, match="was lost"):
        client.slab("cascade3", clinic.ct_uid, 3, 5, retry_policy=RetryPolicy(0.5, first_s=0.05))
    assert proxy.connections - before >= 3


def test_what_must_not_be_done_twice_is_not_tried_twice(clinic: Clinic, proxy: Proxy) -> None:
    client = clinic.client(url=proxy.url)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    before = proxy.connections
    with pytest.raises(UnreachableError):
        client.train("unet")
    assert proxy.connections - before <= 1


def test_a_server_that_takes_too_long_is_not_given_the_same_work_twice(clinic: Clinic, proxy: Proxy) -> None:
    signed_in = clinic.client()
    client = Client(proxy.url, timeout_s=0.3, token=signed_in._token)
    proxy.holding.set()
    with pytest.raises(UnreachableError, match="did not answer in time"):
        client.studies()
    assert proxy.connections == 1


def test_a_client_that_was_interrupted_asks_nothing_more_and_its_sibling_does(client: Client) -> None:
    sibling = client.again()
    client.interrupt()
    with pytest.raises(CancelledError):
        client.studies()
    with pytest.raises(CancelledError):
        client.pause(60)
    assert len(sibling.studies()) >= 2


def test_another_programs_answer_is_not_taken_for_a_slab(clinic: Clinic, client: Client) -> None:
    with pytest.raises(InvalidResponseError, match="expected one of several parts"):
        read_slab(b"{}", "application/json", (0, 4))
