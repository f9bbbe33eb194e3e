"""Which parts of a body there are once: an image of one has no side."""

from __future__ import annotations

__all__ = ["has_no_side"]

# Defined terms of BodyPartExamined (PS3.16 Annex L) that dciodvfy 1.00~20220618 counts among the unpaired parts, found
# by giving it each term with a Laterality. Laterality is 2C (PS3.3 C.7.3.1): it must not be there for these, and must
# be, if need be empty, for any other part.
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
    """Return whether a defined term of BodyPartExamined names a part that a body has once."""
    return body_part_examined in UNPAIRED
