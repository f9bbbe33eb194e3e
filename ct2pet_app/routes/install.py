"""Puts our addresses before MONAI Label's: under the same contract where it has the same one, accepting less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct2pet_app import server
from ct2pet_app.accounts.install import install_accounts
from ct2pet_app.routes.infer import infer_routes
from ct2pet_app.routes.models import model_routes
from ct2pet_app.routes.refused import refused_routes
from ct2pet_app.routes.studies import studies_routes
from lib.errors import CT2PETError

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def install(app: CT2PETApp) -> None:
    """Put the app's addresses, threads, error answers and limits into the server; nothing where there is none."""
    application = server.running_server()
    if application is None:
        return
    server.put_first(application, server.threaded_twins())
    for router in (infer_routes(app), model_routes(app), studies_routes(app), refused_routes()):
        server.put_first(application, router)
    server.guard(application, origins=app.settings.origins, limit_bytes=app.settings.max_upload_bytes)
    server.answer_errors(application)
    try:
        install_accounts(application, app.settings, studies=app.studies)
    except CT2PETError as error:
        server.stop_server(error)
        raise
