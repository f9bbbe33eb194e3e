"""The app in this process: what is built when, and what an inference gives, keeps and refuses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct2pet_app.advice import detail_of
from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore import ct_source as uploads_module
from ct2pet_app.datastore.ct_source import OpenedCT
from ct2pet_app.errors import BusyError, NotFoundError, RequestError
from ct2pet_app.inference.memory import memory_need
from ct2pet_app.inference.request import InferOptions
from ct2pet_app.inference.task import SynthesisTask
from ct2pet_app.server.concurrency import IsDisconnected, never
from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import InputError, MemoryLimitError, ModelNotTrainedError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from lib.memory import MemoryBudget
from tests.ct2pet_app.constant_model import save_constant_model

MakeApp = Callable[..., CT2PETApp]
SUV = 2.5


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> CT2PETApp:
    """An app whose cascade3 predicts 2.5 SUV everywhere and whose unet is untrained."""
    built = make_app()
    built.models.publish("cascade3", save_constant_model(tmp_path / "constant.safetensors", SUV))
    return built


def infer(app: CT2PETApp, image: str, **params: Any) -> dict[str, Any]:
    return app.infer({"model": "cascade3", "image": image, **params})


def test_building_the_app_touches_no_study_and_no_weights(make_app: MakeApp, tmp_path: Path) -> None:
    make_app(studies=tmp_path / "missing")
    assert not (tmp_path / "models").exists()


def test_the_host_of_a_pacs_is_not_resolved_at_start(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: lookups.append(address) or [])
    make_app(studies="https://pacs.invalid/dicom-web")
    assert lookups == []


def test_an_address_with_a_password_is_refused_without_repeating_it(make_app: MakeApp) -> None:
    with pytest.raises(InputError, match="holds a user name or password; give them apart") as refusal:
        make_app(studies="https://doctor:secret@pacs.invalid/dicom-web")
    assert "secret" not in str(refusal.value)


def test_info_lists_trained_and_untrained_models(app: CT2PETApp) -> None:
    models = app.info()["models"]
    assert models["unet"]["description"].startswith("untrained: model unet is not trained yet; train it here")
    assert (models["unet"]["trained"], models["cascade3"]["trained"]) == (False, True)
    assert "NOT FOR DIAGNOSIS" in models["cascade3"]["description"]
    assert models["cascade3"]["card"]["network"]["stages"] == 3


def test_info_is_plain_json(app: CT2PETApp) -> None:
    assert json.loads(json.dumps(app.info(), allow_nan=False))["datastore"]["completed"] == 2


def test_a_synthetic_pet_has_the_position_of_the_ct(app: CT2PETApp, phantoms: Path, ct_uids: tuple[str, ...]) -> None:
    result = infer(app, ct_uids[0])
    pet = read_volume_file(Path(result["file"]), unit=Unit.SUV_BW)
    ct = read_ct(scan_folder(phantoms).usable("CT")[0].series)
    assert pet.geometry.same_grid_as(ct.geometry, tolerance_mm=1e-4)
    np.testing.assert_allclose(pet.array, SUV, rtol=1e-2)


def test_the_second_slab_of_a_ct_reads_nothing_again(
    app: CT2PETApp, ct_uids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = infer(app, ct_uids[0], metrics=False)
    monkeypatch.setattr(uploads_module, "read_ct_series", lambda series: pytest.fail(f"{series.uid} is read again"))
    slab = infer(app, ct_uids[0], slices="2:4", metrics=False)
    both = [read_volume_file(Path(result["file"]), unit=Unit.SUV_BW).array for result in (whole, slab)]
    np.testing.assert_array_equal(both[1], both[0][2:4])


def test_the_response_has_all_metadata(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    metadata = infer(app, ct_uids[0])["params"]
    assert (metadata["synthetic"], metadata["unit"], metadata["slices"], metadata["shape"]) == (
        True,
        "SUVbw",
        "0:6",
        [6, 64, 64],
    )
    assert "NOT FOR DIAGNOSIS" in metadata["notice"]
    assert metadata["suv"] == pytest.approx({"min": SUV, "max": SUV, "mean": SUV, "p99": SUV}, rel=1e-2)
    assert set(metadata["latencies"]) == {"read", "wait", "check", "synthesise", "measure", "write", "total"}
    assert metadata["model"]["checksum"] == app.models.synthesizer("cascade3").checksum
    assert metadata["model"]["card"]["name"] == "constant-3"
    assert set(metadata["metrics"]) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert metadata["seen_in_training"] is False
    json.dumps(metadata, allow_nan=False)


def test_a_slab_is_a_volume_of_just_that_slab(app: CT2PETApp, phantoms: Path, ct_uids: tuple[str, ...]) -> None:
    result = infer(app, ct_uids[0], slices="2:5", result_extension=".nii.gz")
    pet = read_volume_file(Path(result["file"]), unit=Unit.SUV_BW)
    ct = read_ct(scan_folder(phantoms).usable("CT")[0].series)
    assert pet.geometry.same_grid_as(ct.geometry.slab(slice(2, 5)), tolerance_mm=1e-4)
    assert result["params"]["slices"] == "2:5"
    assert result["params"]["metrics"]["model"]["mae_suv"] > 0


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".zip"])
def test_a_result_is_compressed_on_request(app: CT2PETApp, ct_uids: tuple[str, ...], extension: str) -> None:
    plain, packed = (
        Path(infer(app, ct_uids[0], result_extension=extension, result_compress=compress, metrics=False)["file"])
        for compress in (False, True)
    )
    assert packed.stat().st_size < plain.stat().st_size / 2


def test_metrics_can_be_left_out(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    metadata = infer(app, ct_uids[0], metrics=False)["params"]
    assert (metadata["metrics"], metadata["why_no_metrics"]) == (None, "not requested")


def test_a_ct_without_pet_has_no_metrics(make_app: MakeApp, phantoms: Path, tmp_path: Path) -> None:
    app = make_app(studies=phantoms / "PHANTOM_0001" / "CT")
    app.models.publish("cascade3", save_constant_model(tmp_path / "constant.safetensors", SUV))
    metadata = infer(app, app.datastore().list_images()[0])["params"]
    assert (metadata["metrics"], metadata["seen_in_training"]) == (None, None)


def test_a_result_can_be_kept_as_a_label(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    infer(app, ct_uids[0], save_label=True)
    assert app.datastore().status()["label_tags"] == {"final": 2, "synthetic": 1}
    assert app.datastore().get_label_info(ct_uids[0], "synthetic")["model"] == "cascade3"


@pytest.mark.parametrize("image", ["/etc/passwd", "/proc/self/environ", "../models", "."])
def test_a_path_is_looked_up_and_never_opened(app: CT2PETApp, image: str) -> None:
    with pytest.raises(NotFoundError, match="no image"):
        infer(app, image)


def test_a_real_file_of_the_server_is_not_opened_either(app: CT2PETApp, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no image"):
        infer(app, str(tmp_path / "constant.safetensors"))


def test_an_array_is_no_image(app: CT2PETApp) -> None:
    with pytest.raises(RequestError, match="give the SeriesInstanceUID"):
        app.infer({"model": "cascade3", "image": [1, 2, 3]})


def test_slides_are_not_opened(app: CT2PETApp) -> None:
    with pytest.raises(NotFoundError, match="whole-slide images are not supported"):
        app.infer_wsi({"model": "cascade3", "image": "/etc/passwd"})


@pytest.mark.parametrize("slices", ["5:99", "4:4"])
def test_slices_that_leave_the_ct_are_refused(app: CT2PETApp, ct_uids: tuple[str, ...], slices: str) -> None:
    with pytest.raises(InputError, match="not a range within the 6 slices"):
        infer(app, ct_uids[0], slices=slices)


def test_an_untrained_model_says_so(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    with pytest.raises(ModelNotTrainedError) as raised:
        app.infer({"model": "unet", "image": ct_uids[0]})
    assert "POST /train/unet" in detail_of(raised.value)


@pytest.mark.parametrize(
    ("limit_bytes", "held_bytes", "error", "message"),
    [
        (100_000, 0, MemoryLimitError, "the synthesis of 6 of 6 slices .* needs .* allowed are 0 MB: crop"),
        (10**9, 10**9, BusyError, "wait for memory"),
    ],
)
def test_an_inference_reserves_its_memory_before_a_pixel_is_read(
    app: CT2PETApp, ct_uids: tuple[str, ...], limit_bytes: int, held_bytes: int, error: type[Exception], message: str
) -> None:
    budget = MemoryBudget(limit_bytes, max_waiting=0)
    task = SynthesisTask("cascade3", app.models, budget=budget)
    source = app.studies_datastore.cts.image(ct_uids[0])

    @contextmanager
    def opened(is_disconnected: IsDisconnected) -> Iterator[OpenedCT]:
        with source.open(is_disconnected) as ct:
            yield replace(ct, read=lambda _: pytest.fail("read"))

    request = {"source": replace(source, open=opened), "options": InferOptions.from_params({}), "store": None}
    with budget.reserve(held_bytes, "others"), pytest.raises(error, match=message):
        task(request)


def test_metrics_that_need_too_much_memory_are_left_out_with_the_reason(
    app: CT2PETApp, ct_uids: tuple[str, ...]
) -> None:
    source, options = app.studies_datastore.cts.image(ct_uids[0]), InferOptions.from_params({})
    with source.open(never) as opened:
        card = app.models.find("cascade3").card
        need = memory_need(opened, options, card, pet_shape=source.pet_shape)
    assert need.metrics_bytes > need.synthesis_bytes  # of so few pixels; of a whole body they are alike
    task = SynthesisTask("cascade3", app.models, budget=MemoryBudget(need.metrics_bytes - 1))
    metadata = task({"source": source, "options": options, "store": None})[1]
    assert metadata["metrics"] is None and "comparing it with the real PET needs" in metadata["why_no_metrics"]
    task = SynthesisTask("cascade3", app.models, budget=MemoryBudget(need.metrics_bytes))
    assert task({"source": source, "options": options, "store": None})[1]["metrics"]


def test_the_next_ct_is_one_without_a_pet(make_app: MakeApp, phantoms: Path) -> None:
    without = make_app(studies=phantoms / "PHANTOM_0001" / "CT")
    image = without.datastore().list_images()[0]
    assert without.next_sample({"strategy": "first"})["id"] == image
    assert without.next_sample({"strategy": "random"})["id"] == image
    assert make_app().next_sample({"strategy": "first"}) == {}
