"""Phantoms are scanned, paired and read like clinical studies, without warnings."""

from __future__ import annotations

import numpy as np
import pytest

from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import ScanReport, scan_folder
from lib.pairing.pairs import pair_series
from lib.phantom.generate import PhantomSettings, phantom_patient, write_phantoms

SETTINGS = PhantomSettings(slices=24, ct_matrix=96, ct_pixel_mm=4.2)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ScanReport:
    out = tmp_path_factory.mktemp("phantoms")
    write_phantoms(out, patients=2, settings=SETTINGS)
    return scan_folder(out)


def test_every_series_is_usable_without_a_warning(report: ScanReport) -> None:
    assert len(report.studies) == 2 and not report.skipped
    assert [series.reason for series in report.series] == [None] * 4
    assert [series.warnings for series in report.series] == [()] * 4


def test_each_patient_is_a_pair(report: ScanReport) -> None:
    paired = pair_series(report)
    assert [x.pair.ct.patient_id for x in paired.pairs] == ["PHANTOM_0001", "PHANTOM_0002"]
    assert not paired.unpaired


def test_reading_returns_the_written_values(report: ScanReport) -> None:
    for x in pair_series(report).pairs:
        truth = phantom_patient(int(x.pair.ct.patient_id[-4:]), 0, SETTINGS)
        ct, pet = read_ct(x.pair.ct), read_pet(x.pair.pet)
        np.testing.assert_array_equal(ct.array, truth.ct.array)
        assert ct.geometry.same_grid_as(truth.ct.geometry) and pet.geometry.same_grid_as(truth.pet.geometry)
        # 16 bits hold each slice to half of 1/32767 of its hottest voxel
        np.testing.assert_allclose(pet.array, truth.pet.array, atol=0.51 / 32767 * truth.pet.array.max())
