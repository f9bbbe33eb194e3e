"""The response to an inference: MONAI Label's format, with one more part if two volumes were requested."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse, Response, StreamingResponse
from monailabel.utils.others.generic import get_mime_type, remove_file
from requests_toolbelt import MultipartEncoder

from ct2pet_app.errors import RequestError
from ct2pet_app.inference.request import InferOptions

PIECE_BYTES = 2**18
MAX_HEADER_CHARACTERS = 1000
Output = Literal["image", "json", "all"] | None


def refuse_two_files_as_one(params: Mapping[str, Any], output: Output) -> None:
    """Raise an error if two volumes are requested as one file.

    Raises:
        RequestError: Two volumes with `output=image`; or an invalid parameter.
    """
    if output == "image" and InferOptions.from_params(params).uncertainty == "both":
        raise RequestError(
            "output=image is one file; omit output to get the synthetic PET and its uncertainty, or request the "
            'uncertainty alone with {"uncertainty": "only"}'
        )


def result_response(result: Mapping[str, Any], output: Output, background_tasks: BackgroundTasks) -> Any:
    """Return MONAI Label's response: the parts `params` and `image`, then `uncertainty` if it was requested, too.

    Clients that read one file, such as MONAI Label's, get the first: the synthetic PET. Files are streamed and deleted.
    """
    image, uncertainty = Path(result["file"]), uncertainty_file(result)
    if output == "image":
        background_tasks.add_task(remove_file, str(image))
        return FileResponse(image, media_type=get_mime_type(str(image)), filename=image.name)
    files = {"image": image} if uncertainty is None else {"image": image, "uncertainty": uncertainty}
    if output == "json":
        for path in files.values():
            path.unlink(missing_ok=True)
        return result["params"]
    return _multipart(result["params"], files)


def _multipart(params: Any, files: Mapping[str, Path]) -> Response:
    """Return a response of JSON and files, which are opened and unlinked first so that none can remain."""
    fields: dict[str, Any] = {"params": (None, json.dumps(params), "application/json")}
    opened = ExitStack()
    for name, path in files.items():
        fields[name] = (path.name, opened.enter_context(path.open("rb")), get_mime_type(str(path)))
        path.unlink()
    body = MultipartEncoder(fields=fields)

    def pieces() -> Iterator[bytes]:
        """Yield the body."""
        with opened:
            while piece := body.read(PIECE_BYTES):
                yield piece

    return StreamingResponse(pieces(), media_type=body.content_type, headers={"Content-Length": str(body.len)})


def set_model_headers(content: Any, response: Response, metadata: Mapping[str, Any]) -> Any:
    """Add headers for what a single file does not contain: model, version, familiarity of the CT; return the content.

    Args:
        content: A response, or plain values from which FastAPI makes one.
        response: Its headers are used for plain values.
        metadata: Of the result.
    """
    model = metadata["model"]
    headers = (content if isinstance(content, Response) else response).headers
    headers["X-CT2PET-Model"], headers["X-CT2PET-Checksum"] = model["name"], model["checksum"]
    if model["version"] is not None:
        headers["X-CT2PET-Version"] = str(model["version"])
    familiarity = metadata["familiarity"]
    headers["X-CT2PET-Familiarity"] = familiarity["level"]
    if familiarity["sentence"]:
        headers["X-CT2PET-Familiarity-Reasons"] = header_text("; ".join(familiarity["reasons"]))
    return content


def header_text(text: str) -> str:
    """Return text as the value of a header: one line of ASCII, other characters as `?`."""
    ascii_text = text.encode("ascii", "replace").decode("ascii")
    return " ".join("".join(sign if sign.isprintable() else " " for sign in ascii_text).split())[:MAX_HEADER_CHARACTERS]


def uncertainty_file(result: Mapping[str, Any]) -> Path | None:
    """Return the path of the uncertainty map that accompanies the PET; None if there is none."""
    uncertainty = result["params"]["uncertainty"]
    image = Path(result["file"])
    return None if uncertainty is None or uncertainty["file"] == image.name else image.with_name(uncertainty["file"])
