"""Add the app's endpoints to MONAI Label's server; they take precedence over stock ones of the same path and method."""

from __future__ import annotations

import atexit
from typing import Any

from fastapi import APIRouter

from ct2pet_app.api import (
    active_learning,
    datastore,
    disabled,
    documentation,
    downloads,
    infer,
    logs,
    models,
    pairs,
    regions,
    sessions,
    studies,
    tasks,
)
from ct2pet_app.api.deps import set_app
from ct2pet_app.api.responses import stored_json
from ct2pet_app.api.schemas.inference import AppInfo
from ct2pet_app.api.schemas.studies import DatastoreContent, DatastoreStatus, ImageInfo, LabelInfo
from ct2pet_app.api.viewer import images, pages
from ct2pet_app.api.viewer.deps import set_readers
from ct2pet_app.api_object import Empty
from ct2pet_app.app import CT2PETApp
from ct2pet_app.auth.bind_address import bind_address
from ct2pet_app.auth.setup import install_accounts
from ct2pet_app.dicom_node.worker import synthesis_worker
from ct2pet_app.server import exception_handlers, monai_label
from ct2pet_app.server.log_redaction import install_redaction
from ct2pet_app.server.middleware.connections import close_idle_connections, raise_open_files_limit
from ct2pet_app.server.middleware.hosts import host_names
from ct2pet_app.server.openapi import describe_api
from ct2pet_app.server.temp_dir import TemporaryFolder, remove_leftovers
from ct2pet_app.server.termination import on_termination
from lib.errors import CT2PETError, OutputError

ROUTERS: tuple[APIRouter, ...] = tuple(
    module.router
    for module in (
        infer,
        regions,
        datastore,
        sessions,
        models,
        studies,
        tasks,
        active_learning,
        downloads,
        logs,
        pairs,
        images,
        pages,
        disabled,
        documentation,
    )
)
# stock handlers that are used unchanged, by name: what they return
STOCK_RESPONSES: dict[str, dict[str, Any]] = {
    "api_app_info": stored_json(AppInfo),
    "api_datastore": stored_json(DatastoreStatus | DatastoreContent | list[dict[str, str]]),
    "api_get_image_info": stored_json(ImageInfo),
    "api_get_label_info": stored_json(LabelInfo),
    "api_remove_image": stored_json(Empty),
    "api_remove_label": stored_json(Empty),
}


def install(app: CT2PETApp) -> None:
    """Add the app's endpoints, error responses and limits to the server; do nothing in other processes."""
    install_redaction(app.studies_datastore.studies.names_on_disk)
    server = monai_label.running_server()
    if server is None:
        return
    _prepare_folders(app)
    raise_open_files_limit()
    close_idle_connections()
    set_app(server, app)
    set_readers(server, app)
    stock_routes = list(server.router.routes)
    for router in (monai_label.threaded_twins(STOCK_RESPONSES), *ROUTERS):
        monai_label.put_first(server, router)
    monai_label.guard(
        server,
        origins=app.settings.origins,
        limit_bytes=app.settings.max_upload_bytes,
        hosts=host_names(app.settings.origins, resolve=bind_address().is_exposed),
        folders=_folders(app),
    )
    exception_handlers.install_exception_handlers(server)
    try:
        install_accounts(server, app.settings, studies=app.studies)
        _start_dicom_jobs(app)
    except CT2PETError as error:
        monai_label.stop_server(error)
        raise
    served = [route for route in server.router.routes if route not in stock_routes]
    choices = {"strategy": list(app._strategies), "method": list(app._scoring_methods)}
    describe_api(server, served, {"model": app.models.names, **choices})


def _prepare_folders(app: CT2PETApp) -> None:
    """Give the server its own temporary folder, and remove unfinished files of killed processes."""
    try:
        temporary = TemporaryFolder(app.settings.models_folder / "temporary")
        temporary.use_as_default()
        atexit.register(temporary.close)
        remove_leftovers(app.settings.models_folder, is_alone=temporary.is_alone)
        app.studies_datastore.remove_leftovers()
    except OSError as error:
        message = f"--conf models_folder {app.settings.models_folder}: cannot be written ({error.strerror})"
        monai_label.stop_server(OutputError(message))
        raise


def _start_dicom_jobs(app: CT2PETApp) -> None:
    """Synthesise what the rules of a DICOM node request, if one runs with this server.

    Raises:
        CT2PETError: Invalid settings, or the queue cannot be used.
    """
    if app.settings.dicom_peers is None:
        return
    worker = synthesis_worker(
        app.settings.dicom_peers,
        studies=app.studies,
        models_folder=app.settings.models_folder,
        models=app.settings.models,
        datastore=app.studies_datastore,
        synthesize=app.synthesize,
    )
    on_termination(worker.stop)
    worker.start()


def _folders(app: CT2PETApp) -> dict[str, str]:
    """Return the folders of the server, and the names that responses give them."""
    studies = {} if "://" in app.studies else {app.studies: "the studies folder"}
    return {str(app.settings.models_folder): "the models folder", **studies, app.app_dir: "the app folder"}
