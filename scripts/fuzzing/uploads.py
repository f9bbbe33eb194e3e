"""Convert a mutant to an upload: a volume file, or a zip of a DICOM series."""

from __future__ import annotations

import io
import zipfile

from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.subjects import Subject


def upload_of(subject: Subject, mutant: Mutant) -> tuple[str, bytes]:
    """Return file name and content of the upload of a mutant."""
    files = {**subject.files(), **mutant.files}
    if subject.form == "volume":
        ((name, content),) = files.items()
        return name, content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return "ct.zip", archive.getvalue()
