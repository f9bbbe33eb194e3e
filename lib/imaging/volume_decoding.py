"""The program of a process that reads one volume file (NIfTI, NRRD, MHA). Run by `volume_reader.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path += sys.argv[3:]  # it is started without site-packages

import numpy as np

from lib.errors import ImageFileError
from lib.imaging.child_main import Answer, end_with_parent, serve

FLOAT_BYTES = 4


def main() -> None:
    """Answer until the input ends."""
    end_with_parent(int(sys.argv[1]))
    if sys.argv[2] == "nifti":  # loaded before the limits hold
        from lib.imaging.nifti import read_nifti as read_file
    else:
        from lib.imaging.itk_volume import read_itk as read_file

    def read(request: dict[str, Any]) -> Answer:
        """Return the shape (K, R, C) and affine (to LPS mm) of a file of the working directory, and its voxels."""
        shape, affine, slices = read_file(Path(request["file"]))
        count = FLOAT_BYTES * int(np.prod(shape, dtype=np.int64))
        return {"shape": shape, "affine": affine.tolist(), "bytes": count}, (one.data for one in slices)

    serve(read, errors=(ImageFileError,))


if __name__ == "__main__":
    main()
    os._exit(0)  # no library's farewell
