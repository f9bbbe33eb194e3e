"""Accounts in MONAI Label's own roles, checked by its own RBAC on every address that names one."""

from __future__ import annotations

from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user import auth as stock_auth
from monailabel.endpoints.user.auth import User

from lib.accounts import Account


def as_user(account: Account) -> User:
    """Return the account as MONAI Label's handlers know people."""
    return User(username=account.name, name=account.name, roles=[role_name(role) for role in account.roles])


def role_name(role: str) -> str:
    """Return what MONAI Label calls a role."""
    return str(getattr(monailabel_settings, f"MONAI_LABEL_AUTH_ROLE_{role.upper()}"))


def enforce_roles() -> None:
    """Have MONAI Label's RBAC check roles though there is no Keycloak: it asks its module's settings, and only that."""
    stock_auth.settings = monailabel_settings.model_copy(update={"MONAI_LABEL_AUTH_ENABLE": True})
