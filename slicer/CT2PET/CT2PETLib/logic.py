"""The module's logic for scripts: a blocking call that synthesises a PET. The panel uses jobs instead."""

from __future__ import annotations

import time
from typing import Any

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError
from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import ReceivedSlab
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import SynthesisJob, UploadJob
from CT2PETLib.jobs.runner import OnEvent
from CT2PETLib.scene import display
from CT2PETLib.scene.parameters import CT2PETParameters
from CT2PETLib.scene.volume import LPS_TO_RAS, fill_slab, ijk_to_ras, make_pet_node, voxels


class CT2PETLogic(ScriptedLoadableModuleLogic):
    """Functions for other modules and the Python console."""

    def getParameterNode(self) -> CT2PETParameters:
        """Return the panel's parameters."""
        node = super().getParameterNode()
        return CT2PETParameters(node)  # type: ignore[call-arg]  # the decorator adds the constructor

    def synthesise(self, client: Client, ct: Any, *, model: str, version: int | None = None) -> Any:
        """Return the volume node of the synthetic PET of a CT of the scene; block until it is complete.

        The CT is uploaded unless the server has it; calling this method implies consent.

        Args:
            client: Client of the server.
            ct: Volume node of the CT, in HU.
            model: Name of the model.
            version: Version of the model; None for the served one.

        Raises:
            ServerError: The upload or the synthesis failed; the message gives the reason.
        """
        upload = UploadJob(client, array=voxels(ct), affine=LPS_TO_RAS @ ijk_to_ras(ct))
        _wait(upload, lambda _: None)
        if upload.uploaded is None:
            raise ServerError(_("The CT was not uploaded."))
        pet = make_pet_node(ct.GetScene(), ct, model=model)
        job = SynthesisJob(
            client,
            model=model,
            image_id=upload.uploaded.image_id,
            requested=(0, voxels(ct).shape[0]),
            centre=0,
            version=version,
        )

        def on_event(event: Any) -> None:
            if isinstance(event, ReceivedSlab):
                fill_slab(pet, event.pet.array, event.pet.affine)

        _wait(job, on_event)
        display.show_suv(pet, window_suv=display.WINDOW_SUV, threshold_suv=display.THRESHOLD_SUV, colour="PET heat")
        return pet


def _wait(job: Job, on_event: OnEvent) -> None:
    job.start()
    while not job.state.is_over:
        for event in job.drain():
            on_event(event)
        time.sleep(0.02)
    if job.state is not State.DONE:
        raise ServerError(job.message or _("Cancelled."))
