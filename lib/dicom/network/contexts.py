"""SOP classes and transfer syntaxes that are accepted from others, and those that are proposed to them."""

from __future__ import annotations

from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT_STORAGE = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
# what `lib/dicom/read` reads; lossy syntaxes are left out except the 12-bit JPEG of old archives
JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{number}" for number in (51, 57, 70))
JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
CT_TRANSFER_SYNTAXES = (
    *UNCOMPRESSED, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEG_LOSSLESS_SV1, JPEG_LOSSLESS,
    JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLELossless, JPEG_EXTENDED,
)  # fmt: skip


def accepted_contexts() -> list[PresentationContext]:
    """Return what a storage server accepts: verification, and CT images."""
    stored = [build_context(uid, list(CT_TRANSFER_SYNTAXES)) for uid in CT_STORAGE]
    return [build_context(VERIFICATION, list(UNCOMPRESSED)), *stored]


def proposed_for_pet() -> list[PresentationContext]:
    """Return what is proposed to a receiver of synthetic PET; each syntax apart, so that it can accept either."""
    return [build_context(PositronEmissionTomographyImageStorage, [syntax]) for syntax in UNCOMPRESSED]


def proposed_for_find() -> list[PresentationContext]:
    """Return what is proposed to a peer that is queried for the number of instances of a series."""
    return [build_context(STUDY_ROOT_FIND, list(UNCOMPRESSED))]
