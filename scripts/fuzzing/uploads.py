"""A mutant as somebody would upload it: a volume file, or a zip of a DICOM series."""

from __future__ import annotations

import io
import zipfile

from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.subjects import Subject


def upload_of(subject: Subject, mutant: Mutant) -> tuple[str, bytes]:
    """Return the name and the bytes of an upload of a subject whose broken files are the mutant's."""
    files = {**subject.files(), **mutant.files}
    if subject.form == "volume":
        ((name, content),) = files.items()
        return name, content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return "ct.zip", archive.getvalue()
