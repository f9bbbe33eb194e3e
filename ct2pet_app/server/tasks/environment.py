"""The environment of a task's process: an allowlist of variables, each with its reason.

All other variables are removed: the server's secrets, and those that make Python or the loader run other code
(`PYTHONPATH`, `PYTHONSTARTUP`, `LD_PRELOAD`). A request cannot set any variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lib.processors import configure_threads

SEARCH_PATHS = frozenset({"PATH", "LD_LIBRARY_PATH"})  # only absolute folders in them are passed on
REASONS: dict[str, str] = {
    # the system
    "PATH": "ctypes and MLflow look for system programs (ldconfig, git); absolute folders only",
    "LD_LIBRARY_PATH": "where containers mount the GPU driver's libraries; absolute folders only",
    "HOME": "a `~` in a --conf setting; library caches",
    "USER": "MLflow records who trained",
    "LOGNAME": "as USER, where USER is not set",
    "LANG": "encoding of file names",
    "LC_ALL": "as LANG",
    "LC_CTYPE": "as LANG",
    "TZ": "times in logs, run names and DICOM are local",
    "TMPDIR": "the server's own temporary folder, removed with it",
    "XDG_CACHE_HOME": "as CT2PET_CACHE, where that is not set",
    "SYSTEMROOT": "Windows cannot open a socket without it",
    "USERPROFILE": "HOME of Windows",
    "TEMP": "TMPDIR of Windows",
    "TMP": "TMPDIR of Windows",
    # processors
    "CUDA_VISIBLE_DEVICES": "which GPUs the server may use",
    "CUDA_DEVICE_ORDER": "how GPUs are numbered",
    "HIP_VISIBLE_DEVICES": "as CUDA_VISIBLE_DEVICES, on AMD GPUs",
    "ROCR_VISIBLE_DEVICES": "as CUDA_VISIBLE_DEVICES, on AMD GPUs",
    "CUBLAS_WORKSPACE_CONFIG": "reproducible results on a GPU",
    "PYTORCH_ALLOC_CONF": "how torch allocates memory",
    "PYTORCH_CUDA_ALLOC_CONF": "as PYTORCH_ALLOC_CONF, under its older name",
    "OMP_NUM_THREADS": "how many CPU threads the server may use",
    "OMP_WAIT_POLICY": "whether idle threads spin",
    "GOMP_SPINCOUNT": "how long idle threads spin",
    "MKL_NUM_THREADS": "as OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS": "as OMP_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "as OMP_NUM_THREADS",
    # the network, for the PACS and the tracking server
    "HTTP_PROXY": "proxy for the PACS and the tracking server",
    "HTTPS_PROXY": "as HTTP_PROXY",
    "NO_PROXY": "which hosts are reached without a proxy",
    "http_proxy": "as HTTP_PROXY",
    "https_proxy": "as HTTP_PROXY",
    "no_proxy": "as NO_PROXY",
    "REQUESTS_CA_BUNDLE": "the hospital's own certificate authority",
    "CURL_CA_BUNDLE": "as REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE": "as REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR": "as REQUESTS_CA_BUNDLE",
    # the server's settings: the task builds the same app from them
    "MONAI_LABEL_APP_DIR": "the app",
    "MONAI_LABEL_STUDIES": "the studies folder, or the URL of the PACS",
    "MONAI_LABEL_APP_CONF": "the --conf settings",
    "MONAI_LABEL_TASKS_TRAIN": "whether training is switched on",
    "MONAI_LABEL_TASKS_SCORING": "whether scoring is switched on",
    "MONAI_LABEL_TASKS_BATCH_INFER": "whether batches are switched on",
    "MONAI_LABEL_TASKS_STRATEGY": "whether strategies are switched on",
    "MONAI_LABEL_DATASTORE_USERNAME": "login at the PACS",
    "MONAI_LABEL_DATASTORE_PASSWORD": "login at the PACS",
    "MONAI_LABEL_DATASTORE_API_KEY": "login at the PACS",
    "MONAI_LABEL_DATASTORE_CACHE_PATH": "cache folder for series of the PACS",
    "MONAI_LABEL_DICOMWEB_USERNAME": "login at the PACS, under its older name",
    "MONAI_LABEL_DICOMWEB_PASSWORD": "login at the PACS, under its older name",
    "MONAI_LABEL_DICOMWEB_CACHE_PATH": "cache folder for series of the PACS, under its older name",
    "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": "which studies of the PACS are served",
    "MONAI_LABEL_QIDO_PREFIX": "URL prefixes of the PACS",
    "MONAI_LABEL_WADO_PREFIX": "URL prefixes of the PACS",
    "MONAI_LABEL_STOW_PREFIX": "URL prefixes of the PACS",
    "CT2PET_CACHE": "cache folder for DICOM headers",
}
TRAINING_REASONS: dict[str, str] = {  # trainings only
    "MONAI_LABEL_TRACKING_ENABLED": "whether runs are tracked by default",
    "MONAI_LABEL_TRACKING_URI": "the operator's tracking server",
    "MLFLOW_TRACKING_URI": "the operator's tracking server, under MLflow's name",
    "MLFLOW_TRACKING_USERNAME": "login at the tracking server",
    "MLFLOW_TRACKING_PASSWORD": "login at the tracking server",
    "MLFLOW_TRACKING_TOKEN": "login at the tracking server",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "certificate of the tracking server",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH": "client certificate for the tracking server",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "timeout of requests to the tracking server, s",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "maximum number of retries of requests to the tracking server",
}
FIXED = {"MONAI_LABEL_DATASTORE_AUTO_RELOAD": "false"}  # only the server needs MONAI Label's file watchers
FIXED_REASON = "always false: only the server needs file watchers"


def explained_variables(method: str) -> dict[str, str]:
    """Return the variables that are passed to a task's process, each with the reason.

    Args:
        method: `train`, `batch_infer` or `scoring`.
    """
    training = TRAINING_REASONS if method == "train" else {}
    return {**REASONS, **training, **dict.fromkeys(FIXED, FIXED_REASON)}


def environment_table() -> str:
    """Return the variables of all tasks as a Markdown table, for the documentation."""
    rows = [(name, "all", reason) for name, reason in explained_variables("").items()]
    rows += [(name, "training", reason) for name, reason in TRAINING_REASONS.items()]
    lines = [f"| `{name}` | {tasks} | {reason} |" for name, tasks, reason in rows]
    return "\n".join(["| variable | tasks | why |", "| --- | --- | --- |", *lines])


def task_environment(method: str, server: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a task's process.

    Args:
        method: `train`, `batch_infer` or `scoring`.
        server: The server's environment; by default that of this process.
    """
    own = os.environ if server is None else server
    passed = {name: own[name] for name in explained_variables(method) if own.get(name)}
    app_folder = passed.get("MONAI_LABEL_APP_DIR", "")
    for name in SEARCH_PATHS & set(passed):
        passed[name] = _absolute_folders(passed[name], without=app_folder)
    configure_threads(passed)  # here, because the task imports torch before `lib`
    return {**passed, **FIXED}


def _absolute_folders(search_path: str, *, without: str) -> str:
    """Return a search path without relative folders, and without those that MONAI Label adds inside the app."""
    kept = [
        folder
        for folder in search_path.split(os.pathsep)
        if Path(folder).is_absolute() and not (without and Path(folder).is_relative_to(without))
    ]
    return os.pathsep.join(kept)
