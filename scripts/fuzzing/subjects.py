"""Originals of the mutants: small valid series and files from phantoms and, if available, from real studies."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.volume_file import FAST, write_volume_file
from lib.phantom.generate import PhantomSettings, write_phantoms
from scripts.fuzzing.codestreams import write_compressed_series
from scripts.fuzzing.elements import ITEM, PIXEL_DATA, Element, elements_of
from scripts.fuzzing.values import LONG_NUMBERS, SHORT

SLICES = 6  # enough for a gap in the middle, few enough to be read in 10 ms
PHANTOM = PhantomSettings(slices=SLICES, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=40, pet_pixel_mm=10.0)
VOLUME_FILES = (".nii", ".nii.gz", ".nrrd", ".mha")
ENCODINGS = {  # dcmtk commands that write each encoding of a CT
    "implicit": ("dcmconv", "+ti"),
    "big-endian": ("dcmconv", "+tb"),
    "undefined-lengths": ("dcmconv", "-e"),
}


@dataclass(frozen=True)
class Subject:
    """A folder with one DICOM series, one volume file, or one series as DICOM JSON with a file per instance.

    Attributes:
        name: Name in reports.
        form: `dicom`, `compressed`, `volume` or `json`.
        modality: CT or PT.
        folder: Folder of the files.
    """

    name: str
    form: str
    modality: str
    folder: Path

    def files(self) -> dict[str, bytes]:
        """Return the contents of all files by name."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}


def make_subjects(folder: Path, shared: Path | None) -> list[Subject]:
    """Write all subjects to a folder; `shared` may contain `data` and `suv_dro` with real studies and SUV objects."""
    (patient,) = write_phantoms(folder / "phantom", patients=1, settings=PHANTOM)
    subjects = [
        Subject("phantom-ct", "dicom", "CT", patient / "CT"),
        Subject("phantom-pet", "dicom", "PT", patient / "PET"),
    ]
    ct = subjects[0]
    subjects += _encoded(ct, folder) + _volume_files(ct, folder) + _json(subjects, folder)
    real = [] if shared is None else list(_real(folder, shared))
    return subjects + real + _json(real, folder)


def load_subjects(folder: Path) -> list[Subject]:
    """Return the subjects that `save_subjects` has saved."""
    listed: list[dict[str, Any]] = json.loads((folder / "subjects.json").read_text())
    return [Subject(one["name"], one["form"], one["modality"], Path(one["folder"])) for one in listed]


def save_subjects(subjects: list[Subject], folder: Path) -> None:
    """Save the list of subjects for the child processes."""
    listed = [{**vars(subject), "folder": str(subject.folder)} for subject in subjects]
    (folder / "subjects.json").write_text(json.dumps(listed))


def _encoded(ct: Subject, folder: Path) -> list[Subject]:
    subjects = []
    for name, (program, *options) in ENCODINGS.items():
        found = shutil.which(program)
        if found is None:
            continue
        out = folder / f"phantom-ct-{name}"
        out.mkdir()
        for path in sorted(ct.folder.iterdir()):
            subprocess.run([found, *options, str(path), str(out / path.name)], check=True, capture_output=True)
        subjects.append(Subject(out.name, "dicom", "CT", out))
    compressed = write_compressed_series(ct.folder, folder)
    return subjects + [Subject(f"phantom-{path.name}", "compressed", "CT", path) for path in compressed.values()]


def _volume_files(ct: Subject, folder: Path) -> list[Subject]:
    volume = read_ct(scan_folder(ct.folder).usable("CT")[0].series)
    subjects = []
    for suffix in VOLUME_FILES:
        out = folder / f"phantom-ct{suffix}"
        out.mkdir()
        write_volume_file(volume, out / f"ct{suffix}", compression=FAST)
        subjects.append(Subject(out.name, "volume", "CT", out))
    return subjects


def _real(folder: Path, shared: Path) -> Iterator[Subject]:
    sources = {
        "real-ct": ("CT", shared / "data/sts/STS_001/CT/image"),
        "real-pet-suv": ("PT", shared / "data/sts/STS_001/PET/image"),
        "real-pet": ("PT", shared / "data/sts_raw/STS_001/PET/image"),
        "real-ct-philips": ("CT", shared / "data/ct_only/Lung_Dx-A0001"),
        **{f"suv-{path.name}": ("PT", path) for path in sorted(shared.glob("suv_dro/DRO_*")) if path.is_dir()},
    }
    for name, (modality, source) in sources.items():
        usable = scan_folder(source).usable(modality) if source.is_dir() else ()
        if usable:
            files = usable[0].series.files
            start = len(files) // 2 - SLICES // 2
            (folder / name).mkdir()
            for path in files[start : start + SLICES]:
                shutil.copyfile(path, folder / name / path.name)
            yield Subject(name, "dicom", modality, folder / name)


def _json(subjects: list[Subject], folder: Path) -> list[Subject]:
    converted = []
    for subject in subjects:
        if subject.form != "dicom" or subject.name.startswith("phantom-ct-") or _is_implicit(subject):
            continue
        out = folder / f"{subject.name}-json"
        out.mkdir()
        for name, file in subject.files().items():
            (out / name).write_text(json.dumps(_as_json(file)))
        converted.append(Subject(out.name, "json", subject.modality, out))
    return converted


def _is_implicit(subject: Subject) -> bool:
    return any(not element.vr for element in elements_of(next(iter(subject.files().values()))) if element.tag != ITEM)


def _as_json(file: bytes) -> dict[str, Any]:
    """Return the elements of a file in Explicit VR Little Endian as DICOM JSON, without pixel data."""
    elements = [e for e in elements_of(file) if e.tag != PIXEL_DATA and e.tag >> 16 != 2]
    return _level(file, elements, 0)


def _level(file: bytes, elements: list[Element], depth: int) -> dict[str, Any]:
    level: dict[str, Any] = {}
    for e in elements:
        if e.depth != depth or e.tag == ITEM or (e.tag & 0xFFFF) == 0:
            continue
        if e.vr == "SQ":
            inside = [one for one in elements if e.start < one.start < e.end]
            level[f"{e.tag:08X}"] = {"vr": "SQ", "Value": [_level(file, inside, depth + 1)] if inside else []}
            continue
        value = file[e.value_start : e.end]
        form = (SHORT | LONG_NUMBERS).get(e.vr)
        if form is not None:
            values: list[Any] = list(struct.unpack(f"<{len(value) // struct.calcsize(form)}{form}", value))
        else:
            text = value.decode("latin-1").strip(" \0")
            values = text.split("\\") if text else []
        if e.vr == "PN":
            values = [{"Alphabetic": name} for name in values]
        elif e.vr in ("DS", "IS"):
            values = [float(number) if e.vr == "DS" else int(float(number)) for number in values if number]
        level[f"{e.tag:08X}"] = {"vr": e.vr, **({"Value": values} if values else {})}
    return level
