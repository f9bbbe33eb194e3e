"""What a client of the HTTP API, or the administrator of the server, can do about an error, by its code.

The engine's messages name no request and no setting; `detail_of` adds them. A client with
messages of its own, such as the panel in 3D Slicer, uses `code` and `params` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

from lib.errors import CT2PETError

ADVICE = {
    "image_not_found": "give the SeriesInstanceUID of one of its CT series (GET /datastore/?output=all lists them), or "
    "send a file",
    "implausible_pair": "to keep it after checking it yourself, send it again with despite_checks=true",
    "label_not_found": "GET /datastore/?output=all lists them",
    "memory_limit": "or start the server with a larger --conf memory_gb",
    "model_file_missing": "GET /info/ lists the models",
    "model_not_served": 'POST /ct2pet/models/$model/serve with {"version": $version} serves it anyway',
    "model_not_trained": "train it here (POST /train/$model, or Train in Slicer), or run `python main.py train STUDIES "
    "--out RUN --stages $stages` and put RUN/model.safetensors into the server's models folder as "
    "$model/model.safetensors",
    "model_not_offered": "start the server with --conf models $models",
    "models_not_trained": "see GET /info/ for how to train them",
    "no_pairs": "GET /ct2pet/series gives the reason for each series",
    "no_plausible_pairs": "GET /ct2pet/pairs gives the reasons for each",
    "no_previous_version": 'name one of $versions as {"version": 1}',
    "onnx_not_installed": "on the server, `pip install -r requirements-onnx.txt` installs them",
    "pacs_read_only": "request the .zip and store it there yourself",
    "pair_not_found": "GET /ct2pet/pairs lists them",
    "pair_not_listed_yet": "see GET /ct2pet/pairs",
    "request_too_large": "or start the server with a larger --conf max_upload_mb",
    "session_limit": "remove one (DELETE /session/<id>), or wait until one expires",
    "session_space": "remove a session (DELETE /session/<id>), or wait until one expires",
    "task_not_found": "$start starts one",
    "task_running": "GET shows how it does, DELETE stops it",
    "too_many_series": "set MONAI_LABEL_DICOMWEB_SEARCH_FILTER",
    "too_many_tasks": "or stop them with DELETE",
    "unlike_training_cts": "or, to synthesise its PET all the same, send it again with allow_unlike=true",
    "users_file_unreadable": "`python main.py users add NAME --role admin --file FILE` creates one",
    "version_not_found": "GET /ct2pet/models/$model lists them",
}


def detail_of(error: CT2PETError) -> str:
    """Return an error's message, followed by what to do about it over HTTP."""
    return with_advice(str(error), error.code, error.params)


def error_record(error: CT2PETError) -> dict[str, Any]:
    """Return the error entry of a task's status."""
    return {"code": error.code, "params": error.params, "detail": detail_of(error)}


def with_advice(message: str, code: str, params: Mapping[str, Any]) -> str:
    """Return the message of a code, followed by what to do about it over HTTP."""
    advice = Template(ADVICE.get(code, "")).safe_substitute(params)
    return f"{message}; {advice}" if advice else message
