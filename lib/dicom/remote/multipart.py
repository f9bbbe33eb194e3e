"""Streaming parser of the single DICOM file of a WADO-RS response (PS3.18 8.7), which is never entirely in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

DICOM, RELATED = "application/dicom", "multipart/related"
ACCEPT_INSTANCE = {"Accept": f'{RELATED}; type="{DICOM}"; transfer-syntax=*'}
MAX_PART_HEADER_BYTES = 2**16


def dicom_part(chunks: Iterable[bytes], content_type: str) -> Iterator[bytes]:
    """Yield the content of the only part of a multipart body, or of a body that is the file itself.

    Raises:
        ValueError: The Content-Type is another one, or the body has no part or several parts.
    """
    header = Message()
    header["Content-Type"] = content_type
    kind, boundary = header.get_content_type(), header.get_boundary()
    if kind not in (DICOM, RELATED) or not content_type:
        raise ValueError(f"Content-Type {content_type[:80]!r}, expected {RELATED}")
    if kind == DICOM or boundary is None:  # against the standard, but used in practice
        yield from chunks
    else:
        yield from _only_part(iter(chunks), b"\r\n--" + boundary.encode("latin-1"))


def _only_part(chunks: Iterator[bytes], delimiter: bytes) -> Iterator[bytes]:
    buffer = bytearray(b"\r\n")  # the first delimiter may lack it
    for separator in (delimiter, b"\r\n\r\n"):
        while (found := buffer.find(separator)) < 0:
            if len(buffer) > MAX_PART_HEADER_BYTES:
                raise ValueError("a multipart body without a part")
            buffer += _next(chunks)
        del buffer[: found + len(separator)]
    while (found := buffer.find(delimiter)) < 0:
        ready = max(len(buffer) - len(delimiter) + 1, 0)
        yield bytes(buffer[:ready])
        del buffer[:ready]
        chunk = next(chunks, None)
        if chunk is None:  # the last delimiter is missing; a truncated file is detected when it is read
            yield bytes(buffer)
            return
        buffer += chunk
    yield bytes(buffer[:found])
    del buffer[: found + len(delimiter)]
    while len(buffer) < 2 and (chunk := next(chunks, None)) is not None:
        buffer += chunk
    if bytes(buffer[:2]) not in (b"--", b""):
        raise ValueError("more than one part, expected one instance")
    for _ in chunks:  # read to the end so that the connection can be reused
        pass


def _next(chunks: Iterator[bytes]) -> bytes:
    chunk = next(chunks, None)
    if chunk is None:
        raise ValueError("a multipart body that ends before its part")
    return chunk
