"""The DICOM files that a volume of the scene was loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from CT2PETLib.scene.volume import SceneError

INSTANCES = "DICOM.instanceUIDs"  # as Slicer's DICOM import notes them on a volume


def dicom_files(node: Any) -> tuple[Path, ...]:
    """Return the files of the series that a volume was loaded from, out of Slicer's DICOM database.

    Raises:
        SceneError: It was not loaded from there, or a file is gone.
    """
    uids = (node.GetAttribute(INSTANCES) or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        raise SceneError(
            f"{node.GetName()}: was not loaded from Slicer's DICOM database; a server learns from DICOM series only: "
            "import the series there and load it again"
        )
    files = [database.fileForInstance(uid) for uid in uids]
    if not all(files):
        raise SceneError(f"{node.GetName()}: a file of its series is not in Slicer's DICOM database any more")
    return tuple(Path(file) for file in files)
