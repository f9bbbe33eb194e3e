"""DICOM files of a volume of the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from CT2PETLib.i18n import _
from CT2PETLib.scene.volume import SceneError

INSTANCES = "DICOM.instanceUIDs"  # attribute that Slicer's DICOM import sets on a volume


def dicom_files(node: Any) -> tuple[Path, ...]:
    """Return the files of the series that a volume was loaded from, from Slicer's DICOM database.

    Raises:
        SceneError: The volume was not loaded from the database, or a file is missing there.
    """
    uids = (node.GetAttribute(INSTANCES) or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        raise SceneError(
            _(
                "{volume} was not loaded from Slicer's DICOM database. A server trains on DICOM series only: "
                "import the series into the database and load it from there."
            ).format(volume=node.GetName())
        )
    files = [database.fileForInstance(uid) for uid in uids]
    if not all(files):
        raise SceneError(
            _("{volume}: a file is missing in Slicer's DICOM database; import the series again.").format(
                volume=node.GetName()
            )
        )
    return tuple(Path(file) for file in files)
