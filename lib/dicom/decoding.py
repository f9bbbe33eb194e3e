"""The program of a decoder process: paths of compressed DICOM slices in, pixels out. Imports nothing of ours.

It reads a path a line on its standard input. On its standard output it answers with a line of JSON, and after
`{"shape": [...], "dtype": "<i2"}` with the numbers in C order. A damaged file may end it: that is what it is for.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

MEMORY_BYTES = 6 * 2**30  # of addresses; the libraries map 1 GiB, and a slice of 8,192 x 8,192 takes some 1 GiB


def main() -> None:
    """Answer until the input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        try:
            values = _decode(line.rstrip("\n"))
        except (RuntimeError, MemoryError) as error:
            answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        else:
            answers.write(_head(values) + values.tobytes())
        answers.flush()


def _head(values: NDArray[np.generic]) -> bytes:
    return json.dumps({"shape": values.shape, "dtype": values.dtype.str}).encode() + b"\n"


def _decode(path: str) -> NDArray[np.generic]:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(path)
    return np.ascontiguousarray(sitk.GetArrayFromImage(reader.Execute()))


if __name__ == "__main__":
    main()
