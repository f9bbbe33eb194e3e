"""Selection of CT and PET of the archive, with real descriptions of idc-index-data 25.0.5."""

from __future__ import annotations

import pytest

from lib.download.idc import IndexedSeries
from lib.download.selection import ChosenPair, choose_pairs, why_not
from tests.download.idc_server import listed

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("modality", "description", "message"),
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
def test_unusable_descriptions(modality: str, description: str, message: str) -> None:
    reason = why_not(listed(modality, description=description))
    assert reason is not None and reason.startswith(message)


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


def test_colour_image_is_recognised_by_class_or_colours() -> None:
    assert "fusion" in str(why_not(listed(sop_class_uid=SECONDARY_CAPTURE)))
    assert "fusion" in str(why_not(listed(photometric_interpretation="MONOCHROME2,RGB")))


def test_series_with_few_images_is_refused() -> None:
    assert why_not(listed(images=20)) is None
    assert why_not(listed(images=19)) == "only 19 images"


def test_computed_series_is_refused() -> None:
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
def test_best_ct_for_the_pet_is_selected(better: str, worse: str) -> None:
    good, bad = listed(description=better, images=50), listed(description=worse, images=400)
    assert only(bad, good, listed("PT")).ct is good
    assert only(good, bad, listed("PT")).ct is good


def test_ct_with_most_images_is_selected() -> None:
    thin, thick = (
        listed(description="Thorax  1.0  B31f", images=342),
        listed(description="Thorax  5.0  B31f", images=48),
    )
    assert only(thick, thin, listed("PT")).ct is thin


@pytest.mark.parametrize(
    ("better", "worse"),
    [("PET AC", "PET WB"), ("PET FDG SUV", "Gated 10mm OSEM I2 S20"), ("WB MAC P690", "WB NAC P690")],
)
def test_corrected_pet_is_preferred_over_gated_ones(better: str, worse: str) -> None:
    good, bad = listed("PT", description=better, images=50), listed("PT", description=worse, images=400)
    assert only(listed(), bad, good).pet is good


def test_ct_of_the_same_study_is_preferred() -> None:
    own = listed(description="Thorax  1.0  B70f")
    other = listed(description="CT WB  1.0  B30f", study_instance_uid="9.9", images=900)
    chosen = only(own, other, listed("PT"))
    assert chosen.ct is own and chosen.in_one_study


def test_ct_of_another_study_on_the_same_day_is_selected() -> None:
    same_day = listed(study_instance_uid="9.9")
    another_day = listed(study_instance_uid="9.8", study_date="2020-01-03", images=900)
    chosen = only(another_day, same_day, listed("PT"))
    assert chosen.ct is same_day and not chosen.in_one_study


def test_study_without_a_pair_has_a_reason() -> None:
    unpaired = listed("PT", patient_id="P2")
    grey = listed("PT", patient_id="P3", description="PET NAC"), listed("CT", patient_id="P3")
    pairs, left_out = choose_pairs([unpaired, *grey])
    assert pairs == ()
    assert [(study.patient_id, study.reason) for study in left_out] == [
        ("P2", "no usable CT in the PET's study or on its day"),
        ("P3", "no usable PET: not corrected for attenuation by its description"),
    ]
