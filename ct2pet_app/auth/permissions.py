"""Permissions, in MONAI Label's own roles; they apply only if the server has accounts.

An operation requires the role of its strongest effect, at every endpoint that offers it:

==========  ============================================================================================================
user        reads; synthesises a PET; has sessions of its own; gets the next CT from active learning
annotator   changes what others see: uploads and labels, notes, pairs, a synthetic PET saved as a label (`save_label`)
            or stored with its CT in the studies (`store`); starts a scoring
admin       deletes, trains, serves versions, runs batches, approves pairs, reads logs; sees the sessions of all users
==========  ============================================================================================================
"""

from __future__ import annotations

from fastapi import Depends, HTTPException
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user import auth as stock_auth
from monailabel.endpoints.user.auth import RBAC, User

USER = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_USER))
ADMIN = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
ANNOTATOR = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
FORBIDDEN = 403


def require_annotator(user: User, what: str) -> None:
    """Require the role that may change what others see; without accounts, everyone may.

    Args:
        user: The caller.
        what: The parameter that requires the role, for the message.

    Raises:
        HTTPException: 403.
    """
    role = monailabel_settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR
    if has_accounts() and role not in user.roles:
        raise HTTPException(FORBIDDEN, f'{what}: role "{role}" is required, because others see the result')


def session_owner(user: User) -> str | None:
    """Return the owner of the sessions that a user may access; None for all sessions (administrators)."""
    if not has_accounts() or monailabel_settings.MONAI_LABEL_AUTH_ROLE_ADMIN in user.roles:
        return None
    return user.username


def has_accounts() -> bool:
    """Return whether roles apply: MONAI Label's check reads the settings of its own module, which accounts replace."""
    return bool(stock_auth.settings.MONAI_LABEL_AUTH_ENABLE)
