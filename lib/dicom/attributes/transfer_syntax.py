"""The transfer syntax of a dataset, and whether its pixel data is uncompressed."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

PLAIN = frozenset(map(str, ("", ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)))


def transfer_syntax(dataset: Dataset) -> str:
    """Return the TransferSyntaxUID, or an empty string if there is none, as in old exports."""
    return str(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID", ""))


def is_plain_encoding(transfer_syntax_uid: str) -> bool:
    """Return whether pixel data is stored natively: neither compressed nor deflated."""
    return transfer_syntax_uid in PLAIN
