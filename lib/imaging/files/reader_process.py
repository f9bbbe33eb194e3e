"""A volume file (NIfTI, NRRD, MHA) read in a process of its own, with the memory and time that its header asks for."""

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
TIMEOUT_S = 600.0  # on the clock, of a machine that does much else; the largest file takes one minute
START_CPU_S = 15.0  # of processor time; loading the libraries takes half a second
GIGABYTE_CPU_S = 60.0  # of unpacked numbers; measured: 15
FIXED_BYTES = 2**28  # beyond the libraries
STORED_COPIES = 2  # ITK unpacks beside the buffer that it fills
Check = Callable[[tuple[int, int, int], NDArray[np.float64]], None]


def read_volume(
    path: Path, suffix: str, announced: Announced, *, check: Check
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return the voxels (K, R, C) of a volume file in file order, float32, and the affine from voxel to LPS mm.

    Args:
        path: The file; the reader sees it under another name.
        suffix: Which kind of file it is, as its name ends.
        announced: By its header.
        check: Given shape and affine before room is made for the voxels; what it raises is raised.

    Raises:
        ImageFileError: Damaged, no scalar volume, of another shape than announced, or its reader ends or stalls.
        OSError: It cannot be opened.
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

        def receive(answer: dict[str, Any]) -> memoryview:
            """Make room for the voxels, where they are those that were announced."""
            shape = tuple(map(int, answer["shape"]))
            affine = np.array(answer["affine"], dtype=np.float64)
            if shape != announced.shape or len(shape) != 3:
                raise ImageFileError(
                    f"{name}: read as {shape}, its header announces {announced.shape}; export it again"
                )
            check((shape[0], shape[1], shape[2]), affine)
            received.append((np.empty(shape, np.float32), affine))
            return received[0][0].data

        try:
            with child:
                answer = child.ask(_request(name, announced, path.stat().st_size), receive)
            if "error" in answer:
                raise ImageFileError(answer["error"])
        except InputError as error:
            raise error.with_message(str(error).replace(name, path.name)) from error
        except ChildError as error:
            if error.is_repeatable:
                failed_files().remember(path, error.outcome)
            raise _damaged(path, error.outcome) from error
    return received[0]


def _damaged(path: Path, outcome: str) -> ImageFileError:
    return ImageFileError(f"{path.name}: is damaged: reading it {outcome}; export it again")


def _request(name: str, announced: Announced, size: int) -> dict[str, Any]:
    cpu_s = START_CPU_S + GIGABYTE_CPU_S * announced.needed_bytes / 1e9
    memory_bytes = FIXED_BYTES + STORED_COPIES * announced.stored_bytes + size
    return {"file": name, "memory_bytes": memory_bytes, "cpu_s": cpu_s, "cpu_total_s": cpu_s}
