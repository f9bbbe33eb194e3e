"""Replacement values of DICOM attributes: valid alternatives, and invalid values."""

from __future__ import annotations

import random
import struct

DEFINED_TERMS: dict[int, tuple[str, ...]] = {
    0x00541001: ("BQML", "GML", "CNTS", "PROPCPS", "PROPCNTS", "CM2ML", "1CM", "MLMING"),  # Units
    0x00541102: ("NONE", "START", "ADMIN"),  # DecayCorrection
    0x00541006: ("BW", "LBM", "LBMJAMES128", "LBMJANMA", "BSA", "IBW"),  # SUVType
    0x00280051: ("ATTN", "DECY\\ATTN", "DECY", "NORM\\SCAT"),  # CorrectedImage
    0x00080060: ("CT", "PT", "MR", "OT"),  # Modality
    0x00280004: ("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR"),  # PhotometricInterpretation
    0x00281054: ("HU", "US", "Z_EFF", "HU_MOD"),  # RescaleType
    0x00100040: ("M", "F", "O"),  # PatientSex
    0x00080008: ("DERIVED\\PRIMARY", "ORIGINAL\\PRIMARY\\LOCALIZER", "ORIGINAL\\SECONDARY"),  # ImageType
    0x00541000: ("STATIC\\IMAGE", "DYNAMIC\\IMAGE", "GATED\\IMAGE", "WHOLE BODY\\REPROJECTION"),  # SeriesType
}
SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.201", "1.2.3",
)  # fmt: skip
SHORT, LONG_NUMBERS = {"US": "H", "SS": "h"}, {"UL": "I", "SL": "i", "FL": "f", "FD": "d"}
DATE_TIME_VRS = ("DA", "TM", "DT")
NUMBER_TEXT_VRS = ("DS", "IS")


def is_binary(vr: str) -> bool:
    """Return whether values of this VR are binary numbers."""
    return vr in SHORT or vr in LONG_NUMBERS


def invalid_value(rng: random.Random, vr: str, value: bytes) -> bytes:
    """Return a value that is empty or invalid for this VR."""
    if is_binary(vr):
        return rng.choice([b"", value[:1], value + b"\1\2\3", b"12"[: len(value) - 1]])
    text = value.decode("latin-1").strip(" \0")
    return rng.choice(
        [
            b"", b" ", b"\0\0", b"NaN", b"-inf", b"abc", b"\xff\xfe\xfd\xfc", b"1e999", b"--1", b"\x1b$B\x1b(B",
            text.replace(".", ",").encode("latin-1") + b",5", f"{text}\\\\".encode("latin-1"), b"A" * 3000,
            b"0x1F", b"1 2 3", text.encode("utf-16"), b"9999-99-99", b"None",
        ]
    )  # fmt: skip


def other_value(rng: random.Random, tag: int, vr: str, value: bytes, order: str) -> bytes:
    """Return another valid value of this attribute, which may be medically implausible."""
    text = value.decode("latin-1").strip(" \0")
    if tag in DEFINED_TERMS:
        return rng.choice([term for term in DEFINED_TERMS[tag] if term != text]).encode()
    if tag == 0x00020010:
        return rng.choice([syntax for syntax in SYNTAXES if syntax != text]).encode()
    if is_binary(vr):
        return _other_number(rng, vr, value, order)
    if vr in NUMBER_TEXT_VRS:
        return _other_text_number(rng, vr, text)
    if vr in DATE_TIME_VRS:
        return _other_date_time(rng, vr, text)
    if vr == "UI":
        return rng.choice([b"1.2.3.4.5", f"{text}.1".encode()[:64], text.encode()[:-1] + b"7"])
    return rng.choice([b"OTHER", text.encode("latin-1")[::-1], b"A B"])


def _other_number(rng: random.Random, vr: str, value: bytes, order: str) -> bytes:
    form = order + (SHORT | LONG_NUMBERS)[vr]
    size = struct.calcsize(form)
    number = struct.unpack(form, value[:size].ljust(size, b"\0"))[0]
    if vr in ("FL", "FD"):
        return struct.pack(form, rng.choice([0.0, -1.0, number * 2, 1e30, float(rng.random())]))
    top = (1 << (8 * size - (1 if vr.startswith("S") else 0))) - 1
    others = {0, 1, 2, 8, 16, 32, number + 1, number - 1, number * 2, number // 2, top} - {number}
    return struct.pack(form, rng.choice(sorted(other for other in others if 0 <= other <= top)))


def _other_text_number(rng: random.Random, vr: str, text: str) -> bytes:
    parts = text.split("\\")
    at = rng.randrange(len(parts))
    try:
        number = float(parts[at])
    except ValueError:
        return b"1"
    factor = rng.choice([2, 0.5, 1000, 0.001, 60, -1, 1.02, 0, 1e6])
    changed = number * factor if number else float(rng.choice([1, -1, 30, -1024]))
    parts[at] = str(int(changed))[:12] if vr == "IS" else f"{changed:.9g}"
    return "\\".join(parts).encode()


def _other_date_time(rng: random.Random, vr: str, text: str) -> bytes:
    if vr == "DA":
        return rng.choice([b"20200101", b"19500615", b"20301231", _shifted(text, 7)])
    if vr == "TM":
        hour = int(text[:2]) if text[:2].isdigit() else 0
        return rng.choice([b"000000", b"235959.999", f"{(hour + 1) % 24:02d}{text[2:]}".encode(), b"1200"])
    hour = int(text[8:10]) if text[8:10].isdigit() else 0
    shifted = f"{text[:8]}{(hour + 1) % 24:02d}{text[10:]}".encode()
    return rng.choice([shifted, text[:8].encode() + b"000000", text.encode() + b"+0200", text.encode() + b"-0500"])


def _shifted(text: str, at: int) -> bytes:
    return (text[:at] + ("2" if text[at : at + 1] == "1" else "1") + text[at + 1 :]).encode()
