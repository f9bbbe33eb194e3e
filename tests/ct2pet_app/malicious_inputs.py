"""Malicious files: decompression bombs, references to other files, links, pickles, false headers."""

from __future__ import annotations

import gzip
import io
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nendian: little\nencoding: {encoding}\n{more}\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_SHORT\n{more}ElementDataFile = {where}\n"
DEFLATED = "1.2.840.10008.1.2.1.99"


def nrrd(*, sizes: str = "8 8 8", encoding: str = "raw", more: str = "", numbers: bytes = b"") -> bytes:
    """Return a NRRD of 16-bit integers."""
    return NRRD.format(sizes=sizes, encoding=encoding, more=more).encode() + numbers


def meta(where: str, *, sizes: str = "8 8 8", more: str = "", numbers: bytes = b"") -> bytes:
    """Return a MetaImage of 16-bit integers."""
    return META.format(sizes=sizes, more=more, where=where).encode() + numbers


def nifti(*sizes: int, magic: bytes = b"n+1\0") -> bytes:
    """Return the header of a NIfTI of 16-bit integers."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = magic
    return bytes(header)


def zipped(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of these members."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return archive.getvalue()


def zipped_link(target: str) -> bytes:
    """Return a zip whose only member is a link."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        member = zipfile.ZipInfo("series/1.dcm")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, target)
    return archive.getvalue()


def lying_zip(*, announced: int) -> bytes:
    """Return a zip whose member of a million zeros announces another size, in both headers."""
    archive = bytearray(zipped({"1.dcm": bytes(10**6)}))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", archive, archive.index(signature) + at, announced)
    return bytes(archive)


