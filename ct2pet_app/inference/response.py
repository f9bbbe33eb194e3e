"""The answer to an inference: as MONAI Label's, and with a part more where two volumes were asked for."""

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
Output = Literal["image", "json", "all"] | None


def refuse_two_files_as_one(params: Mapping[str, Any], output: Output) -> None:
    """Return when an answer of this form can hold what is asked for.

    Raises:
        RequestError: Two volumes are asked for in an answer that is one file; or a parameter is not understood.
    """
    if output == "image" and InferOptions.from_params(params).uncertainty == "beside":
        raise RequestError(
            "output=image is one file; leave output out to get the synthetic PET and its uncertainty, or ask for the "
            'uncertainty alone with {"uncertainty": "only"}'
        )


def result_response(result: Mapping[str, Any], output: Output, background_tasks: BackgroundTasks) -> Any:
    """Return MONAI Label's answer: parts `params` and `image`; after them `uncertainty`, where it was asked for beside.

    Clients that take one file, as MONAI Label's own, take the first: the synthetic PET. Files are sent piece by piece,
    and are gone once they are sent.
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
    """Return an answer of JSON and files; these are opened and unlinked, so that none is left whatever happens."""
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


def set_model_headers(answer: Any, response: Response, told: Mapping[str, Any]) -> Any:
    """Return an answer whose headers say which version of the model drew it: of a file alone, nothing else does.

    Args:
        answer: As it will be sent; plain values become a response only later.
        response: Whose headers plain values get.
        told: What is told of the result.
    """
    model = told["model"]
    headers = (answer if isinstance(answer, Response) else response).headers
    headers["X-CT2PET-Model"], headers["X-CT2PET-Checksum"] = model["name"], model["checksum"]
    if model["version"] is not None:
        headers["X-CT2PET-Version"] = str(model["version"])
    return answer


def uncertainty_file(result: Mapping[str, Any]) -> Path | None:
    """Return where the map lies that was asked for beside the PET; None where there is none."""
    told = result["params"]["uncertainty"]
    image = Path(result["file"])
    return None if told is None or told["file"] == image.name else image.with_name(told["file"])
