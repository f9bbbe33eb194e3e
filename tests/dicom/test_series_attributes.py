"""Interpretation of kernels, contrast agents and descriptions from real series and vendors' manuals."""

from __future__ import annotations

import pytest

from lib.dicom.series_attributes import Sharpness, has_contrast, is_acquired_for_pet, is_resampled, sharpness


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        *(
            (kernel, Sharpness.SOFT)
            for kernel in ("B30f", "B31s", "I30f\\3", "Br38", "Hr40f", "B45f", "Bf37\\2", "T20f")
        ),
        *((kernel, Sharpness.SHARP) for kernel in ("B70f", "B80s", "I70f\\2", "Bl57", "Bl57f\\3", "Hr64h", "U90u")),
        *((kernel, Sharpness.SOFT) for kernel in ("STANDARD", "SOFT", "standard")),
        *((kernel, Sharpness.SHARP) for kernel in ("LUNG", "BONE", "BONEPLUS", "EDGE")),
        *((kernel, Sharpness.MEDIUM) for kernel in ("DETAIL", "CHST", "C")),
        *((kernel, Sharpness.SOFT) for kernel in ("A", "B", "UB")),
        *((kernel, Sharpness.SHARP) for kernel in ("D", "L", "YA", "YB")),
        *((kernel, Sharpness.SOFT) for kernel in ("FC03", "FC08", "FC18")),
        *((kernel, Sharpness.SHARP) for kernel in ("FC51", "FC52", "FC30", "FC81")),
        *((kernel, Sharpness.SOFT) for kernel in ("B_SOFT_B", "B_STD")),
        *((kernel, Sharpness.SHARP) for kernel in ("B_SHARP_A", "B_VSHARP_C", "LUNG_B")),
        ("PHANTOM", Sharpness.SOFT),
    ],
)
def test_a_kernel_by_its_name(kernel: str, expected: Sharpness) -> None:
    assert sharpness(kernel, "") == expected


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("Thorax  1.0  B70f", Sharpness.SHARP),
        ("Thorax  1.0  B31f", Sharpness.SOFT),
        ("CHEST 1.0 Bl57", Sharpness.SHARP),
        ("CT 2.5MM LUNG", Sharpness.SHARP),
        ("Body 5.0 FC52", Sharpness.SHARP),
        ("CT WB T80", Sharpness.SOFT),
        ("", Sharpness.SOFT),
    ],
)
def test_the_description_is_used_without_a_kernel(description: str, expected: Sharpness) -> None:
    assert sharpness("", description) == expected


def test_a_kernel_goes_before_the_description() -> None:
    assert sharpness("B30f", "LOW DOSE LUNG") == Sharpness.SOFT


@pytest.mark.parametrize(
    ("agent", "description", "expected"),
    [
        ("ULTRAVIST 370", "", True),
        ("APPLIED", "CT AC", True),
        ("NONE", "CT CONTRAST", False),
        ("No Contrast", "", False),
        ("", "post CONTRAST", True),
        ("", "CHEST CE", True),
        ("", "Thorax KM", True),
        ("", "ARTERIAL PHASE", True),
        ("", "CT W/O CONTRAST", False),
        ("", "Non-contrast CT", False),
        ("", "unenhanced", False),
        ("", "Abdomen nativ", False),
        ("", "CT WB  1.0  B30f", False),
    ],
)
def test_contrast_by_agent_or_description(agent: str, description: str, expected: bool) -> None:
    assert has_contrast(agent, description) == expected


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        *(
            (text, True)
            for text in ("CT WB  1.0  B30f", "CTAC", "WB MAC", "CT Atten Cor", "Body-Low Dose CT", "PET CT")
        ),
        *((text, False) for text in ("Thorax  1.0  B31f", "CARDIAC", "SACROILIAC", "CELIAC", "CHEST", "")),
    ],
)
def test_what_was_made_for_the_pet(description: str, expected: bool) -> None:
    assert is_acquired_for_pet(description) == expected


def test_a_console_s_copy() -> None:
    assert is_resampled("CT Fusion") and not is_resampled("CTAC")