def tarred(name: str, link: str) -> bytes:
    """Return a tar with a link in it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, link
        file.addfile(member)
    return archive.getvalue()


def dicom(**elements: object) -> bytes:
    """Return a CT instance of 4 x 4 pixels with these elements, which pydicom writes unasked."""
    meta_group = FileMetaDataset()
    meta_group.TransferSyntaxUID = elements.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    meta_group.MediaStorageSOPClassUID, meta_group.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    dataset = Dataset()
    dataset.file_meta = meta_group
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    attributes = {"SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "Modality": "CT",
                  "SeriesInstanceUID": "1.2.4", "PatientID": "x", "Rows": 4, "Columns": 4, "BitsAllocated": 16,
                  "BitsStored": 16, "SamplesPerPixel": 1, "PixelRepresentation": 1, "RescaleSlope": "1",
                  "PhotometricInterpretation": "MONOCHROME2", "PixelData": bytes(32), **elements}  # fmt: skip
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    file = DicomBytesIO()
    dcmwrite(file, dataset, write_like_original=False)
    return bytes(file.getvalue())


class Payload:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.system, ("touch /tmp/ct2pet-was-here",)


def uploads(secret: str) -> dict[str, tuple[str, bytes]]:
    """Return malicious uploads by kind of attack: file name and bytes.

    Args:
        secret: Path of a file of at least 1,024 bytes that no client may read through the server.
    """
    bomb = gzip.compress(bytes(2**20) * 64)
    return {
        "detached nrrd": ("a.nrrd", nrrd(more=f"data file: {secret}\n")),
        "detached nrrd, other spelling": ("a.nrrd", nrrd(more=f"DataFile: {secret}\n")),
        "detached nrrd, relative": ("a.nrrd", nrrd(more="data file: ../../../../../etc/passwd\n")),
        "detached nrrd, list": ("a.nrrd", nrrd(more=f"data file: LIST\n{secret}\n")),
        "detached nrrd after a carriage return": ("a.nrrd", nrrd(more=f"\r\ndata file: {secret}\n")),
        "detached mha": ("a.mha", meta(secret)),
        "detached mha, list": ("a.mha", meta(f"LIST\n{secret}")),
        "detached mha, pattern": ("a.mha", meta(f"{secret}%d 1 8 1")),
        "detached mha, twice": ("a.mha", meta(f"LOCAL\nElementDataFile = {secret}")),
        "detached mhd": ("a.mhd", meta(secret)),
        "detached nhdr": ("a.nhdr", nrrd(more=f"data file: {secret}\n")),
        "half a pair": ("a.nii", nifti(8, 8, 8, magic=b"ni1\0")),
        "enormous nifti": ("a.nii", nifti(32767, 32767, 32767)),
        "enormous packed nifti": ("a.nii.gz", gzip.compress(nifti(32767, 32767, 32767))),
        "enormous nrrd": ("a.nrrd", nrrd(sizes="99999 99999 99999")),
        "enormous mha": ("a.mha", meta("LOCAL", sizes="99999 99999 99999")),
        "enormous mha, packed size": (
            "a.mha",
            meta("LOCAL", more=f"CompressedData = True\nCompressedDataSize = {10**15}\n"),
        ),
        "negative nrrd": ("a.nrrd", nrrd(sizes="8 8 -8")),
        "gzip bomb": ("a.nii.gz", bomb),
        "gzip bomb with a header": ("a.nii.gz", gzip.compress(nifti(512, 512, 900) + bytes(2**22))),
        "picture called nifti": ("a.nii.gz", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "pickle called nifti": ("a.nii.gz", pickle.dumps(Payload())),
        "text called nrrd": ("a.nrrd", b"root:x:0:0"),
        "empty": ("a.nii.gz", b""),
        "program": ("a.exe", b"MZ"),
        "name with a path": ("../../../etc/cron.d/a.exe", b"x"),
        "name with NUL": ("a.nii.gz\0.png", b"x"),
        "name of 5,000 letters": ("a" * 5000 + ".nii.gz", b"x"),
        "name of dots": ("..", b"x"),
        "zip of paths": ("a.zip", zipped({"../../../../tmp/evil.dcm": b"x", "/etc/cron.d/evil": b"x"})),
        "zip of Windows paths": ("a.zip", zipped({"..\\..\\evil.dcm": b"x", "C:\\evil.dcm": b"x"})),
        "zip of a link": ("a.zip", zipped_link(secret)),
        "zip bomb": ("a.zip", zipped({f"{n}.dcm": bytes(2**20) for n in range(64)})),
        "zip that says it is small": ("a.zip", lying_zip(announced=10)),
        "zip that says it is huge": ("a.zip", lying_zip(announced=0xFFFFFFFE)),
        "zip in a zip": ("a.zip", zipped({"inner.zip": zipped({"1.dcm": bytes(2**20)})})),
        "zip of many files": ("a.zip", zipped({f"{n}": b"" for n in range(20_001)}, method=zipfile.ZIP_STORED)),
        "zip packed with LZMA": ("a.zip", zipped({"1.dcm": b"x"}, method=zipfile.ZIP_LZMA)),
        "no zip": ("a.zip", b"PK\x03\x04junk"),
        "tar called zip": ("a.zip", tarred("1.dcm", secret)),
        "tar": ("a.tar.gz", gzip.compress(tarred("../../evil", secret))),
        "DICOM of a path as UID": ("a.zip", zipped({"1": dicom(SeriesInstanceUID="../../../../etc/passwd")})),
        "DICOM of huge slices": ("a.zip", zipped({"1": dicom(Rows=65535, Columns=65535)})),
        "DICOM of many frames": ("a.zip", zipped({"1": dicom(NumberOfFrames="2147483647")})),
        "DICOM that refers to a file": ("a.zip", zipped({"1": dicom(ReferencedFileID=["..", "ETC", "PASSWD"])})),
        "DICOMDIR": ("a.zip", zipped({"DICOMDIR": dicom(SOPClassUID="1.2.840.10008.1.3.10")})),
        "DICOM without pixels, compressed": (
            "a.zip",
            zipped({"1": dicom(TransferSyntaxUID="1.2.840.10008.1.2.4.90", PixelData=b"\xfe\xff\0\xe0junk")}),
        ),
    }


def checkpoints(secret: str) -> dict[str, bytes]:
    """Return what is no model, by what it is; `secret` as for `uploads`."""
    return {
        "pickle": pickle.dumps(Payload()),
        "zip, as torch writes": zipped({"archive/data.pkl": pickle.dumps(Payload())}),
        "endless header": struct.pack("<Q", 2**62) + b"{",
        "no card": struct.pack("<Q", 2) + b"{}",
        "path": secret.encode(),
        "nothing": b"",
    }
