"""Sets up authentication in the server: a users file, Keycloak, or none with a warning."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from fastapi import FastAPI
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import get_current_user
from starlette.middleware import Middleware

from ct2pet_app.auth.bind_address import bind_address, exposure_warning, require_private_file
from ct2pet_app.auth.dependencies import AuthenticationMiddleware, authenticated_user
from ct2pet_app.auth.keycloak import keycloak_authentication, keycloak_routes, keycloak_user
from ct2pet_app.auth.login import auth_routes
from ct2pet_app.auth.login_throttle import LoginThrottle
from ct2pet_app.auth.roles import enforce_roles
from ct2pet_app.auth.tokens import Tokens, signing_key
from ct2pet_app.auth.user_store import UserStore
from ct2pet_app.errors import SettingsError
from ct2pet_app.server import monai_label
from ct2pet_app.server.middleware.guarded_route import set_authentication
from ct2pet_app.settings import AppSettings
from lib.accounts import remove_leftovers
from lib.errors import OutputError

logger = logging.getLogger(__name__)

KEY_FILE = "accounts.key"


def install_accounts(application: FastAPI, settings: AppSettings, *, studies: str) -> None:
    """Require authentication from the first request on, if the settings name a users file or Keycloak.

    Raises:
        InputError: The users file is invalid, or in a folder where it must not be.
        OutputError: The signing key can be neither read nor created.
    """
    has_keycloak = bool(monailabel_settings.MONAI_LABEL_AUTH_ENABLE)
    address = bind_address()
    served_folders = (settings.models_folder, *([] if "://" in studies else [Path(studies)]))
    if address.private_key is not None:
        require_private_file(address.private_key, "the private key", served_folders)
    if has_keycloak and settings.users is not None:
        raise SettingsError(
            "MONAI_LABEL_AUTH_ENABLE selects the accounts of Keycloak, --conf users those of a file: use one of them"
        )
    if settings.users is not None:
        require_private_file(settings.users, "the users file", served_folders)
        _install_users_file(application, settings, settings.users)
    elif has_keycloak:
        monai_label.put_first(application, keycloak_routes())
        application.dependency_overrides[get_current_user] = keycloak_user
        set_authentication(application, keycloak_authentication)
    warning = exposure_warning(address, has_accounts=has_keycloak or settings.users is not None)
    if warning:
        sys.stderr.write(f"\nct2pet: {warning}\n\n")


def _install_users_file(application: FastAPI, settings: AppSettings, users_file: Path) -> None:
    remove_leftovers(users_file)
    users = UserStore(users_file)
    accounts = users.accounts()
    if not accounts:
        raise SettingsError(
            f"{users_file} has no accounts; add one with python main.py users add NAME --role admin --file {users_file}"
        )
    key_file = settings.models_folder / KEY_FILE
    try:
        tokens = Tokens(signing_key(key_file), lifetime_s=settings.token_hours * 3600)
    except OSError as error:
        raise OutputError(
            f"{key_file}, the key that signs tokens, cannot be read or created ({error.strerror})"
        ) from error
    monai_label.put_first(application, auth_routes(users, tokens, LoginThrottle()))
    application.dependency_overrides[get_current_user] = authenticated_user
    set_authentication(application, authenticated_user)
    enforce_roles()
    layers = application.user_middleware
    layers[:] = [layer for layer in layers if getattr(layer.cls, "__name__", "") != AuthenticationMiddleware.__name__]
    # innermost: requests from other origins, and CORS preflight requests, are answered before
    layers.append(Middleware(AuthenticationMiddleware, users=users, tokens=tokens))
    application.middleware_stack = None
    logger.info("authentication by %d accounts of %s", len(accounts), users_file)
