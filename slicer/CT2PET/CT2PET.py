"""CT2PET: synthetic PET from CT with a ct2pet server. The implementation is in CT2PETLib."""

from pathlib import Path
from typing import Any

from CT2PETLib.i18n import _
from CT2PETLib.logic import CT2PETLogic
from CT2PETLib.panel.widget import CT2PETWidget
from CT2PETLib.scene.sample_studies import register_sample_studies
from CT2PETLib.self_test import CT2PETTest
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

import slicer

__all__ = ["CT2PET", "CT2PETLogic", "CT2PETTest", "CT2PETWidget"]


class CT2PET(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CT to PET")
        self.parent.categories = [_("Image Synthesis"), _("Nuclear Medicine")]
        self.parent.dependencies = []
        self.parent.contributors = ["ct2pet contributors"]
        self.parent.helpText = _(
            "Requests the synthetic PET of a CT from a ct2pet server, displays it slice by slice as it is received, "
            "compares it with a real PET, and retrains the server's model. Research only: a synthetic PET is an "
            "estimate; never use it for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Apache License 2.0. Modelled on the scripted-module template of 3D Slicer."
        )
        slicer.app.connect("startupCompleted()", lambda: register_sample_studies(Path(__file__).parent))
