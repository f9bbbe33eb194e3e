"""Main program of the decoder process, which decodes compressed DICOM slices. Started by `decoder.py`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

SETUP = json.loads(sys.stdin.buffer.readline())
sys.path += SETUP["paths"]  # the process starts without site-packages

from lib.imaging.files.child_main import Answer, end_with_parent, serve  # noqa: E402


def main() -> None:
    """Serve requests until the input ends."""
    end_with_parent(SETUP["parent"])
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def decode(request: dict[str, Any]) -> Answer:
        """Return the pixels of a file in the working directory in C order."""
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
    os._exit(0)  # skip the libraries' exit handlers
