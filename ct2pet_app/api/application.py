"""Puts our addresses before MONAI Label's: under the same contract where it has the same one, accepting less."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

from fastapi import APIRouter

from ct2pet_app.api.active_learning import sample_routes
from ct2pet_app.api.datastore import datastore_routes
from ct2pet_app.api.disabled import refused_routes
from ct2pet_app.api.documentation import documentation_routes
from ct2pet_app.api.downloads import download_routes
from ct2pet_app.api.infer import infer_routes
from ct2pet_app.api.logs import log_routes
from ct2pet_app.api.models import model_routes
from ct2pet_app.api.pairs import pair_routes
from ct2pet_app.api.sessions import session_routes
from ct2pet_app.api.studies import studies_routes
from ct2pet_app.api.tasks import task_routes
from ct2pet_app.auth.bind_address import bind_address
from ct2pet_app.auth.setup import install_accounts
from ct2pet_app.server import exception_handlers, monai_label
from ct2pet_app.server.log_redaction import keep_names_out
from ct2pet_app.server.middleware.connections import close_idle_connections, raise_open_files_limit
from ct2pet_app.server.middleware.hosts import host_names
from ct2pet_app.server.openapi import describe_api
from ct2pet_app.server.temp_dir import TemporaryFolder, remove_leftovers
from lib.errors import CT2PETError, OutputError

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def install(app: CT2PETApp) -> None:
    """Put the app's addresses, threads, error answers and limits into the server; nothing where there is none."""
    keep_names_out(app.studies_datastore.studies.names_on_disk)
    application = monai_label.running_server()
    if application is None:
        return
    try:
        temporary = TemporaryFolder(app.settings.models_folder / "temporary")
        atexit.register(temporary.close)
        remove_leftovers(app.settings.models_folder, is_alone=temporary.is_alone)
        app.studies_datastore.remove_leftovers()
    except OSError as error:
        words = f"--conf models_folder {app.settings.models_folder}: cannot be written ({error.strerror})"
        monai_label.stop_server(OutputError(words))
        raise
    raise_open_files_limit()
    close_idle_connections()
    stock_routes = list(application.router.routes)
    monai_label.put_first(application, monai_label.threaded_twins())
    for router in (*our_routers(app), documentation_routes(application)):
        monai_label.put_first(application, router)
    monai_label.guard(
        application,
        origins=app.settings.origins,
        limit_bytes=app.settings.max_upload_bytes,
        hosts=host_names(app.settings.origins, resolve=bind_address().is_exposed),
        folders=_folders(app),
    )
    exception_handlers.install_exception_handlers(application)
    try:
        install_accounts(application, app.settings, studies=app.studies)
    except CT2PETError as error:
        monai_label.stop_server(error)
        raise
    served = [route for route in application.router.routes if route not in stock_routes]
    tasks = {"strategy": list(app._strategies), "method": list(app._scoring_methods)}
    describe_api(application, served, {"model": app.models.names, **tasks})


def _folders(app: CT2PETApp) -> dict[str, str]:
    """Return the folders of the server, and what a response calls them."""
    studies = {} if "://" in app.studies else {app.studies: "the studies folder"}
    return {str(app.settings.models_folder): "the models folder", **studies, app.app_dir: "the app folder"}


def our_routers(app: CT2PETApp) -> tuple[APIRouter, ...]:
    """Return all addresses of ours; a test asks that each one that takes a name, an id or a file has been attacked."""
    return (
        infer_routes(app),
        datastore_routes(app),
        session_routes(app),
        model_routes(app),
        studies_routes(app),
        task_routes(app),
        sample_routes(app),
        download_routes(app),
        log_routes(),
        pair_routes(app),
        refused_routes(),
    )
