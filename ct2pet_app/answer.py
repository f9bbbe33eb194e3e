"""The answer to an inference: as MONAI Label's, and with a part more where two volumes were asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastapi.background import BackgroundTasks
from fastapi.responses import Response
from monailabel.endpoints.infer import send_response
from monailabel.interfaces.datastore import Datastore
from monailabel.utils.others.generic import get_mime_type, remove_file
from requests_toolbelt import MultipartEncoder

from ct2pet_app.errors import RequestError
from ct2pet_app.infer_request import InferOptions

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


def send_answer(
    datastore: Datastore, result: Mapping[str, Any], output: Output, background_tasks: BackgroundTasks
) -> Any:
    """Return MONAI Label's answer: parts `params` and `image`; after them `uncertainty`, where it was asked for beside.

    Clients that take one file, as MONAI Label's own, take the first: the synthetic PET.
    """
    image = Path(result["file"])
    uncertainty = second_file(result)
    if uncertainty is None:
        return send_response(datastore, result, output, background_tasks)
    background_tasks.add_task(remove_file, str(uncertainty))
    if output == "json":
        return send_response(datastore, result, output, background_tasks)
    background_tasks.add_task(remove_file, str(image))
    fields: dict[str, Any] = {"params": (None, json.dumps(result["params"]), "application/json")}
    with image.open("rb") as pet, uncertainty.open("rb") as error:
        for name, path, file in (("image", image, pet), ("uncertainty", uncertainty, error)):
            fields[name] = (path.name, file, get_mime_type(str(path)))
        body = MultipartEncoder(fields=fields)
        return Response(content=body.to_string(), media_type=body.content_type)


def name_model(answer: Any, response: Response, told: Mapping[str, Any]) -> Any:
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


def second_file(result: Mapping[str, Any]) -> Path | None:
    """Return where the map lies that was asked for beside the PET; None where there is none."""
    told = result["params"]["uncertainty"]
    image = Path(result["file"])
    return None if told is None or told["file"] == image.name else image.with_name(told["file"])
