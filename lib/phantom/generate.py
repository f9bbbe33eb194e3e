"""Chest phantoms: CT and PET of patients who never were, as arrays or as DICOM studies with known truth.

They exist so that everything can be installed, tried and tested without a patient's data. Uptake follows tissue as in a
fasting adult an hour after FDG, with the same limit as real life: part of it cannot be inferred from the CT. The
myocardium takes up 1 to 8 SUV at one and the same density, some hot lesions of the mediastinum leave no trace on the
CT, every patient's overall level differs, and a nodule's uptake is not written in its HU. A model that seemed to
predict those would be wrong, and a model that does well here has proved nothing about patients.
"""

from __future__ import annotations

from pathlib import Path

from lib.errors import InputError
from lib.phantom.dicom import write_study
from lib.phantom.patient import MAX_PATIENTS, PhantomPatient, PhantomSettings, phantom_patient
from lib.types import Progress, no_progress

__all__ = ["PhantomPatient", "PhantomSettings", "phantom_patient", "write_phantoms"]


def write_phantoms(
    out: Path,
    *,
    patients: int,
    seed: int = 0,
    settings: PhantomSettings = PhantomSettings(),
    progress: Progress = no_progress,
) -> tuple[Path, ...]:
    """Write patients as DICOM studies and return their folders: `out`/PHANTOM_0001 with CT/ and PET/ in it, and so on.

    Equal arguments give equal bytes. Each file appears whole or not at all; one patient is in memory at a time.

    Raises:
        InputError: Fewer than 1 or more than 9999 patients, a negative seed, or a folder with other DICOM files in it.
    """
    if not 1 <= patients <= MAX_PATIENTS:
        raise InputError(f"patients must be 1 to {MAX_PATIENTS}, found {patients}")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder to write phantoms into")
    folders = []
    for number in range(1, patients + 1):
        patient = phantom_patient(number, seed, settings)
        folders.append(write_study(patient, out / patient.patient_id))
        progress(number, patients, patient.patient_id)
    return tuple(folders)
