"""What the endpoints of the viewer share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from ct2pet_app.app import CT2PETApp
from ct2pet_app.viewer.thumbnails import Thumbnails
from ct2pet_app.viewer.voxels import Voxels

STATE_KEY = "ct2pet_viewer"


class ImageReaders:
    """Readers of voxels and thumbnails, and the caches that they keep."""

    def __init__(self, app: CT2PETApp) -> None:
        self.voxels = Voxels(app.budget)
        self.thumbnails = Thumbnails(self.voxels)


def set_readers(server: FastAPI, app: CT2PETApp) -> None:
    """Let the endpoints of a server read the images of this app."""
    setattr(server.state, STATE_KEY, ImageReaders(app))


async def get_readers(request: Request) -> ImageReaders:
    """Return the readers of the server; a coroutine, so that it takes no thread of the common pool."""
    readers: ImageReaders = getattr(request.app.state, STATE_KEY)
    return readers


ReadersDep = Annotated[ImageReaders, Depends(get_readers)]
