"""Enhanced PET gives the same SUV as its single-frame source, or is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from lib.dicom.instance_header import BedHeader, PetHeader
from lib.dicom.read.multiframe import read_frame_headers
from lib.dicom.read.volume import read_activity, read_pet
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.errors import DicomError
from lib.types import FloatArray
from tests.dicom.enhanced import item, read_slices, write_multi_frame
from tests.dicom.enhanced_macros import code

Edit = Callable[[FileDataset], None]


@pytest.fixture(scope="module")
def suv(study: Path) -> FloatArray:
    """SUVbw of the single-frame series."""
    return read_pet(scan_folder(study / "PET").series[0].series).array


def found_in(study: Path, folder: Path, edit: Edit, *, count: int = 24) -> ScannedSeries:
    """The Enhanced PET of the phantom, changed."""
    write_multi_frame(read_slices(study / "PET")[:count], folder, kind="enhanced", edit=edit)
    (found,) = scan_folder(folder).series
    return found


def first_header(study: Path, folder: Path, edit: Edit) -> tuple[PetHeader, BedHeader]:
    (path,) = write_multi_frame(read_slices(study / "PET")[:2], folder, kind="enhanced", edit=edit)
    shared = read_frame_headers(path)[0].header.shared
    assert shared.pet is not None and shared.bed is not None
    return shared.pet, shared.bed


def unchanged(dataset: FileDataset) -> None:
    """Do not change the file."""


def mappings(dataset: FileDataset) -> list[Dataset]:
    groups = [dataset.SharedFunctionalGroupsSequence[0], *dataset.PerFrameFunctionalGroupsSequence]
    return [one for group in groups for one in group.get("RealWorldValueMappingSequence", ())]


def in_units(value: str, *, times: float) -> Edit:
    def edit(dataset: FileDataset) -> None:
        for mapping in mappings(dataset):
            mapping.RealWorldValueSlope = mapping.RealWorldValueSlope * times
            mapping.MeasurementUnitsCodeSequence = code(value, "UCUM", value)

    return edit


def test_the_header_is_that_of_a_single_frame_pet(study: Path, tmp_path: Path) -> None:
    pet, bed = first_header(study, tmp_path, unchanged)
    old = read_slices(study / "PET")[0]
    injection = old.RadiopharmaceuticalInformationSequence[0]
    assert pet.dose_bq == float(injection.RadionuclideTotalDose)  # MBq in the file
    assert pet.corrected_image == ("DECY", "ATTN", "SCAT", "DTIM", "RAN", "DCAL", "NORM")
    assert (pet.units, pet.suv_type, pet.decay_correction) == ("BQML", "", "START")
    assert (pet.nuclide_code, pet.injection_datetime) == ("77004003", injection.RadiopharmaceuticalStartDateTime)
    assert pet.decay_correction_datetime == f"{old.SeriesDate}{old.SeriesTime}.000000"
    assert (bed.acquisition_date, float(bed.acquisition_time)) == (old.AcquisitionDate, float(old.AcquisitionTime))
    assert bed.frame_duration_s == 180.0
    assert bed.frame_reference_time_s == pytest.approx(float(old.FrameReferenceTime) / 1000, abs=1e-3)
    assert bed.decay_factor == pytest.approx(float(old.DecayFactor))


def dose_in_bq(dataset: FileDataset) -> None:
    """Write values that violate the standard but are unambiguous."""
    agent = dataset.RadiopharmaceuticalInformationSequence[0]
    agent.RadionuclideTotalDose = f"{float(agent.RadionuclideTotalDose) * 1e6:.0f}"


def with_an_offset(dataset: FileDataset) -> None:
    """Write all times in UTC+1 with offsets."""
    dataset.TimezoneOffsetFromUTC = "+0100"
    dataset.DecayCorrectionDateTime += "+0100"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        content = group.FrameContentSequence[0]
        content.FrameAcquisitionDateTime += "+0100"
        content.FrameReferenceDateTime += "+0100"


def in_utc(dataset: FileDataset) -> None:
    """Write the reference time in UTC: the same instant."""
    with_an_offset(dataset)
    moment = dataset.DecayCorrectionDateTime
    dataset.DecayCorrectionDateTime = f"{moment[:8]}{int(moment[8:10]) - 1:02d}{moment[10:14]}+0000"


def a_second_agent(dataset: FileDataset) -> None:
    """Add agent 1 of another tracer, which the frames do not use; theirs becomes agent 2."""
    (own,) = dataset.RadiopharmaceuticalInformationSequence
    other = deepcopy(own)
    other.RadionuclideTotalDose, other.RadiopharmaceuticalAgentNumber = "1", 1
    own.RadiopharmaceuticalAgentNumber = 2
    dataset.RadiopharmaceuticalInformationSequence = Sequence([other, own])
    usage = dataset.SharedFunctionalGroupsSequence[0].RadiopharmaceuticalUsageSequence
    usage[0].RadiopharmaceuticalAgentNumber = 2


def series_stored_later(dataset: FileDataset) -> None:
    """Change SeriesTime, which does not affect decay in an Enhanced PET."""
    dataset.SeriesDate, dataset.SeriesTime = "20300101", "235959"


def a_reference_time_that_repeats_the_start(dataset: FileDataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        content = group.FrameContentSequence[0]
        content.FrameReferenceDateTime = content.FrameAcquisitionDateTime


def units_by_rescale_type(dataset: FileDataset) -> None:
    """Remove the mapping: the slope converts to the units of RescaleType."""
    rescale = dataset.SharedFunctionalGroupsSequence[0].pop("PixelValueTransformationSequence").value
    for group in dataset.PerFrameFunctionalGroupsSequence:
        mapping = group.pop("RealWorldValueMappingSequence").value[0]
        group.PixelValueTransformationSequence = deepcopy(rescale)
        group.PixelValueTransformationSequence[0].RescaleSlope = f"{mapping.RealWorldValueSlope:.10g}"
        group.PixelValueTransformationSequence[0].RescaleType = "BQML"


def also_suv(dataset: FileDataset) -> None:
    """Add a second mapping of each frame, to a wrong SUV: the mapping to activity is preferred."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        wrong = deepcopy(group.RealWorldValueMappingSequence[0])
        wrong.RealWorldValueSlope, wrong.MeasurementUnitsCodeSequence = 1.0, code("{SUVbw}g/ml", "UCUM", "SUVbw")
        group.RealWorldValueMappingSequence.insert(0, wrong)


