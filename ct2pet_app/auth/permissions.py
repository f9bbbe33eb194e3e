"""Who may do what, in MONAI Label's own roles; they bind only where the server has accounts.

An operation needs the role of its strongest effect, whatever endpoint it is reached through:

==========  ============================================================================================================
user        reads; synthesises a PET for itself; keeps sessions of its own; is given the next CT by active learning
annotator   changes what others see: uploads and labels, notes, pairs, a synthetic PET saved as a label (`save_label`)
            or stored by its CT in the studies (`store`); starts a scoring
admin       removes, trains, serves, runs batches, answers for pairs, reads logs; sees the sessions of everybody
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
    """Return when an account may change what others see; anybody may where the server has no accounts.

    Args:
        user: The account.
        what: The parameter that asks for it, for the message.

    Raises:
        HTTPException: 403.
    """
    role = monailabel_settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR
    if has_accounts() and role not in user.roles:
        raise HTTPException(FORBIDDEN, f'{what}: role "{role}" is required, because others see the result')


def session_owner(user: User) -> str | None:
    """Return whose sessions an account reads and removes: its own; None for everybody's, as an administrator."""
    if not has_accounts() or monailabel_settings.MONAI_LABEL_AUTH_ROLE_ADMIN in user.roles:
        return None
    return user.username


def has_accounts() -> bool:
    """Return whether roles bind: MONAI Label's check asks the settings of its own module, which accounts replace."""
    return bool(stock_auth.settings.MONAI_LABEL_AUTH_ENABLE)
