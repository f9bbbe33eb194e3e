"""The panel's messages for the server's errors, by their codes.

A server's `detail` names HTTP requests, parameters and start options. The panel has buttons, numbered sections, and a
user who can ask the administrator of the server: its messages are made of `code` and `params`. Codes whose detail only
describes the input show it. The codes are listed in docs/errors.md of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from CT2PETLib.i18n import _

ADMINISTRATOR = _("ask the administrator of the server")
OTHER_CT = _("{detail}. Choose another CT in section 2.")
OTHER_FILE = _("{detail}. Export the CT again, or choose another one in section 2.")
TRY_AGAIN = _("{detail}. Try again in a moment.")
VERSIONS_DIFFER = _(
    "The server does not know this request: the panel and the server differ in version; {administrator}."
)
MESSAGES = {
    # models, versions and trainings
    "invalid_checkpoint": _("{detail}. Choose another model or version, or {administrator}."),
    "invalid_prepared_data": _("{detail}. Press Train in section 7 again; if that fails, {administrator}."),
    "invalid_recipe": _("{detail}. Check the number of epochs in section 7."),
    "invalid_split_file": _("{detail}. This cannot be corrected here: {administrator}."),
    "invalid_version": _("A version is a number. Choose one in section 3."),
    "mlflow_not_installed": _("The server cannot track trainings: MLflow is not installed; {administrator}."),
    "model_changed": _("Another version is served since the scoring began."),
    "model_file_missing": _("The file of model {model} was removed; {administrator}."),
    "model_not_found": _("The server has no model {model}; it has {known}. Choose one in section 3."),
    "model_not_offered": _("The server has no model {model}; it has {known}. To have it offered, {administrator}."),
    "model_not_served": _(
        "Of model {model} no version is in use. Choose one of the versions {versions} in section 7, then "
        "press Use the selected version."
    ),
    "model_not_trained": _("Model {model} is not trained yet: press Train in section 7, or {administrator} for one."),
    "models_not_trained": _("No model of the server is trained yet: press Train in section 7."),
    "no_calibrated_model": _("No model of the server can estimate its error. Train one with validation patients."),
    "no_calibration": _(
        "Model {model} cannot estimate its error. Untick Uncertainty map, or choose a model that was "
        "trained with validation patients."
    ),
    "no_model_card": _("The file of the model has no model card, so it is not a model of ct2pet; {administrator}."),
    "no_pairs": _(
        "There is nothing to train on: no CT of the server has a PET of the same study. Add pairs in "
        "section 6, or {administrator}, who can list the reason for each series."
    ),
    "no_plausible_pairs": _(
        "There is nothing to train on: none of {pairs} pairs is plausible. Add pairs in section 6, or "
        "{administrator}, who can list the reasons for each."
    ),
    "no_prepared_pairs": _(
        "None of {pairs} pairs could be prepared: {detail}. Add pairs in section 6, or {administrator}."
    ),
    "no_previous_version": _("{model}: no version was in use before this one. Choose one of {versions} in section 7."),
    "onnx_not_installed": _("The server lacks what it needs for this imported model; {administrator}."),
    "imported_model": _(
        "This model was imported from another program and cannot be trained further. Choose another "
        "version in section 7, or {administrator}."
    ),
    "invalid_onnx": _(
        "The imported network of this version is not usable. Choose another version in section 7, or {administrator}."
    ),
    "no_training_patients": _(
        "None of {patients} patients is left to train on, the others are set aside to judge the model. "
        "Add pairs in section 6, or {administrator} to set fewer patients aside."
    ),
    "no_usable_studies": _("{detail}. Add studies to the server, or {administrator}."),
    "no_versions": _("{model}: no version is kept. Press Train in section 7."),
    "nothing_to_score": _("Every CT of the server has a PET: there is nothing to estimate."),
    "other_preparation": _("{detail}. This cannot be corrected here: {administrator}."),
    "other_recipe": _("{detail}. This cannot be corrected here: {administrator}."),
    "region_outside": "{detail}.",
    "run_exists": _("A training exists already in the folder of this one; {administrator}."),
    "run_in_use": _("Another training uses the folder of this one. Press Train again when it has ended."),
    "task_disabled": _("The server does not offer this: {task} is switched off; {administrator}."),
    "task_failed": _("{detail}. Press the button again; if that fails, {administrator}."),
    "task_not_found": _("There was no {task} since the server was started."),
    "task_not_running": _("Nothing is running that could be stopped."),
    "task_running": _("Another {task} is running. Wait until it has ended, or stop it in section 7."),
    "too_few_patients_for_folds": _(
        "{patients} patients are too few for {folds} networks. Add pairs in section 6, or "
        "{administrator} to set fewer folds."
    ),
    "too_many_tasks": _("{waiting} tasks are waiting already. Wait until some have ended."),
    "tracking_uri_not_allowed": _("The server does not allow this tracking server; {administrator}."),
    "training_diverged": _(
        "The training diverged in epoch {epoch} (learning rate {learning_rate}): {administrator} to "
        "train with a lower rate."
    ),
    "training_failed": _("{detail}. Press Train in section 7 to continue; if that fails, {administrator}."),
    "version_not_found": _("{model} has no version {version}; it has {known}. Choose one in section 3 or 7."),
    # images and pairs
    "image_not_found": _(
        "The server has no CT {image}. Choose a study of the list in section 2, or a CT of the scene."
    ),
    "implausible_pair": _(
        "Not kept: the CT and the PET do not look like one patient's ({reasons}). If you have checked "
        "them and take responsibility, {administrator} to keep the pair all the same."
    ),
    "invalid_dicom": OTHER_FILE,
    "invalid_image_file": OTHER_FILE,
    "irregular_slices": OTHER_FILE,
    "label_not_found": _(
        "The server has no volume {label} called {tag}. The list in section 2 shows the studies it has."
    ),
    "missing_attribute": _("{detail}. Correct the header of the series, or choose another one in section 2."),
    "not_a_pair": _("{detail}. Choose a CT and a PET of one examination in section 6."),
    "pacs_read_only": _(
        "The server cannot store series with the studies. Press Save as DICOM series, and store it there yourself."
    ),
    "pair_not_found": _("The server has no pair with the CT {ct}."),
    "pair_not_listed_yet": _("The pair was kept, and is not listed yet. Press Refresh in section 2 in a while."),
    "series_not_found": _("The server has no series {series_instance_uid}. Press Refresh in section 2."),
    "series_not_usable": OTHER_CT,
    "several_ct_series": _("The study holds several CT series. Choose one of them in section 2."),
    "undecodable_pixels": OTHER_FILE,
    "unlike_training_cts": _(
        "This CT is unlike those that the model was trained on: {reasons}. Choose another model or CT, "
        "or tick “Allow a CT unlike the training CTs” in section 3 to synthesise its PET all the same."
    ),
    "unsupported_series": OTHER_CT,
    "upload_without_study": _(
        "Only a CT that the server has can get a DICOM series there. Press Save as DICOM series to keep "
        "it on this computer."
    ),
    # the server itself
    "body_too_large": VERSIONS_DIFFER,
    "busy": _("The server is busy. Try again in a moment."),
    "cancelled": _("Cancelled."),
    "client_disconnected": _("The connection was lost. Try again."),
    "disk_full": _("The disk of the server is full: {administrator} to free space, then press the button again."),
    "endpoint_not_found": VERSIONS_DIFFER,
    "fetch_cancelled": _("Cancelled."),
    "headers_too_large": VERSIONS_DIFFER,
    "host_not_allowed": _(
        "The server is not called {host}. Use its IP address in section 1, or {administrator} to allow that name."
    ),
    "internal_error": _("The server failed; {administrator}, its log has the details."),
    "invalid_accounts": _("The accounts of the server cannot be read; {administrator}."),
    "invalid_input": "{detail}.",
    "invalid_parameter": VERSIONS_DIFFER,
    "invalid_request": "{detail}.",
    "keycloak_unavailable": _("The accounts of the server are not available; try again later, or {administrator}."),
    "log_not_found": _("The server has no log file."),
    "malformed_request": _("{detail}. If the panel and the server differ in version, {administrator}."),
    "memory_in_use": _(
        "The server needs {needed_mb} MB of memory for this, which other requests hold. Try again later."
    ),
    "memory_limit": _(
        "The server needs {needed_mb} MB of memory for this, and may use {limit_mb} MB. Choose fewer "
        "slices in section 3, crop the volume, or {administrator} to allow more."
    ),
    "method_not_allowed": VERSIONS_DIFFER,
    "not_authenticated": "{detail}.",
    "not_found": "{detail}.",
    "not_permitted": _("{detail}; {administrator}."),
    "not_supported": _("The server does not offer this."),
    "origin_not_allowed": _("The server allows no requests of this origin; {administrator}."),
    "out_of_memory": _(
        "The server has not enough memory for this. Choose fewer slices in section 3, or try again later."
    ),
    "pacs_failed": TRY_AGAIN,
    "request_timeout": _("The request arrived too slowly. Check the network, then try again."),
    "request_too_large": _(
        "The request is larger than {limit_mb} MB. Send one CT series, or {administrator} to allow more."
    ),
    "session_limit": _(
        "The server keeps {sessions} images already. Wait until one expires, {expiry_s} s after its last use."
    ),
    "session_not_found": _("The server keeps this image no longer. Press Synthesise PET to send it again."),
    "session_space": _("The images that the server keeps would take more than {limit_gb} GB. Wait until one expires."),
    "studies_not_listed_yet": _(
        "The server is listing the studies of the PACS. Press Refresh in section 2 in a while."
    ),
    "too_many_requests": TRY_AGAIN,
    "too_many_series": _("The PACS lists more than {limit} {modality} series; {administrator} to narrow the search."),
    "unavailable": TRY_AGAIN,
    "unsupported_media_type": VERSIONS_DIFFER,
    "uri_too_long": VERSIONS_DIFFER,
    "write_failed": _("The server cannot write its files: {administrator} to free space, then press the button again."),
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
