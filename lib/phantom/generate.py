"""Chest phantoms: CT and PET of simulated patients, as arrays or as DICOM studies with known ground truth.

They allow installation, demonstrations and tests without patient data. Uptake depends on tissue as in a fasting adult
an hour after injection of FDG. As in patients, part of it cannot be inferred from the CT: the myocardium has 1 to 8
SUV at the same density, some mediastinal lesions are not visible on CT, the overall level differs by patient, and the
uptake of a nodule is independent of its HU. A good result on phantoms says nothing about patients.
"""

from __future__ import annotations

from pathlib import Path

from lib.errors import InputError
from lib.phantom.dicom import write_study
from lib.phantom.organs import write_organs
from lib.phantom.patient import MAX_PATIENTS, PhantomPatient, PhantomSettings, phantom_patient
from lib.types import Progress, no_progress

__all__ = ["PhantomPatient", "PhantomSettings", "phantom_patient", "write_phantoms"]


def write_phantoms(
    out: Path,
    *,
    patients: int,
    seed: int = 0,
    settings: PhantomSettings = PhantomSettings(),
    labels: bool = False,
    progress: Progress = no_progress,
) -> tuple[Path, ...]:
    """Write patients as DICOM studies and return their folders, such as `out`/PHANTOM_0001 with CT/ and PET/.

    With `labels`, the true organs are written as well, see `write_organs`. Equal arguments give equal files. Files are
    written atomically; one patient is in memory at a time.

    Raises:
        InputError: The number of patients is not 1 to 9999, the seed is negative, or a folder has other DICOM files.
    """
    if not 1 <= patients <= MAX_PATIENTS:
        raise InputError(f"patients must be 1 to {MAX_PATIENTS}, found {patients}")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder to write phantoms into")
    folders = []
    for number in range(1, patients + 1):
        patient = phantom_patient(number, seed, settings)
        folders.append(write_study(patient, out / patient.patient_id))
        if labels:
            write_organs(patient, folders[-1])
        progress(number, patients, patient.patient_id)
    return tuple(folders)
