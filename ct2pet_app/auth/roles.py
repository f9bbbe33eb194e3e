"""Accounts as MONAI Label's users and roles, checked by its own RBAC at each endpoint that declares a role."""

from __future__ import annotations

from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user import auth as stock_auth
from monailabel.endpoints.user.auth import User

from lib.accounts import Account


def as_user(account: Account) -> User:
    """Return the account as MONAI Label's user model."""
    return User(username=account.name, name=account.name, roles=[role_name(role) for role in account.roles])


def role_name(role: str) -> str:
    """Return MONAI Label's name of a role."""
    return str(getattr(monailabel_settings, f"MONAI_LABEL_AUTH_ROLE_{role.upper()}"))


def enforce_roles() -> None:
    """Make MONAI Label's RBAC check roles without Keycloak; it reads the settings of its own module only."""
    stock_auth.settings = monailabel_settings.model_copy(update={"MONAI_LABEL_AUTH_ENABLE": True})
