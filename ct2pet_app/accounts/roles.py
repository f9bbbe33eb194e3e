"""Which of MONAI Label's roles an address asks for, as its own declaration says, and which an account has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import RBAC, User
from starlette.routing import BaseRoute, Match

from lib.accounts import ROLES, Account

OPEN = (("GET", "/auth/"), ("POST", "/auth/token"))
# MONAI Label lets annotators delete what is served, where the title of the same address says administrators
STRICTER = {("DELETE", "/model/{model}"): "admin"}


def role_name(role: str) -> str:
    """Return what MONAI Label calls a role."""
    return str(getattr(monailabel_settings, f"MONAI_LABEL_AUTH_ROLE_{role.upper()}"))


def as_user(account: Account) -> User:
    """Return the account as MONAI Label's handlers know people."""
    return User(username=account.name, name=account.name, roles=[role_name(role) for role in account.roles])


def is_open(routes: Sequence[BaseRoute], scope: Any) -> bool:
    """Return whether an address is for everybody: only those that log in."""
    found = _address(_matching(routes, scope), scope)
    return found in {(method, f"{monailabel_settings.MONAI_LABEL_API_STR}{path}") for method, path in OPEN}


def roles_asked(routes: Sequence[BaseRoute], scope: Any) -> list[frozenset[str]]:
    """Return sets of role names, of each of which an account needs one; never none.

    What declares nothing (pages, files, addresses that are not there) needs a user.
    """
    route = _matching(routes, scope)
    asked = [_names(check.roles) for check in _checks(getattr(route, "dependant", None))]
    method, path = _address(route, scope)
    stricter = STRICTER.get((method, path.removeprefix(monailabel_settings.MONAI_LABEL_API_STR)))
    if stricter is not None:
        asked.append(frozenset({role_name(stricter)}))
    return asked or [frozenset({role_name("user")})]


def _matching(routes: Sequence[BaseRoute], scope: Any) -> BaseRoute | None:
    """Return the route that will serve a request: the first that matches in full, as Starlette takes it."""
    return next((route for route in routes if route.matches(scope)[0] == Match.FULL), None)


def _address(route: BaseRoute | None, scope: Any) -> tuple[str, str]:
    return str(scope["method"]), str(getattr(route, "path", ""))


def _checks(dependant: Any) -> Iterator[RBAC]:
    for part in getattr(dependant, "dependencies", ()):
        if isinstance(part.call, RBAC):
            yield part.call
        yield from _checks(part)


def _names(roles: str | Sequence[str]) -> frozenset[str]:
    if roles == "*":
        return frozenset(role_name(role) for role in ROLES)
    return frozenset({roles} if isinstance(roles, str) else roles)
