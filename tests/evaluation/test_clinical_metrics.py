"""Clinical metrics, on volumes of a few voxels."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lib.dicom.rtstruct import Contour
from lib.evaluation.clinical_metrics import JOINT_BINS, measure_clinical, tumour_of
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.imaging.geometry import Geometry
from lib.metrics.baselines import Baselines
from lib.metrics.uptake import HotVoxels
from tests.learning.conftest import BASELINES

SHAPE = (2, 4, 5)
# HU below 0: 0.5 by mean and median; above: 1.5 by mean, 1.0 by median; the constant is 1
BASELINE_PREDICTORS = Baselines.from_json(BASELINES)


def volumes() -> AlignedVolumes:
    """Soft tissue of SUV 1, predicted as 2; a tumour of two voxels, SUV 4 and 6, predicted as 3 and 2; air."""
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
    clinical = measure_clinical(volumes(), BASELINE_PREDICTORS)
    assert clinical.tumour is not None
    # voxels of 10 mm: the sphere of SUVpeak, 12 mm across, contains its centre only
    assert clinical.tumour["real"].as_json() == {"volume_ml": 2.0, "suv_mean": 5.0, "suv_max": 6.0, "suv_peak": 6.0}
    result = clinical.metrics("model")
    assert (result["tumour_suv_mean_error"], result["tumour_suv_max_error"]) == (2.5 - 5, 3 - 6)
    assert clinical.metrics("hu_mean")["tumour_suv_mean_error"] == 1.5 - 5
    assert clinical.metrics("zero")["tumour_suv_peak_error"] == -6


def test_hot_voxels_of_each_method() -> None:
    hot = measure_clinical(volumes(), BASELINE_PREDICTORS).hot
    assert hot["model"] == HotVoxels(real=2, shown=1, found=1)
    assert hot["hu_mean"] == HotVoxels(real=2, shown=0, found=0)
    assert set(hot) == {"model", "zero", "constant", "hu_mean", "hu_median"}


def test_the_level_of_the_body_and_the_agreement_of_its_voxels() -> None:
    clinical = measure_clinical(volumes(), BASELINE_PREDICTORS)
    # 32 voxels of body: 30 of 1 predicted as 2; 4 and 6 predicted as 3 and 2
    assert clinical.body_mean_suv["real"] == pytest.approx(40 / 32)
    assert clinical.body_mean_suv["model"] == pytest.approx(65 / 32)
    assert clinical.body_mean_suv["zero"] == 0
    assert clinical.voxels.mean_difference == pytest.approx((30 - 1 - 4) / 32)
    assert clinical.voxels.count == 32


def test_the_joint_histogram_counts_the_bodys_voxels() -> None:
    joint = measure_clinical(volumes(), BASELINE_PREDICTORS).joint
    step = 10 / JOINT_BINS
    assert joint.sum() == 32
    assert joint[int(1 / step), int(2 / step)] == 30
    assert joint[int(4 / step), int(3 / step)] == 1


def test_the_share_that_hu_explains() -> None:
    one_tissue = measure_clinical(volumes(), BASELINE_PREDICTORS).hu_share
    assert one_tissue["model"] == pytest.approx(0)  # one HU, several SUVs
    assert math.isnan(one_tissue["hu_mean"])  # constant where there is one HU
    ct_hu = volumes().ct_hu.copy()
    ct_hu[1] = -300
    two_tissues = replace(volumes(), ct_hu=ct_hu)
    assert measure_clinical(two_tissues, BASELINE_PREDICTORS).hu_share["hu_median"] == pytest.approx(1)


def test_without_a_contour_only_the_tumour_is_undefined() -> None:
    clinical = measure_clinical(replace(volumes(), tumour=None), BASELINE_PREDICTORS)
    result = json.loads(json.dumps(clinical.as_json(), allow_nan=False))
    assert result["tumour"] is None and result["hot_voxels"]["model"] == {"real": 2, "shown": 1, "found": 1}
    assert math.isnan(clinical.metrics("model")["tumour_suv_max_error"])


def test_without_a_body_all_metrics_are_undefined() -> None:
    clinical = measure_clinical(replace(volumes(), body=np.zeros(SHAPE, bool), tumour=None), BASELINE_PREDICTORS)
    assert math.isnan(clinical.body_mean_suv["model"]) and math.isnan(clinical.hu_share["model"])
    assert clinical.voxels.count == clinical.joint.sum() == 0
    json.dumps(clinical.as_json(), allow_nan=False)


def test_all_tumours_are_merged_without_organs() -> None:
    contours = [
        contour("GTV-1", columns=(0.5, 1.5)),
        contour("Heart", columns=(0.5, 4.5)),
        contour("GTV-2", columns=(2.5, 3.5)),
    ]
    mask, note = tumour_of(contours, volumes(), frame_of_reference_uid="1.2")
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[0, 1, 1], [0, 1, 3]]
    assert note == "GTV-1; GTV-2"


def test_a_contour_that_cannot_be_rasterised_is_reported_and_the_others_are_used() -> None:
    contours = [contour("GTV far", columns=(80, 90)), contour("GTV", columns=(0.5, 1.5))]
    mask, note = tumour_of(contours, volumes(), frame_of_reference_uid="1.2")
    assert mask is not None and mask.sum() == 1
    assert note == "left out: region 'GTV far' covers no voxel of the volume: it is outside it or between slices; GTV"


def test_without_contours_there_is_no_tumour() -> None:
    assert tumour_of([], volumes(), frame_of_reference_uid="1.2") == (None, "")
