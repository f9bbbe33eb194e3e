"""The module's logic for scripts: one call draws a PET and waits for it. The panel uses jobs of its own."""

from __future__ import annotations

import time
from typing import Any

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError
from CT2PETLib.jobs.events import ReceivedSlab
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import SynthesisJob, UploadJob
from CT2PETLib.scene import display
from CT2PETLib.scene.parameters import CT2PETParameters
from CT2PETLib.scene.volume import LPS_TO_RAS, fill_slab, ijk_to_ras, make_pet_node, voxels


class CT2PETLogic(ScriptedLoadableModuleLogic):
    """What another module or the Python console may call."""

    def getParameterNode(self) -> CT2PETParameters:
        """Return the panel's choices."""
        return CT2PETParameters(super().getParameterNode())

    def synthesise(self, client: Client, ct: Any, *, model: str, version: int | None = None) -> Any:
        """Return the synthetic PET of a CT of the scene, which is sent unless it is there; waits until it is whole.

        Calling it means that the CT may be sent. `version` names one of the model's; None is the one that is served.

        Raises:
            ServerError: Its words say what went wrong.
        """
        upload = UploadJob(client, array=voxels(ct), affine=LPS_TO_RAS @ ijk_to_ras(ct))
        _wait(upload, lambda _: None)
        if upload.uploaded is None:
            raise ServerError("The CT did not reach the server.")
        pet = make_pet_node(ct.GetScene(), ct, model=model)
        wanted = (0, voxels(ct).shape[0])
        job = SynthesisJob(
            client, model=model, image_id=upload.uploaded.image_id, wanted=wanted, centre=0, version=version
        )
        _wait(job, lambda what: isinstance(what, ReceivedSlab) and fill_slab(pet, what.pet.array, what.pet.affine))
        display.show_suv(pet, window_suv=display.WINDOW_SUV, threshold_suv=display.THRESHOLD_SUV, colour="PET heat")
        return pet


def _wait(job: Job, come: Any) -> None:
    job.start()
    while not job.state.is_over:
        for what in job.drain():
            come(what)
        time.sleep(0.02)
    if job.state is not State.DONE:
        raise ServerError(job.sentence or "Cancelled.")