SAME: dict[str, Edit] = {
    "dose in Bq": dose_in_bq,
    "offsets": with_an_offset,
    "reference time in UTC": in_utc,
    "a second agent": a_second_agent,
    "stored later": series_stored_later,
    "start repeated": a_reference_time_that_repeats_the_start,
    "RescaleType BQML": units_by_rescale_type,
    "kBq/ml": in_units("kBq/ml", times=1e-3),
    "SUV and activity": also_suv,
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_the_suv_stays_the_same(study: Path, suv: FloatArray, tmp_path: Path, edit: Edit) -> None:
    found = found_in(study, tmp_path, edit)
    assert (found.reason, found.suv, found.warnings) == (None, "BQML -> SUVbw", ())
    np.testing.assert_allclose(read_pet(found.series).array, suv, rtol=1e-5)


def test_decay_correction_to_the_injection(study: Path, suv: FloatArray, tmp_path: Path) -> None:
    def edit(dataset: FileDataset) -> None:
        agent = dataset.RadiopharmaceuticalInformationSequence[0]
        dataset.DecayCorrectionDateTime = agent.RadiopharmaceuticalStartDateTime
        for group in (*dataset.PerFrameFunctionalGroupsSequence, *dataset.SharedFunctionalGroupsSequence):
            group.pop("PETFrameCorrectionFactorsSequence", None)  # whose DecayFactor counts to the start of the series

    found = found_in(study, tmp_path, edit)
    old = read_slices(study / "PET")[0]
    agent = old.RadiopharmaceuticalInformationSequence[0]
    weight_g, dose_bq = float(old.PatientWeight) * 1000, float(agent.RadionuclideTotalDose)
    np.testing.assert_allclose(
        read_pet(found.series).array, read_activity(found.series).array * (weight_g / dose_bq), rtol=1e-5
    )
    assert first_header(study, tmp_path / "again", edit)[0].decay_correction == "ADMIN"


@pytest.mark.parametrize(("value", "suv_type"), [("g/ml{SUVbw}", "BW"), ("{SUVbw}g/ml", "BW")])
def test_real_world_value_mapping_to_suv(study: Path, tmp_path: Path, value: str, suv_type: str) -> None:
    edit = in_units(value, times=1e-4)
    found = found_in(study, tmp_path, edit)
    assert found.suv == "SUVbw (GML)"
    single = read_activity(scan_folder(study / "PET").series[0].series).array
    np.testing.assert_allclose(read_pet(found.series).array, single * 1e-4, rtol=1e-5)
    assert first_header(study, tmp_path / "again", edit)[0].suv_type == suv_type


@pytest.mark.parametrize(
    ("value", "units", "suv_type"),
    [
        ("{SUVlbm}g/ml", "GML", "LBM"), ("{SUVlbm(James128)}g/ml", "GML", "LBMJAMES128"),
        ("{SUVlbm(Janma)}g/ml", "GML", "LBMJANMA"), ("{SUVibw}g/ml", "GML", "IBW"),
        ("{SUVbsa}cm2/ml", "CM2ML", "BSA"), ("{counts}", "CNTS", ""), ("{propcounts}", "PROPCNTS", ""),
        ("{propcounts}/s", "PROPCPS", ""),
    ],
)  # fmt: skip
def test_units_are_converted_to_single_frame_terms(
    study: Path, tmp_path: Path, value: str, units: str, suv_type: str
) -> None:
    pet, _ = first_header(study, tmp_path, in_units(value, times=1.0))
    assert (pet.units, pet.suv_type) == (units, suv_type)


def not_corrected(what: str) -> Edit:
    def edit(dataset: FileDataset) -> None:
        setattr(dataset, f"{what}Corrected", "NO")

    return edit


def without_units(dataset: FileDataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.RealWorldValueMappingSequence


def without_reference_time(dataset: FileDataset) -> None:
    del dataset.DecayCorrectionDateTime


def without_dose(dataset: FileDataset) -> None:
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = None


def two_activities(dataset: FileDataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        other = deepcopy(group.RealWorldValueMappingSequence[0])
        other.RealWorldValueSlope = 2 * other.RealWorldValueSlope
        group.RealWorldValueMappingSequence.append(other)


def slope_and_mapping_that_differ(dataset: FileDataset) -> None:
    dataset.Units = "BQML"  # then RescaleSlope, 1 in these files, leads to Bq/mL as well


def counts(dataset: FileDataset) -> None:
    in_units("{propcounts}", times=1.0)(dataset)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (not_corrected("Attenuation"), "not attenuation-corrected"),
        (without_units, "Units is missing"),
        (two_activities, "2 different real world value mappings to BQML, expected one"),
        (slope_and_mapping_that_differ, "both convert to Bq/mL but differ; correct the header"),
        (counts, "Units PROPCNTS"),
    ],
)
def test_unusable_real_world_values_are_refused(study: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    found = found_in(study, tmp_path, edit)
    assert message in (found.reason or "usable")
    with pytest.raises(DicomError):
        read_pet(found.series)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without_reference_time, "DecayCorrection is missing"),
        (without_dose, "RadionuclideTotalDose is missing"),
    ],
)
def test_activity_without_suv(study: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    found = found_in(study, tmp_path, edit)
    assert found.reason is None and message in (found.suv or "")
    assert read_activity(found.series).array.max() > 0


def test_time_frames_are_named(study: Path, tmp_path: Path) -> None:
    def edit(dataset: FileDataset) -> None:
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            group.FrameContentSequence[0].TemporalPositionIndex = 1 + number // 6

    slices = read_slices(study / "PET")[:6]
    write_multi_frame([*slices, *slices], tmp_path, kind="enhanced", edit=edit)
    (found,) = scan_folder(tmp_path).series
    assert "time frames: it has one position at 2 times (TemporalPositionIndex)" in (found.reason or "")


def test_beds_with_different_times_are_not_time_frames(study: Path, suv: FloatArray, tmp_path: Path) -> None:
    def edit(dataset: FileDataset) -> None:
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            group.FrameContentSequence[0].TemporalPositionIndex = 1 + number // 20

    np.testing.assert_allclose(read_pet(found_in(study, tmp_path, edit).series).array, suv, rtol=1e-5)


def test_gated_series_type(study: Path, tmp_path: Path) -> None:
    def edit(dataset: FileDataset) -> None:
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.CardiacSynchronizationSequence = [item(NominalPercentageOfCardiacPhase=50.0)]

    slices = read_slices(study / "PET")[:6]
    write_multi_frame([*slices, *slices], tmp_path, kind="enhanced", edit=edit)
    (found,) = scan_folder(tmp_path).series
    assert "SeriesType GATED: 6 of 12 slices" in (found.reason or "")
