"""The paper's nine patients as headers made from the archive's list: `pair` finds nine, those that `download` took."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.download.cohort import PAPER_PATIENTS, Selection, parse_cohort, select_cohort
from lib.download.idc import IndexedSeries, read_collection
from lib.pairing.pairs import PairingReport, pair_series
from tests.dicom.builders import COLUMNS, ROWS, write_series
from tests.download.conftest import idc_index  # noqa: F401  the fixture

IN_OTHER_STUDY = [f"Lung_Dx-B00{number}" for number in (36, 37, 38, 40, 43)]  # PAPER.md; counted in the list by hand
EVERY = 20  # of a series' images one file is written: which CT is taken does not depend on their number otherwise
APART_MM = {"Thorax  1.0": 0.7, "Thorax  5.0": 5.0, "CT WB": 5.0, "PET WB": 3.0, "": 3.0}  # by the description's start


def write_listed(folder: Path, series: IndexedSeries) -> None:
    """Write a series as the list has it, thinned; what the list lacks is that of one visit: place and frame."""
    mm = next(mm for start, mm in APART_MM.items() if series.description.startswith(start))
    count = max(3, series.images // EVERY)

    def place(k: int) -> dict[str, Any]:
        """The place of file k: every stack lies around the chest's middle and is as long as its images are."""
        z_mm = (k - (count - 1) / 2) * series.images * mm / count
        name = zlib.crc32(series.series_instance_uid.encode())
        return {"ImagePositionPatient": [-10, -20, round(z_mm, 3)], "SOPInstanceUID": f"1.2.{name}.{k + 1}"}

    colours = (
        {"SamplesPerPixel": 3, "PixelData": bytes(ROWS * COLUMNS * 3 * 2)}
        if series.photometric_interpretation == "RGB"
        else {}
    )
    kernel = re.search(r"B\d\df", series.description)
    write_series(
        folder / series.series_instance_uid,
        count=count,
        modality=series.modality,
        vary=place,
        SOPClassUID=series.sop_class_uid,
        PhotometricInterpretation=series.photometric_interpretation,
        PatientID=series.patient_id,
        StudyDate=series.study_date.replace("-", ""),
        StudyInstanceUID=series.study_instance_uid,
        SeriesInstanceUID=series.series_instance_uid,
        SeriesDescription=series.description,
        ConvolutionKernel=kernel.group() if kernel and series.modality == "CT" else None,
        FrameOfReferenceUID=f"1.2.{int(series.patient_id[-4:])}",
        SeriesDate=series.study_date.replace("-", ""),
        AcquisitionDate=series.study_date.replace("-", ""),
        **colours,
    )


@pytest.fixture(scope="module")
def selection(idc_index: None) -> Selection:  # noqa: F811
    return select_cohort(parse_cohort("paper"))


@pytest.fixture(scope="module")
def pairing(selection: Selection, tmp_path_factory: pytest.TempPathFactory) -> PairingReport:
    folder = tmp_path_factory.mktemp("paper")
    for series in read_collection("lung_pet_ct_dx"):
        if series.patient_id in PAPER_PATIENTS:
            write_listed(folder, series)
    return pair_series(scan_folder(folder))


def test_all_nine_have_a_pair(pairing: PairingReport) -> None:
    assert tuple(found.pair.pet.patient_id for found in pairing.pairs) == PAPER_PATIENTS


def test_five_have_their_ct_in_another_study_and_the_reason_says_so(pairing: PairingReport) -> None:
    across = [found for found in pairing.pairs if found.pair.ct.study_uid != found.pair.pet.study_uid]
    assert [found.pair.pet.patient_id for found in across] == IN_OTHER_STUDY
    assert all("the CT is of another study of that day" in found.reason for found in across)


def test_pair_takes_the_series_that_download_took(pairing: PairingReport, selection: Selection) -> None:
    found = {(of.pair.ct.uid, of.pair.pet.uid) for of in pairing.pairs}
    assert found == {(of.ct.series_instance_uid, of.pet.series_instance_uid) for of in selection.pairs}


def test_colour_fusions_are_refused_as_such(pairing: PairingReport) -> None:
    fusions = [alone.reason for alone in pairing.unpaired if "a colour image" in alone.reason]
    assert len(fusions) == 19  # the RGB series of the nine, counted in the list by hand
