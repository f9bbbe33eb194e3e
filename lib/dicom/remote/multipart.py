"""The one DICOM file of a WADO-RS response (PS3.18 8.7), passed on as it arrives: it is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

DICOM, RELATED = "application/dicom", "multipart/related"
MAX_PART_HEADER_BYTES = 2**16


def dicom_part(chunks: Iterable[bytes], content_type: str) -> Iterator[bytes]:
    """Yield the content of the only part of a multipart body, or a body that is the file itself.

    Raises:
        ValueError: Another type, no part, or more than one.
    """
    header = Message()
    header["Content-Type"] = content_type
    kind, boundary = header.get_content_type(), header.get_boundary()
    if kind not in (DICOM, RELATED) or not content_type:
        raise ValueError(f"Content-Type {content_type[:80]!r}, expected {RELATED}")
    if kind == DICOM or boundary is None:  # against the standard, and done
        yield from chunks
    else:
        yield from _only_part(iter(chunks), b"\r\n--" + boundary.encode("latin-1"))


def _only_part(chunks: Iterator[bytes], delimiter: bytes) -> Iterator[bytes]:
    held = bytearray(b"\r\n")  # of which the first delimiter may lack its own
    for mark in (delimiter, b"\r\n\r\n"):
        while (found := held.find(mark)) < 0:
            if len(held) > MAX_PART_HEADER_BYTES:
                raise ValueError("a multipart body without a part")
            held += _next(chunks)
        del held[: found + len(mark)]
    while (found := held.find(delimiter)) < 0:
        ready = max(len(held) - len(delimiter) + 1, 0)
        yield bytes(held[:ready])
        del held[:ready]
        chunk = next(chunks, None)
        if chunk is None:  # the last delimiter is missing; whoever reads the file sees whether more is
            yield bytes(held)
            return
        held += chunk
    yield bytes(held[:found])
    del held[: found + len(delimiter)]
    while len(held) < 2 and (chunk := next(chunks, None)) is not None:
        held += chunk
    if bytes(held[:2]) not in (b"--", b""):
        raise ValueError("more than one part, expected one instance")
    for _ in chunks:  # to its end, so that the connection can be used again
        pass


def _next(chunks: Iterator[bytes]) -> bytes:
    chunk = next(chunks, None)
    if chunk is None:
        raise ValueError("a multipart body that ends before its part begins")
    return chunk
