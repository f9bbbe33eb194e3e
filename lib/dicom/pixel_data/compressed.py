"""Stored values of a compressed slice (JPEG, JPEG-LS, JPEG 2000, RLE), decoded by GDCM in a child process.

GDCM rescales decoded pixels by the header it reads, and rounds them. Therefore it receives the compressed pixels with
slope 1 and intercept 0, so that it returns the stored values.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_pixel_data_fragment, get_frame_offsets
from pydicom.filebase import DicomBytesIO

from lib.dicom.attributes.elements import uid_name
from lib.dicom.pixel_data.codestream import codestream_fault
from lib.dicom.pixel_data.decoder import Decoder
from lib.dicom.pixel_data.stored_values import Stored, StoredFormat, refuse_sign_bit
from lib.errors import DicomError, UndecodableError

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # the SOP class for which GDCM requires the fewest attributes
UNSIGNED = 0


def decode_pixels(
    pixel_data: bytes, transfer_syntax_uid: str, pixel_format: StoredFormat, decoder: Decoder, *, source: Path
) -> Stored:
    """Return the stored values of one slice's compressed, encapsulated pixels.

    Raises:
        DicomError: The pixels cannot be decompressed, or the result does not match the header.
        MissingAttributeError: PixelRepresentation is missing and affects the values.
    """
    if pixel_format.high_bit != pixel_format.bits - 1:
        raise DicomError(f"HighBit {pixel_format.high_bit} of compressed pixels, expected {pixel_format.bits - 1}")
    syntax = uid_name(transfer_syntax_uid)
    rows, columns = pixel_format.shape
    codestream = b"".join(_fragments(pixel_data))
    fault = codestream_fault(
        codestream, transfer_syntax_uid, rows=rows, columns=columns, allocated=pixel_format.allocated
    )
    if fault:
        raise UndecodableError(f"its compression ({syntax}) is damaged: {fault}; copy it again")
    bare = io.BytesIO()
    _minimal_file(codestream, transfer_syntax_uid, pixel_format).save_as(bare, write_like_original=False)
    try:
        values = decoder.decode(bare.getvalue(), pixels=rows * columns, source=source)
    except DicomError as error:
        raise error.with_message(
            f"its compression ({syntax}) {error}; copy it again, or export it uncompressed (Explicit VR Little Endian)"
        ) from error
    if values.shape[-2:] != (rows, columns) or values.size != rows * columns:
        raise DicomError(f"{syntax} decodes to {values.shape}, expected one slice of {(rows, columns)}")
    stored = values.reshape(rows, columns)
    if pixel_format.is_signed is None:
        refuse_sign_bit(stored, pixel_format)
    _refuse_beyond(stored, pixel_format)
    return Stored(stored, stored, pixel_format)


def _refuse_beyond(stored: NDArray[Any], pixel_format: StoredFormat) -> None:
    """Raise UndecodableError if values exceed the range of the header's bits and sign."""
    (low, high), lowest, highest = pixel_format.limits, int(stored.min()), int(stored.max())
    if lowest < low or highest > high:
        raise UndecodableError(
            f"its compressed pixels range from {lowest} to {highest}, expected {low} to {high} by BitsStored "
            f"{pixel_format.bits} and PixelRepresentation {int(pixel_format.is_signed or UNSIGNED)}: one is wrong"
        )


def _fragments(pixel_data: bytes) -> list[bytes]:
    """Return the fragments of one slice's encapsulated pixels, without the Basic Offset Table."""
    try:
        file = DicomBytesIO(pixel_data)
        file.is_little_endian = True
        get_frame_offsets(file)
        return list(generate_pixel_data_fragment(file))
    except (ValueError, struct.error) as error:
        raise UndecodableError(f"its compressed pixels are not encapsulated as DICOM requires ({error})") from error


def _minimal_file(codestream: bytes, transfer_syntax_uid: str, pixel_format: StoredFormat) -> FileDataset:
    """Return a file of the compressed pixels with only the attributes needed to decode them."""
    bare = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    bare.is_little_endian, bare.is_implicit_VR = True, False
    bare.SOPClassUID, bare.SOPInstanceUID = SECONDARY_CAPTURE, "2.25.1"
    bare.Modality = "OT"
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    bare.Rows, bare.Columns = pixel_format.shape
    bare.BitsAllocated, bare.BitsStored, bare.HighBit = (
        pixel_format.allocated,
        pixel_format.bits,
        pixel_format.high_bit,
    )
    bare.PixelRepresentation = int(pixel_format.is_signed or UNSIGNED)
    bare.RescaleSlope, bare.RescaleIntercept = "1", "0"
    bare.PixelData = encapsulate([codestream])
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    bare.file_meta.TransferSyntaxUID = transfer_syntax_uid
    return bare
