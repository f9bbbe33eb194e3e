"""Program of the child process that reads a volume file (NIfTI, NRRD, MHA). Run by `reader_process.py`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SETUP = json.loads(sys.stdin.buffer.readline())
sys.path += SETUP["paths"]  # it is started without site-packages

import numpy as np  # noqa: E402

from lib.errors import ImageFileError  # noqa: E402
from lib.imaging.files.child_main import Response, end_with_parent, serve  # noqa: E402

FLOAT_BYTES = 4


def main() -> None:
    """Answer requests until the input ends."""
    end_with_parent(SETUP["parent"])
    if SETUP["argument"] == "nifti":  # imported before the limits are set
        from lib.imaging.files.nifti import read_nifti as read_file
    else:
        from lib.imaging.files.itk_volume import read_itk as read_file

    def read(request: dict[str, Any]) -> Response:
        """Return shape (K, R, C), affine (to LPS mm) and voxels of a file in the working directory."""
        shape, affine, slices = read_file(Path(request["file"]))
        count = FLOAT_BYTES * int(np.prod(shape, dtype=np.int64))
        return {"shape": shape, "affine": affine.tolist(), "bytes": count}, (one.data for one in slices)

    serve(read, errors=(ImageFileError,))


if __name__ == "__main__":
    main()
    os._exit(0)  # skips exit handlers of libraries
