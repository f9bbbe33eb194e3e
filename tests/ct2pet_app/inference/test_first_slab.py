"""The first slab of a CT: only the slices that it needs are read, and it equals the slices of the whole volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct2pet_app.app import CT2PETApp
from lib.dicom.scan import open_ct
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.errors import ImageFileError, UnlikeTrainingError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit, Volume
from lib.learning.recipe import load_recipe
from lib.phantom.generate import PhantomSettings, write_phantoms
from lib.types import Series
from scripts.benchmarks.network import save_untrained
from tests.ct2pet_app.constant_model import save_constant_model
from tests.learning.familiarity.limbs import limb_reference

SLICES = 12
NETWORK = ("stages=1", "pixel_mm=6.0", "base_channels=2", "depth=1", "context_slices=3", "members=1")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom with more slices than a slab depends on."""
    folder = tmp_path_factory.mktemp("first-slab")
    write_phantoms(folder, patients=1, settings=PhantomSettings(slices=SLICES, ct_matrix=64, ct_pixel_mm=6.4))
    return folder


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], studies: Path, tmp_path: Path) -> CT2PETApp:
    """An app whose unet cannot judge CTs."""
    built = make_app(studies=studies)
    model = tmp_path / "untrained.safetensors"
    save_untrained(model, load_recipe(settings=NETWORK))
    built.models.publish("unet", model)
    return built


@pytest.fixture
def ct(studies: Path) -> ScannedSeries:
    (found,) = scan_folder(studies).usable("CT")
    return found


@pytest.fixture
def ct_uid(ct: ScannedSeries) -> str:
    return ct.series.uid


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The series that were read whole, in order."""
    series_uids: list[str] = []
    read = open_ct.read_ct

    def counted(series: Series, **progress: Any) -> Volume:
        series_uids.append(series.uid)
        return read(series, **progress)

    monkeypatch.setattr(open_ct, "read_ct", counted)
    return series_uids


def infer(app: CT2PETApp, image: str, **params: Any) -> tuple[Volume, dict[str, Any]]:
    """Return the PET and the metadata of a response."""
    result = app.infer({"model": "unet", "image": image, "metrics": False, **params})
    return read_volume_file(Path(result["file"]), unit=Unit.SUV_BW), result["params"]


@pytest.mark.parametrize("slices", ["0:4", "5:8", "9:12", "6:7"])
def test_it_is_read_alone_and_equals_the_whole(app: CT2PETApp, ct_uid: str, read_whole: list[str], slices: str) -> None:
    first, metadata = infer(app, ct_uid, slices=slices)
    assert read_whole == []
    again, expected = infer(app, ct_uid, slices=slices)
    assert read_whole == [ct_uid]
    whole, _ = infer(app, ct_uid)
    assert read_whole == [ct_uid]  # cached
    start, stop = map(int, slices.split(":"))
    np.testing.assert_array_equal(first.array, whole.array[start:stop])
    np.testing.assert_array_equal(first.array, again.array)
    np.testing.assert_array_equal(first.geometry.affine, again.geometry.affine)
    del metadata["latencies"], expected["latencies"]
    assert metadata == expected
    assert np.ptp(first.array) > 0.05


def test_a_region_of_it_has_the_uptake_of_the_whole(app: CT2PETApp, ct: ScannedSeries, read_whole: list[str]) -> None:
    assert ct.geometry is not None
    region = {"center_mm": ct.geometry.corners_mm().mean(axis=0).tolist(), "radius_mm": 30}
    first, again = (infer(app, ct.series.uid, slices="4:8", region=region)[1]["region"] for _ in range(2))
    assert read_whole == [ct.series.uid]
    assert first == again and first["volume_ml"] > 0


@pytest.mark.parametrize("params", [{}, {"slices": "4:8", "metrics": True}])
def test_a_whole_volume_and_metrics_need_every_slice(
    app: CT2PETApp, ct_uid: str, read_whole: list[str], params: dict[str, Any]
) -> None:
    infer(app, ct_uid, **params)
    assert read_whole == [ct_uid]


def test_a_model_that_judges_cts_reads_every_slice_first(
    app: CT2PETApp, ct_uid: str, read_whole: list[str], tmp_path: Path
) -> None:
    model = save_constant_model(tmp_path / "limbs.safetensors", 2.5, stages=1, familiarity=limb_reference())
    app.models.publish("unet", model)
    with pytest.raises(UnlikeTrainingError, match="unlike the training CTs"):
        infer(app, ct_uid, slices="4:8")
    assert read_whole == [ct_uid]


def test_a_ct_that_cannot_be_read_in_part_is_read_whole(
    app: CT2PETApp, ct_uid: str, read_whole: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.imaging.validation.MIN_TISSUE", 0.9)  # as if the slab showed nothing but air
    with pytest.raises(ImageFileError, match="not a CT in HU"):
        infer(app, ct_uid, slices="4:8")
    assert read_whole == [ct_uid]
