"""Which CT and PET of the archive are fetched; descriptions are real ones of idc-index-data 25.0.5."""

from __future__ import annotations

import pytest

from lib.download.idc import IndexedSeries
from lib.download.selection import ChosenPair, choose_pairs, why_not
from tests.download.idc_server import listed

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("modality", "description", "words"),
    [
        ("CT", "Topogram  1.0  T80s", "a scout"),
        ("CT", "CT SCOUT HEAD IN WB", "a scout"),
        ("CT", "Range-CT WB  1.0  B30f-Tra-<ALPHA Range>", "a colour fusion"),
        ("CT", "FUSED SAG", "a colour fusion"),
        ("CT", "MIP_R1 CTAC", "a projection"),
        ("CT", "COR CT", "not axial"),
        ("CT", "Processed Images", "a report"),
        ("PT", "SAG PET", "not axial"),
        ("PT", "CORONAL TOMO", "not axial"),
        ("PT", "MIP", "a projection"),
        ("PT", "PET WB-uncorrected", "not corrected"),
        ("PT", "WBNAC.img: Body-noattn", "not corrected"),
        ("PT", "TORSO_3D_NAC", "not corrected"),
        ("PT", "No AC Recon", "not corrected"),
        ("PT", "PET_BODY_NO_AC", "not corrected"),
        ("PT", "PET NOAC WB", "not corrected"),
        ("PT", "WB_3D_NON-AC", "not corrected"),
    ],
)
def test_a_description_that_says_it_is_unusable_is_believed(modality: str, description: str, words: str) -> None:
    reason = why_not(listed(modality, description=description))
    assert reason is not None and reason.startswith(words)


@pytest.mark.parametrize(
    ("modality", "description"),
    [
        ("CT", "Thorax  1.0  B31f"),
        ("CT", "CT Atten Cor Head In"),  # a correction, not coronal
        ("CT", "CT FUSION"),  # grey CT Image Storage, in 52 studies of nsclc_radiogenomics the only axial one
        ("CT", "Body-Low Dose CT"),
        ("PT", "PET WB Corrected"),
        ("PT", "PET corr."),
        ("PT", "WB_3D_attn-corr"),
        ("PT", "TopY_OSEM_28s_2it_NoPost"),
        ("PT", "ctac.img: LOR-RAMLA"),
        ("PT", ""),
    ],
)
def test_other_descriptions_are_usable(modality: str, description: str) -> None:
    assert why_not(listed(modality, description=description)) is None


def test_a_colour_picture_is_told_by_its_class_or_its_colours() -> None:
    assert "fusion" in str(why_not(listed(sop_class_uid=SECONDARY_CAPTURE)))
    assert "fusion" in str(why_not(listed(photometric_interpretation="MONOCHROME2,RGB")))


def test_a_handful_of_images_is_no_volume() -> None:
    assert why_not(listed(images=20)) is None
    assert why_not(listed(images=19)) == "only 19 images"


def test_what_others_computed_is_not_measured() -> None:
    assert "computed (some_model)" in str(why_not(listed(analysis_result_id="some_model")))


def only(*series: IndexedSeries) -> ChosenPair:
    pairs, left_out = choose_pairs(series)
    assert len(pairs) == 1 and not left_out
    return pairs[0]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("CT WB  1.0  B30f", "Thorax  1.0  B31f"),  # made for the PET, covers it
        ("CTAC", "CT FUSION"),
        ("Thorax  1.0  B31f", "Thorax  1.0  B70f"),  # a soft kernel
        ("CT 2.5MM STD", "CT 2.5MM LUNG"),
    ],
)
def test_the_ct_that_serves_the_pet_best_is_taken(better: str, worse: str) -> None:
    good, bad = listed(description=better, images=50), listed(description=worse, images=400)
    assert only(bad, good, listed("PT")).ct is good
    assert only(good, bad, listed("PT")).ct is good


def test_among_alike_cts_the_one_with_most_images_is_taken() -> None:
    thin, thick = (
        listed(description="Thorax  1.0  B31f", images=342),
        listed(description="Thorax  5.0  B31f", images=48),
    )
    assert only(thick, thin, listed("PT")).ct is thin


@pytest.mark.parametrize(
    ("better", "worse"),
    [("PET AC", "PET WB"), ("PET FDG SUV", "Gated 10mm OSEM I2 S20"), ("WB MAC P690", "WB NAC P690")],
)
def test_the_corrected_pet_is_taken_before_gated_ones(better: str, worse: str) -> None:
    good, bad = listed("PT", description=better, images=50), listed("PT", description=worse, images=400)
    assert only(listed(), bad, good).pet is good


def test_a_ct_of_the_pets_own_study_goes_before_a_better_one_of_another() -> None:
    own = listed(description="Thorax  1.0  B70f")
    other = listed(description="CT WB  1.0  B30f", study_instance_uid="9.9", images=900)
    chosen = only(own, other, listed("PT"))
    assert chosen.ct is own and chosen.in_one_study


def test_without_one_a_ct_of_that_day_is_taken_and_said_to_be_of_another_study() -> None:
    same_day = listed(study_instance_uid="9.9")
    another_day = listed(study_instance_uid="9.8", study_date="2020-01-03", images=900)
    chosen = only(another_day, same_day, listed("PT"))
    assert chosen.ct is same_day and not chosen.in_one_study


def test_a_study_without_a_pair_says_why() -> None:
    nobody = listed("PT", patient_id="P2")
    grey = listed("PT", patient_id="P3", description="PET NAC"), listed("CT", patient_id="P3")
    pairs, left_out = choose_pairs([nobody, *grey])
    assert pairs == ()
    assert [(study.patient_id, study.reason) for study in left_out] == [
        ("P2", "no usable CT in the PET's study or on its day"),
        ("P3", "no usable PET: not corrected for attenuation by its description"),
    ]
