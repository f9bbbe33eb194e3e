"""Who may ask what, in MONAI Label's own roles; they bind only where the server has accounts."""

from __future__ import annotations

from fastapi import Depends
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import RBAC

USER = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_USER))
ADMIN = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_ADMIN))
ANNOTATOR = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
