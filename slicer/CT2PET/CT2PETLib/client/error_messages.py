"""The panel's messages for the server's errors, by their codes.

A server's `detail` names HTTP requests, parameters and start options. The panel has buttons, numbered sections, and a
user who can ask the administrator of the server: its messages are made of `code` and `params`. Codes whose detail only
describes the input show it. The codes are listed in docs/errors.md of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADMINISTRATOR = "ask the administrator of the server"
OTHER_CT = "{detail}. Choose another CT in section 2."
OTHER_FILE = "{detail}. Export the CT again, or choose another one in section 2."
TRY_AGAIN = "{detail}. Try again in a moment."
VERSIONS_DIFFER = "The server does not know this request: the panel and the server differ in version; {administrator}."
MESSAGES = {
    # models, versions and trainings
    "invalid_checkpoint": "{detail}. Choose another model or version, or {administrator}.",
    "invalid_prepared_data": "{detail}. Press Train in section 7 again; if that fails, {administrator}.",
    "invalid_recipe": "{detail}. Check the number of epochs in section 7.",
    "invalid_split_file": "{detail}. This cannot be corrected here: {administrator}.",
    "invalid_version": "A version is a number. Choose one in section 3.",
    "mlflow_not_installed": "The server cannot track trainings: MLflow is not installed; {administrator}.",
    "model_changed": "Another version is served since the scoring began.",
    "model_file_missing": "The file of model {model} was removed; {administrator}.",
    "model_not_found": "The server has no model {model}; it has {known}. Choose one in section 3.",
    "model_not_offered": "The server has no model {model}; it has {known}. To have it offered, {administrator}.",
    "model_not_served": "Of model {model} no version is in use. Choose one of the versions {versions} in section 7, "
    "then press Use the selected version.",
    "model_not_trained": "Model {model} is not trained yet: press Train in section 7, or {administrator} for one.",
    "models_not_trained": "No model of the server is trained yet: press Train in section 7.",
    "no_calibrated_model": "No model of the server can estimate its error. Train one with validation patients.",
    "no_calibration": "Model {model} cannot estimate its error. Untick Uncertainty map, or choose a model that "
    "was trained with validation patients.",
    "no_model_card": "The file of the model has no model card, so it is not a model of ct2pet; {administrator}.",
    "no_pairs": "There is nothing to train on: no CT of the server has a PET of the same study. Add pairs in section "
    "6, or {administrator}, who can list the reason for each series.",
    "no_plausible_pairs": "There is nothing to train on: none of {pairs} pairs is plausible. Add pairs in section 6, "
    "or {administrator}, who can list the reasons for each.",
    "no_prepared_pairs": "None of {pairs} pairs could be prepared: {detail}. Add pairs in section 6, or "
    "{administrator}.",
    "no_previous_version": "{model}: no version was in use before this one. Choose one of {versions} in section 7.",
    "onnx_not_installed": "The server lacks what it needs for this imported model; {administrator}.",
    "imported_model": "This model was imported from another program and cannot be trained further. Choose another "
    "version in section 7, or {administrator}.",
    "invalid_onnx": "The imported network of this version is not usable. Choose another version in section 7, or "
    "{administrator}.",
    "no_training_patients": "None of {patients} patients is left to train on, the others are set aside to judge the "
    "model. Add pairs in section 6, or {administrator} to set fewer patients aside.",
    "no_usable_studies": "{detail}. Add studies to the server, or {administrator}.",
    "no_versions": "{model}: no version is kept. Press Train in section 7.",
    "nothing_to_score": "Every CT of the server has a PET: there is nothing to estimate.",
    "other_preparation": "{detail}. This cannot be corrected here: {administrator}.",
    "other_recipe": "{detail}. This cannot be corrected here: {administrator}.",
    "region_outside": "{detail}.",
    "run_exists": "A training exists already in the folder of this one; {administrator}.",
    "run_in_use": "Another training uses the folder of this one. Press Train again when it has ended.",
    "task_disabled": "The server does not offer this: {task} is switched off; {administrator}.",
    "task_failed": "{detail}. Press the button again; if that fails, {administrator}.",
    "task_not_found": "There was no {task} since the server was started.",
    "task_not_running": "Nothing is running that could be stopped.",
    "task_running": "Another {task} is running. Wait until it has ended, or stop it in section 7.",
    "too_few_patients_for_folds": "{patients} patients are too few for {folds} networks. Add pairs in section 6, or "
    "{administrator} to set fewer folds.",
    "too_many_tasks": "{waiting} tasks are waiting already. Wait until some have ended.",
    "tracking_uri_not_allowed": "The server does not allow this tracking server; {administrator}.",
    "training_diverged": "The training diverged in epoch {epoch} (learning rate {learning_rate}): {administrator} to "
    "train with a lower rate.",
    "training_failed": "{detail}. Press Train in section 7 to continue; if that fails, {administrator}.",
    "version_not_found": "{model} has no version {version}; it has {known}. Choose one in section 3 or 7.",
    # images and pairs
    "image_not_found": "The server has no CT {image}. Choose a study of the list in section 2, or a CT of the scene.",
    "implausible_pair": "Not kept: the CT and the PET do not look like one patient's ({reasons}). If you have checked "
    "them and take responsibility, {administrator} to keep the pair all the same.",
    "invalid_dicom": OTHER_FILE,
    "invalid_image_file": OTHER_FILE,
    "irregular_slices": OTHER_FILE,
    "label_not_found": "The server has no volume {label} called {tag}. The list in section 2 shows the studies it has.",
    "missing_attribute": "{detail}. Correct the header of the series, or choose another one in section 2.",
    "not_a_pair": "{detail}. Choose a CT and a PET of one examination in section 6.",
    "pacs_read_only": "The server cannot store series with the studies. Press Save as DICOM series, and store it there "
    "yourself.",
    "pair_not_found": "The server has no pair with the CT {ct}.",
    "pair_not_listed_yet": "The pair was kept, and is not listed yet. Press Refresh in section 2 in a while.",
    "series_not_found": "The server has no series {series_instance_uid}. Press Refresh in section 2.",
    "series_not_usable": OTHER_CT,
    "several_ct_series": "The study holds several CT series. Choose one of them in section 2.",
    "undecodable_pixels": OTHER_FILE,
    "unlike_training_cts": "This CT is unlike those that the model was trained on: {reasons}. Choose another model or "
    "CT, or tick Allow unlike CT in section 3 to synthesise its PET all the same.",
    "unsupported_series": OTHER_CT,
    "upload_without_study": "Only a CT that the server has can get a DICOM series there. Press Save as DICOM series to "
    "keep it on this computer.",
    # the server itself
    "body_too_large": VERSIONS_DIFFER,
    "busy": "The server is busy. Try again in a moment.",
    "cancelled": "Cancelled.",
    "client_disconnected": "The connection was lost. Try again.",
    "disk_full": "The disk of the server is full: {administrator} to free space, then press the button again.",
    "endpoint_not_found": VERSIONS_DIFFER,
    "fetch_cancelled": "Cancelled.",
    "headers_too_large": VERSIONS_DIFFER,
    "host_not_allowed": "The server is not called {host}. Use its IP address in section 1, or {administrator} to allow "
    "that name.",
    "internal_error": "The server failed; {administrator}, its log has the details.",
    "invalid_accounts": "The accounts of the server cannot be read; {administrator}.",
    "invalid_input": "{detail}.",
    "invalid_parameter": VERSIONS_DIFFER,
    "invalid_request": "{detail}.",
    "keycloak_unavailable": "The accounts of the server are not available; try again later, or {administrator}.",
    "log_not_found": "The server has no log file.",
    "malformed_request": "{detail}. If the panel and the server differ in version, {administrator}.",
    "memory_in_use": "The server needs {needed_mb} MB of memory for this, which other requests hold. Try again later.",
    "memory_limit": "The server needs {needed_mb} MB of memory for this, and may use {limit_mb} MB. Choose fewer "
    "slices in section 3, crop the volume, or {administrator} to allow more.",
    "method_not_allowed": VERSIONS_DIFFER,
    "not_authenticated": "{detail}.",
    "not_found": "{detail}.",
    "not_permitted": "{detail}.",
    "not_supported": "The server does not offer this.",
    "origin_not_allowed": "The server allows no requests of this origin; {administrator}.",
    "out_of_memory": "The server has not enough memory for this. Choose fewer slices in section 3, or try again later.",
    "pacs_failed": TRY_AGAIN,
    "request_timeout": "The request arrived too slowly. Check the network, then try again.",
    "request_too_large": "The request is larger than {limit_mb} MB. Send one CT series, or {administrator} to allow "
    "more.",
    "session_limit": "The server keeps {sessions} images already. Wait until one expires, {expiry_s} s after its last "
    "use.",
    "session_not_found": "The server keeps this image no longer. Press Synthesise PET to send it again.",
    "session_space": "The images that the server keeps would take more than {limit_gb} GB. Wait until one expires.",
    "studies_not_listed_yet": "The server is listing the studies of the PACS. Press Refresh in section 2 in a while.",
    "too_many_requests": TRY_AGAIN,
    "too_many_series": "The PACS lists more than {limit} {modality} series; {administrator} to narrow the search.",
    "unavailable": TRY_AGAIN,
    "unsupported_media_type": VERSIONS_DIFFER,
    "uri_too_long": VERSIONS_DIFFER,
    "write_failed": "The server cannot write its files: {administrator} to free space, then press the button again.",
}


def message_of(problem: Mapping[str, Any]) -> str:
    """Return the panel's message for a problem; its `detail` where its code is unknown or has other params."""
    detail, params = str(problem.get("detail", "")), problem.get("params")
    template = MESSAGES.get(str(problem.get("code", "")))
    if template is None or not isinstance(params, dict):
        return detail
    shown = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in params.items()}
    try:
        return template.format_map({**shown, "detail": detail.rstrip("."), "administrator": ADMINISTRATOR})
    except KeyError:  # a server of another version
        return detail
