"""Selection from the archive's index: the paper's numbers, and the selected series."""

from __future__ import annotations

from collections import Counter

import pytest

from lib.download.cohort import PAPER_PATIENTS, Selection, census, parse_cohort, select_cohort
from lib.download.idc import IndexedSeries, read_collection, read_sources
from lib.download.selection import why_not
from lib.errors import InputError


@pytest.fixture(scope="module")
def lung(idc_index: None) -> tuple[IndexedSeries, ...]:
    return read_collection("lung_pet_ct_dx")


@pytest.fixture(scope="module")
def paper(idc_index: None) -> Selection:
    return select_cohort(parse_cohort("paper"))


def test_index_agrees_with_the_paper(lung: tuple[IndexedSeries, ...]) -> None:
    everything = census(lung)
    assert (everything.patients, everything.images) == (355, 251_135)
    assert (everything.ct_images, everything.pet_images) == (205_459, 45_676)
    type_b = census(series for series in lung if series.patient_id.startswith("Lung_Dx-B"))
    assert type_b.patients == 38
    assert type_b.patients_with_both == PAPER_PATIENTS and len(PAPER_PATIENTS) == 9


def test_the_papers_nine_patients_have_its_12930_images(paper: Selection) -> None:
    assert paper.archive.patients_with_both == PAPER_PATIENTS
    assert (paper.archive.images, paper.archive.ct_images, paper.archive.pet_images) == (12_930, 10_257, 2_673)


def test_a_ct_and_a_pet_are_chosen_for_each_of_the_nine(paper: Selection) -> None:
    assert paper.patients == PAPER_PATIENTS and paper.left_out == ()
    assert (len(paper.series), paper.images) == (18, 5_704)
    assert paper.licences == ("CC BY 4.0",) and paper.dois == ("10.7937/tcia.2020.nnc2-0461",)
    assert Counter(series.description for series in paper.series) == {
        "PET WB Corrected": 9, "Thorax  1.0  B31f": 7, "CT WB  1.0  B30f": 2,
    }  # fmt: skip


def test_only_four_of_the_nine_have_a_ct_in_the_pets_study(paper: Selection) -> None:
    joined = [pair.pet.patient_id for pair in paper.pairs if pair.in_one_study]
    assert joined == [f"Lung_Dx-B00{number}" for number in (33, 34, 41, 42)]
    assert all(pair.ct.study_date == pair.pet.study_date for pair in paper.pairs)


def test_every_colour_fusion_of_the_collection_is_refused(lung: tuple[IndexedSeries, ...]) -> None:
    fusions = [series for series in lung if series.photometric_interpretation == "RGB"]
    assert len(fusions) == 281 and all(series.modality == "CT" and why_not(series) for series in fusions)


def test_lung_gives_all_133_patients_a_pair(idc_index: None) -> None:
    selection = select_cohort(parse_cohort("lung"))
    assert len(selection.patients) == len(selection.pairs) == 133
    assert sum(pair.in_one_study for pair in selection.pairs) == 103


@pytest.mark.parametrize(
    ("collection", "patients", "pairs"),
    [("soft-tissue-sarcoma", 51, 51), ("fdg_pet_ct_lesions", 900, 1014), ("psma_pet_ct_lesions", 378, 597)],
)
def test_clean_collections_give_every_study_a_pair(idc_index: None, collection: str, patients: int, pairs: int) -> None:
    selection = select_cohort(parse_cohort(f"idc:{collection}"))
    assert (len(selection.patients), len(selection.pairs), selection.left_out) == (patients, pairs, ())


def test_few_patients_are_those_that_can_be_paired(idc_index: None) -> None:
    selection = select_cohort(parse_cohort("paper"), patients=2)
    assert selection.patients == ("Lung_Dx-B0033", "Lung_Dx-B0034")
    five = select_cohort(parse_cohort("paper"), patients=5)
    assert five.patients == tuple(f"Lung_Dx-B00{number}" for number in (33, 34, 36, 41, 42))


def test_sizes_are_exact(lung: tuple[IndexedSeries, ...]) -> None:
    # 150.939578 MB in the list; 286 slices of 512 x 512 x 2 bytes are 149.94 MB, the rest are headers
    ct = next(s for s in lung if s.patient_id == "Lung_Dx-B0033" and s.description == "Thorax  1.0  B31f")
    assert ct.size_bytes == 150_939_578


def test_authors_licence_and_doi_are_known(idc_index: None) -> None:
    source = read_sources("lung_pet_ct_dx")["10.7937/tcia.2020.nnc2-0461"]
    assert source.title == "A Large-Scale CT and PET/CT Dataset for Lung Cancer Diagnosis"
    assert "& Wang, D. (2020)" in source.citation and "<i>" not in source.citation
    assert source.licence_url == "https://creativecommons.org/licenses/by/4.0/"


@pytest.mark.parametrize("text", ["papers", "idc:", "tcia:lung", ""])
def test_unknown_cohort_error_lists_known_cohorts(text: str) -> None:
    with pytest.raises(InputError, match=r"expected paper, lung or idc:COLLECTION"):
        parse_cohort(text)


def test_unknown_collection_error_suggests_similar_names(idc_index: None) -> None:
    with pytest.raises(InputError, match=r"no CT or PET under this name; similar names: soft_tissue_sarcoma"):
        select_cohort(parse_cohort("idc:soft_tissue"))


def test_a_collection_without_pet_is_refused(idc_index: None) -> None:
    with pytest.raises(InputError, match=r"no patient has a usable CT and PET \(0 have both"):
        select_cohort(parse_cohort("idc:nlst"))
