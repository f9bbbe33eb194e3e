"""What the documents call STUDIES, ARRAYS, RUN and so on: phantoms, and a network of a few hundred weights."""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import main
from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.cli.runner import SETTINGS

# The guide's example of a slab is 10:26
PHANTOM = PhantomSettings(slices=28, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# In the default split 1 and 3 are train, 7 is validation, 2 is test: see tests/pairing/test_split.py
PATIENTS, UPLOADED = (1, 2, 3, 7), 9


@dataclass(frozen=True)
class World:
    """Files by the names that the documents give them, and one CT/PET pair of STUDIES.

    Attributes:
        files: Files and folders.
        ct_uid: SeriesInstanceUID of the CT.
        pet_uid: SeriesInstanceUID of its PET.
        centre_mm: The middle of the CT, LPS.
    """

    files: dict[str, Path]
    ct_uid: str
    pet_uid: str
    centre_mm: tuple[float, ...]

    def provide(self, command: str, folder: Path) -> None:
        """Copy what a command reads into the folder where it runs, unless an earlier command made it there."""
        words = re.split(r"[\s=@'\"]", re.sub(r"--out \S+", "", command))
        for name in {word.partition("/")[0] for word in words} & self.files.keys():
            source, target = self.files[name], folder / name
            if not target.exists():
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def make_world(folder: Path) -> World:
    """Write the files."""
    studies, arrays, run = folder / "studies", folder / "arrays", folder / "run"
    for number in PATIENTS:
        patient = phantom_patient(number, 0, PHANTOM)
        write_study(patient, studies / patient.patient_id)
    write_study(phantom_patient(UPLOADED, 0, PHANTOM), folder / "uploaded")
    assert main.main(["prepare", str(studies), "--out", str(arrays), *SETTINGS]) == 0
    assert main.main(["train", str(arrays), "--out", str(run), *SETTINGS]) == 0
    files = {
        "STUDIES": studies,
        "NINE_PATIENTS": studies,
        "ARRAYS": arrays,
        "RUN": run,
        "RUN1": run,
        "RUN2": run,
        "CT": studies / "PHANTOM_0002" / "CT",
        "MODEL": run / "model.safetensors",
        "FILE": run / "model.safetensors",
        **{f"{name}.zip": _zip(folder / "uploaded", name, folder) for name in ("ct", "pet", "study")},
    }
    (ct,), (pet,) = (scan_folder(studies / "PHANTOM_0001").usable(modality) for modality in ("CT", "PT"))
    geometry = read_ct(ct.series).geometry
    middle = (np.array(geometry.shape) - 1) / 2
    centre = geometry.affine @ [*middle, 1.0]
    return World(files, ct.series.uid, pet.series.uid, tuple(centre[:3]))


def _zip(study: Path, name: str, folder: Path) -> Path:
    """Return an archive of one series of a study, or of the whole study."""
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((study if name == "study" else study / name.upper()).rglob("*.dcm")):
            archive.write(file, file.relative_to(study))
    return path
