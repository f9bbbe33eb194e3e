"""Read a volume file (NIfTI, NRRD, MHA) in a child process, with limits on memory and time from its header."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import ImageFileError, InputError
from lib.imaging.files.child_process import ChildError, ChildProcess
from lib.imaging.files.failed_files import failed_files
from lib.imaging.files.header_check import Announced
from lib.types import FloatArray

PROGRAM = Path(__file__).with_name("reader_main.py")
TIMEOUT_S = 600.0  # wall clock on a busy machine; the largest file takes one minute
START_CPU_S = 15.0  # processor time; importing the libraries takes half a second
GIGABYTE_CPU_S = 60.0  # per GB of uncompressed voxels; measured: 15
FIXED_BYTES = 2**28  # in addition to the libraries
STORED_COPIES = 2  # ITK decompresses into a second buffer
Check = Callable[[tuple[int, int, int], NDArray[np.float64]], None]


def read_volume(
    path: Path, suffix: str, announced: Announced, *, check: Check
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return the voxels (K, R, C) of a volume file in file order, float32, and the affine from voxel to LPS mm.

    Args:
        path: Path of the file; the child reads it through a link with another name.
        suffix: Suffix that determines the format.
        announced: Size and type of the voxels according to the header.
        check: Called with shape and affine before memory is allocated; its exceptions are propagated.

    Raises:
        ImageFileError: Damaged, not scalar, of another shape than announced, or the reader crashed or stalled.
        OSError: The file cannot be opened.
    """
    path.open("rb").close()
    known = failed_files().outcome_of(path)
    if known:
        raise _damaged(path, known)
    with tempfile.TemporaryDirectory(prefix="ct2pet-") as folder:
        name = f"volume{suffix}"
        Path(folder, name).symlink_to(path.absolute())
        child = ChildProcess(
            PROGRAM, Path(folder), packages=("numpy", "SimpleITK", "nibabel"), timeout_s=TIMEOUT_S,
            argument="itk" if suffix in (".nrrd", ".mha") else "nifti",
        )  # fmt: skip
        received: list[tuple[FloatArray, NDArray[np.float64]]] = []

        def receive(response: dict[str, Any]) -> memoryview:
            """Allocate the voxels, if they have the announced shape."""
            shape = tuple(map(int, response["shape"]))
            affine = np.array(response["affine"], dtype=np.float64)
            if shape != announced.shape or len(shape) != 3:
                raise ImageFileError(
                    f"{name}: read as {shape}, its header announces {announced.shape}; export it again"
                )
            check((shape[0], shape[1], shape[2]), affine)
            received.append((np.empty(shape, np.float32), affine))
            return received[0][0].data

        try:
            with child:
                response = child.ask(_request(name, announced, path.stat().st_size), receive)
            if "error" in response:
                raise ImageFileError(response["error"])
        except InputError as error:
            raise error.with_message(str(error).replace(name, path.name)) from error
        except ChildError as error:
            if error.is_repeatable:
                failed_files().remember(path, error.outcome)
            raise _damaged(path, error.outcome) from error
    return received[0]


def _damaged(path: Path, outcome: str) -> ImageFileError:
    return ImageFileError(f"{path.name}: damaged: reading it {outcome}; export it again")


def _request(name: str, announced: Announced, size: int) -> dict[str, Any]:
    cpu_s = START_CPU_S + GIGABYTE_CPU_S * announced.needed_bytes / 1e9
    memory_bytes = FIXED_BYTES + STORED_COPIES * announced.stored_bytes + size
    return {"file": name, "memory_bytes": memory_bytes, "cpu_s": cpu_s, "cpu_total_s": cpu_s}
