"""Unpaired body parts, whose images have no laterality."""

from __future__ import annotations

__all__ = ["has_no_side"]

# Defined terms of BodyPartExamined (PS3.16 Annex L) that dciodvfy 1.00~20220618 treats as unpaired, determined by
# validating each term with a Laterality. Laterality is type 2C (PS3.3 C.7.3.1): it must be absent for these parts and
# present, possibly empty, for any other part.
TERMS = """
    ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CEREBELLUM CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS
    CIRCLEOFWILLIS COCCYX COLON CORONARYARTERY CSPINE CTSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK
    HEART ILEUM ILIUM JAW JEJUNUM LARYNX LIVER LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST
    NECKCHESTABDOMEN NECKCHESTABDPELV NOSE PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SCALP SKULL SPINE
    SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID TLSPINE TONGUE TRACHEA TSPINE URETER URETHRA UTERUS VAGINA
    VULVA WHOLEBODY
"""
UNPAIRED = frozenset(TERMS.split())


def has_no_side(body_part_examined: str) -> bool:
    """Return whether a defined term of BodyPartExamined names an unpaired body part."""
    return body_part_examined in UNPAIRED
