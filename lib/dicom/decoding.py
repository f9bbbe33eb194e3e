"""The program of a decoder process: compressed DICOM slices in, pixels out. Run by `decoder.py`."""

from __future__ import annotations

import os
import sys
from typing import Any

sys.path += sys.argv[3:]  # it is started without site-packages

from lib.imaging.child_main import Answer, end_with_parent, serve


def main() -> None:
    """Answer until the input ends."""
    end_with_parent(int(sys.argv[1]))
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def decode(request: dict[str, Any]) -> Answer:
        """Return the pixels of a file of the working directory in C order."""
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(request["file"])
        image = reader.Execute()
        values = sitk.GetArrayViewFromImage(image)
        content = values.tobytes()
        return {"shape": values.shape, "dtype": values.dtype.str, "bytes": len(content)}, [content]

    serve(decode)


if __name__ == "__main__":
    main()
    os._exit(0)  # no library's farewell
