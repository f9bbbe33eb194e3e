"""Switches accounts on in the server: those of a users file, those of Keycloak, or none with a warning."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from fastapi import FastAPI
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import get_current_user
from starlette.middleware import Middleware

from ct2pet_app.auth.bind_address import listening, refuse_secrets_among_patients, warning
from ct2pet_app.auth.dependencies import AccountsGuard, user_asking
from ct2pet_app.auth.keycloak import keycloak_authentication, keycloak_routes, keycloak_user
from ct2pet_app.auth.login import auth_routes
from ct2pet_app.auth.login_throttle import Attempts
from ct2pet_app.auth.roles import enforce_roles
from ct2pet_app.auth.tokens import Tokens, signing_key
from ct2pet_app.auth.user_store import AccountBook
from ct2pet_app.errors import SettingsError
from ct2pet_app.server import monai_label
from ct2pet_app.server.middleware.guarded_route import set_authentication
from ct2pet_app.settings import AppSettings
from lib.accounts import remove_leftovers
from lib.errors import OutputError

logger = logging.getLogger(__name__)

KEY_FILE = "accounts.key"


def install_accounts(application: FastAPI, settings: AppSettings, *, studies: str) -> None:
    """Let in only who may, from the first request on.

    Raises:
        InputError: The users file cannot be taken, or lies where it must not.
        OutputError: The signing key cannot be kept.
    """
    keycloak = bool(monailabel_settings.MONAI_LABEL_AUTH_ENABLE)
    where = listening()
    folders = (settings.models_folder, *([] if "://" in studies else [Path(studies)]))
    if where.private_key is not None:
        refuse_secrets_among_patients(where.private_key, "the private key", folders)
    if keycloak and settings.users is not None:
        raise SettingsError(
            "MONAI_LABEL_AUTH_ENABLE has Keycloak keep the accounts and --conf users a file: take one of them"
        )
    if settings.users is not None:
        refuse_secrets_among_patients(settings.users, "the users file", folders)
        _install_users_file(application, settings, settings.users)
    elif keycloak:
        monai_label.put_first(application, keycloak_routes())
        application.dependency_overrides[get_current_user] = keycloak_user
        set_authentication(application, keycloak_authentication)
    told = warning(where, accounts=keycloak or settings.users is not None)
    if told:
        sys.stderr.write(f"\nct2pet: {told}\n\n")


def _install_users_file(application: FastAPI, settings: AppSettings, users: Path) -> None:
    remove_leftovers(users)
    book = AccountBook(users)
    accounts = book.accounts()
    if not accounts:
        raise SettingsError(f"{users} holds nobody; python main.py users add NAME --role admin --file {users} adds one")
    key_file = settings.models_folder / KEY_FILE
    try:
        tokens = Tokens(signing_key(key_file), lifetime_s=settings.token_hours * 3600)
    except OSError as error:
        raise OutputError(f"{key_file}, with which tokens are signed, cannot be kept ({error.strerror})") from error
    monai_label.put_first(application, auth_routes(book, tokens, Attempts()))
    application.dependency_overrides[get_current_user] = user_asking
    set_authentication(application, user_asking)
    enforce_roles()
    layers = application.user_middleware
    layers[:] = [layer for layer in layers if getattr(layer.cls, "__name__", "") != AccountsGuard.__name__]
    # innermost: who may not ask at all, and a browser's question what it may send, are answered before
    layers.append(Middleware(AccountsGuard, book=book, tokens=tokens))
    application.middleware_stack = None
    logger.info("%d accounts of %s may ask", len(accounts), users)
