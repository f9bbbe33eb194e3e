"""What a reader of PET would find, on volumes of a few voxels."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lib.dicom.rtstruct import Contour
from lib.evaluation.clinical_metrics import JOINT_BINS, read_pair, tumour_of
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.imaging.geometry import Geometry
from lib.metrics.baselines import Baselines
from lib.metrics.uptake import HotVoxels
from tests.learning.conftest import BASELINES

SHAPE = (2, 4, 5)
# HU below 0: 0.5 by mean and median; above: 1.5 by mean, 1.0 by median; the constant is 1
TRIVIAL = Baselines.from_json(BASELINES)


def volumes() -> AlignedVolumes:
    """Soft tissue of SUV 1, drawn as SUV 2; a tumour of two voxels, SUV 4 and 6, drawn as 3 and 2; air at one side."""
    body = np.ones(SHAPE, bool)
    body[:, :, 0] = False
    real = body.astype(np.float32)
    synthetic = 2 * real
    real[0, 1, 1:3], synthetic[0, 1, 1:3] = (4, 6), (3, 2)
    tumour = np.zeros(SHAPE, bool)
    tumour[0, 1, 1:3] = True
    geometry = Geometry.from_dicom(
        SHAPE,
        first_position_mm=(0, 0, 0),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(10, 10),
        slice_spacing_mm=10,
    )
    ct_hu = np.where(body, 40, -1000).astype(np.float32)
    return AlignedVolumes(ct_hu, synthetic, real, body, np.ones(SHAPE, bool), geometry, tumour)


def contour(name: str, *, columns: tuple[float, float], frame: str = "1.2") -> Contour:
    """Row 1 of slice 0, between two columns."""
    low, high = (10 * column for column in columns)
    polygon = np.array([(low, 5, 0), (high, 5, 0), (high, 15, 0), (low, 15, 0)], float)
    return Contour(name, "", frame, (polygon,))


def test_a_tumours_uptake_and_its_errors() -> None:
    reading = read_pair(volumes(), TRIVIAL)
    assert reading.tumour is not None
    # voxels of 10 mm: the sphere of SUVpeak, 12 mm across, holds its centre only
    assert reading.tumour["real"].as_json() == {"volume_ml": 2.0, "suv_mean": 5.0, "suv_max": 6.0, "suv_peak": 6.0}
    told = reading.figures("model")
    assert (told["tumour_suv_mean_error"], told["tumour_suv_max_error"]) == (2.5 - 5, 3 - 6)
    assert reading.figures("hu_mean")["tumour_suv_mean_error"] == 1.5 - 5
    assert reading.figures("zero")["tumour_suv_peak_error"] == -6


def test_hot_voxels_of_each_method() -> None:
    hot = read_pair(volumes(), TRIVIAL).hot
    assert hot["model"] == HotVoxels(real=2, shown=1, found=1)
    assert hot["hu_mean"] == HotVoxels(real=2, shown=0, found=0)
    assert set(hot) == {"model", "zero", "constant", "hu_mean", "hu_median"}


def test_the_bodys_level_and_how_its_voxels_agree() -> None:
    reading = read_pair(volumes(), TRIVIAL)
    # 32 voxels of body: 30 of 1 drawn as 2; 4 and 6 drawn as 3 and 2
    assert reading.body_mean_suv["real"] == pytest.approx(40 / 32)
    assert reading.body_mean_suv["model"] == pytest.approx(65 / 32)
    assert reading.body_mean_suv["zero"] == 0
    assert reading.voxels.mean_difference == pytest.approx((30 - 1 - 4) / 32)
    assert reading.voxels.count == 32


def test_the_joint_histogram_counts_the_bodys_voxels() -> None:
    joint = read_pair(volumes(), TRIVIAL).joint
    step = 10 / JOINT_BINS
    assert joint.sum() == 32
    assert joint[int(1 / step), int(2 / step)] == 30
    assert joint[int(4 / step), int(3 / step)] == 1


def test_how_much_is_a_lookup() -> None:
    one_tissue = read_pair(volumes(), TRIVIAL).hu_share
    assert one_tissue["model"] == pytest.approx(0)  # one HU, several SUVs
    assert math.isnan(one_tissue["hu_mean"])  # flat where there is one HU
    ct_hu = volumes().ct_hu.copy()
    ct_hu[1] = -300
    two_tissues = replace(volumes(), ct_hu=ct_hu)
    assert read_pair(two_tissues, TRIVIAL).hu_share["hu_median"] == pytest.approx(1)


def test_without_a_contour_the_tumour_is_undefined_and_the_rest_is_told() -> None:
    reading = read_pair(replace(volumes(), tumour=None), TRIVIAL)
    told = json.loads(json.dumps(reading.as_json(), allow_nan=False))
    assert told["tumour"] is None and told["hot_voxels"]["model"] == {"real": 2, "shown": 1, "found": 1}
    assert math.isnan(reading.figures("model")["tumour_suv_max_error"])


def test_without_a_body_nothing_is_defined() -> None:
    reading = read_pair(replace(volumes(), body=np.zeros(SHAPE, bool), tumour=None), TRIVIAL)
    assert math.isnan(reading.body_mean_suv["model"]) and math.isnan(reading.hu_share["model"])
    assert reading.voxels.count == reading.joint.sum() == 0
    json.dumps(reading.as_json(), allow_nan=False)


def test_all_tumours_are_taken_together_and_organs_are_not() -> None:
    drawn = [
        contour("GTV-1", columns=(0.5, 1.5)),
        contour("Heart", columns=(0.5, 4.5)),
        contour("GTV-2", columns=(2.5, 3.5)),
    ]
    mask, note = tumour_of(drawn, volumes(), frame_of_reference_uid="1.2")
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[0, 1, 1], [0, 1, 3]]
    assert note == "GTV-1; GTV-2"


def test_a_contour_that_cannot_be_filled_is_told_and_the_rest_is_taken() -> None:
    drawn = [contour("GTV far", columns=(80, 90)), contour("GTV", columns=(0.5, 1.5))]
    mask, note = tumour_of(drawn, volumes(), frame_of_reference_uid="1.2")
    assert mask is not None and mask.sum() == 1
    assert note == "left out: region 'GTV far' covers no voxel of the volume: it is outside it or between slices; GTV"


def test_no_contour_is_no_tumour() -> None:
    assert tumour_of([], volumes(), frame_of_reference_uid="1.2") == (None, "")
