"""Write NRRD files slice by slice; ITK's writer copies the volume, and compresses it in memory.

Format: http://teem.sourceforge.net/nrrd/format.html, version 4. Header and voxels are identical to those of ITK.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume
from lib.types import Progress, no_progress


def write_nrrd(volume: Volume, path: Path, *, level: int = 0, progress: Progress = no_progress) -> None:
    """Write a volume as NRRD, float32, LPS; call `progress` after every slice.

    Args:
        volume: The volume.
        path: The file.
        level: Of zlib, 0 to 9; with 0, the encoding is raw, otherwise gzip.
        progress: Called after every slice.

    Raises:
        OSError: The file cannot be written.
    """
    with ExitStack() as opened:
        file: BinaryIO | gzip.GzipFile = opened.enter_context(path.open("wb"))
        file.write(_header(volume.geometry, "gzip" if level else "raw").encode("ascii"))
        if level:
            file = opened.enter_context(gzip.GzipFile("", "wb", fileobj=file, compresslevel=level, mtime=0))
        for done, of_slice in enumerate(volume.array, start=1):
            file.write(np.ascontiguousarray(of_slice, dtype="<f4").data)
            progress(done, len(volume.array), "writing")


def _header(geometry: Geometry, encoding: str) -> str:
    slices, rows, columns = geometry.shape
    axes = geometry.orthonormal_direction * geometry.spacing_mm[::-1]
    directions = " ".join(_vector(axis) for axis in axes.T)
    return (
        "NRRD0004\n"
        "# Complete NRRD file format specification at:\n"
        "# http://teem.sourceforge.net/nrrd/format.html\n"
        "type: float\n"
        "dimension: 3\n"
        "space: left-posterior-superior\n"
        f"sizes: {columns} {rows} {slices}\n"
        f"space directions: {directions}\n"
        "kinds: domain domain domain\n"
        "endian: little\n"
        f"encoding: {encoding}\n"
        f"space origin: {_vector(geometry.origin_mm)}\n"
        "\n"
    )


def _vector(numbers: Iterable[float]) -> str:
    return f"({','.join(f'{number + 0.0:.17g}' for number in numbers)})"
