"""Section "Synthesise": one button to synthesise the PET slab by slab, to cancel, and to resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from CT2PETLib.client.schemas import Model
from CT2PETLib.client.training import Versions
from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted, Uploaded, UploadProgress
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import SynthesisJob, UploadJob
from CT2PETLib.jobs.runner import OnEnd, OnEvent
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.model_card import model_page, reader_warnings, served_summary, version_page, version_summary
from CT2PETLib.panel.progress import UPLOAD_TEXTS, WAITING, failure_text, retry_text, synthesis_text
from CT2PETLib.panel.qt_helpers import get_property, sent_text, set_items, show_or_hide
from CT2PETLib.panel.version_selector import VersionSelector
from CT2PETLib.scene import node_attributes, views
from CT2PETLib.scene.buffer import ZeroBuffer
from CT2PETLib.scene.volume import LPS_TO_RAS, clear_slabs, fill_slab, ijk_to_ras, make_pet_node, voxels


class SynthesiseSection:
    """Synthesises PETs, and calls `on_first_slab` with each of them once its first slab is received."""

    def __init__(self, panel: Panel, ct_section: CTSection, on_first_slab: Callable[[Any], None]) -> None:
        self._panel, self._ct_section, self._on_first_slab = panel, ct_section, on_first_slab
        self._job: Any = None  # a SynthesisJob or UploadJob
        self._ct: Any = None  # input of the job; the user may select another one meanwhile
        self._pet: Any = None
        self._error_map: Any = None
        self._buffers: list[ZeroBuffer] = []  # for the PET and the uncertainty map
        self._model = ""
        self._version: int | None = None  # of the job; None for the served one
        self._retry_message = ""
        self._client: Any = None  # of the server whose versions are offered
        self._versions = VersionSelector(panel.ui.versionBox)
        show_or_hide(panel.ui.unlikeLabel, "")
        panel.on_signal(panel.ui.applyButton, "clicked", self.apply)
        panel.on_signal(panel.ui.modelBox, "currentTextChanged", self._on_selected)
        panel.on_signal(panel.ui.versionBox, "currentTextChanged", self._on_selected)

    @property
    def model(self) -> Model | None:
        """The selected model."""
        server = self._panel.server
        return server.model(get_property(self._panel.ui.modelBox, "currentText")) if server is not None else None

    @property
    def is_active(self) -> bool:
        """Whether a PET is being synthesised, or its CT uploaded."""
        return self._job is not None and not self._job.state.is_over

    def connected(self) -> None:
        """Offer the models of the connected server."""
        server = self._panel.server
        if self._panel.client is not self._client:  # otherwise only the description was updated
            self._client = self._panel.client
            self._versions.set_versions(())
        set_items(self._panel.ui.modelBox, [model.name for model in server.models] if server is not None else [])
        self._on_selected()

    def offer(self, versions: tuple[Versions, ...]) -> None:
        """Offer the versions of each model."""
        self._versions.set_versions(versions)
        self._on_selected()

    def apply(self) -> None:
        """Start a synthesis; cancel an active one; or resume an incomplete one."""
        if self.is_active:
            self._job.cancel()
        elif self._can_resume():
            self._start(self._job.rest())
        elif self._ct_section.image_id:
            self._synthesise(self._ct_section.image_id)
        elif self._ct_section.has_consent:
            self._upload()
        else:
            self._panel.show_error(_("Tick “I may send this CT to the server” first: nothing is sent without consent."))
            return
        self._panel.refresh()

    def tick(self) -> None:
        """Prioritise the slices around the displayed one."""
        if self.is_active and isinstance(self._job, SynthesisJob) and self._panel.scene.IsNodePresent(self._ct):
            k = views.displayed_slice(self._panel.scene, self._ct)
            if k is not None:
                self._job.prioritise(k)
            self._show_progress()

    def refresh(self) -> None:
        """Update the widgets."""
        ui, is_active = self._panel.ui, self.is_active
        ready = self._ct_section.ct is not None and self._can_synthesise
        ui.applyButton.setText(
            _("Cancel") if is_active else _("Synthesise the rest") if self._can_resume() else _("Synthesise PET")
        )
        cancelling = is_active and self._job.state is State.CANCEL_REQUESTED
        ui.applyButton.setEnabled(not cancelling if is_active else bool(ready))
        ui.uncertaintyCheckBox.setEnabled(not is_active and self._provides_uncertainty)
        for widget in (ui.modelBox, ui.versionBox, ui.allSlicesCheckBox, ui.allowUnlikeCheckBox):
            widget.setEnabled(not is_active)
        ct = self._ct_section.ct
        if ct is not None:
            for box in (ui.firstSliceSpinBox, ui.lastSliceSpinBox):
                box.setMaximum(voxels(ct).shape[0])
        self._show_progress()

    # -- jobs ------------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        ct = self._ct = self._ct_section.ct
        array = voxels(ct)
        if array.dtype.itemsize > 4:
            array = array.astype("float32")
        job = UploadJob(self._panel.require_client(), array=array, affine=LPS_TO_RAS @ ijk_to_ras(ct))

        def on_event(event: Any) -> None:
            """Show the progress of the upload, and store the id of the CT."""
            if isinstance(event, UploadProgress):
                self._show_bar(event.done / max(1, event.total), sent_text(_("Sending the CT"), event))
            elif isinstance(event, Uploaded):
                self._ct_section.set_image_id(ct, event.image_id)

        def on_end(ended: Job) -> None:
            """Start the synthesis, as the server has the CT."""
            if ended.state is State.DONE and self._ct_section.ct is ct:
                self._synthesise(self._ct_section.image_id)
            self._on_end(ended)

        self._begin(job, on_event, on_end, _("Sending the CT …"))

    def _synthesise(self, image_id: str) -> None:
        ct, model = self._ct_section.ct, self.model
        if model is None:
            return
        slices = voxels(ct).shape[0]
        first, stop = self._requested_slices(slices)
        k = views.displayed_slice(self._panel.scene, ct)
        centre = (first + stop) // 2 if k is None else k
        self._ct, self._pet, self._error_map = ct, None, None
        uncertainty = bool(self._panel.parameters.uncertainty and self._provides_uncertainty)
        self._buffers = [ZeroBuffer(voxels(ct).shape) for _ in range(1 + uncertainty)]
        self._model, self._version = model.name, self._versions.number
        self._start(
            SynthesisJob(
                self._panel.require_client(),
                model=model.name,
                image_id=image_id,
                requested=(first, stop),
                centre=centre,
                uncertainty=uncertainty,
                version=self._version,
                allow_unlike=bool(self._panel.parameters.allow_unlike),
            )
        )

    def _start(self, job: SynthesisJob) -> None:
        self._begin(job, self._on_event, self._on_end, WAITING)

    def _begin(self, job: Job, on_event: OnEvent, on_end: OnEnd, text: str) -> None:
        self._job, self._retry_message = job, ""
        self._panel.show_message("")
        show_or_hide(self._panel.ui.unlikeLabel, "")
        self._show_bar(0.0, text)
        self._panel.runner.start(job, on_event, on_end)

    def _requested_slices(self, slices: int) -> tuple[int, int]:
        """Return the requested slices of the selected CT (start, stop)."""
        parameters = self._panel.parameters
        if parameters.all_slices:
            return 0, slices
        ends = sorted((parameters.first_slice, parameters.last_slice))
        return max(0, min(ends[0], slices) - 1), min(ends[1], slices)

    # -- events ------------------------------------------------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        if isinstance(event, ConnectionLost):
            self._retry_message = retry_text(event, self._job)
        elif isinstance(event, Restarted):
            self._panel.show_message(event.message)
            for node in (self._pet, self._error_map):
                if node is not None:
                    clear_slabs(node)
        elif isinstance(event, ReceivedSlab):
            self._retry_message = ""
            self._fill(event)

    def _fill(self, slab: ReceivedSlab) -> None:
        if not self._panel.scene.IsNodePresent(self._ct):
            self._job.cancel()
            self._panel.show_error(_("The CT was removed from the scene: the synthesis is cancelled."))
            return
        version = slab.metadata.version or slab.metadata.checksum[:8]
        is_first = self._pet is None or not self._panel.scene.IsNodePresent(self._pet)
        if is_first:
            show_or_hide(self._panel.ui.unlikeLabel, reader_warnings(slab.metadata))
            self._pet = self._node(version, node_attributes.SYNTHETIC_PET)
            self._error_map = None
        fill_slab(self._pet, slab.pet.array, slab.pet.affine)
        if slab.uncertainty is not None:
            if self._error_map is None:
                self._error_map = self._node(version, node_attributes.UNCERTAINTY)
                self._pet.SetNodeReferenceID(node_attributes.ERROR_MAP, self._error_map.GetID())
            fill_slab(self._error_map, slab.uncertainty.array, slab.uncertainty.affine)
        for node in filter(None, (self._pet, self._error_map)):
            node.SetAttribute(node_attributes.VERSION, version)
            node.SetAttribute(node_attributes.CHECKSUM, slab.metadata.checksum)
        if is_first:
            self._on_first_slab(self._pet)

    def _node(self, version: str, role: str) -> Any:
        title = "" if self._version is None else f"{self._model} version {self._version}"
        array = self._buffers.pop().take() if self._buffers else None
        return make_pet_node(
            self._panel.scene, self._ct, model=self._model, version=version, title=title, role=role, array=array
        )

    def _on_end(self, job: Job) -> None:
        if job is self._job and job.state is State.FAILED:
            self._panel.show_error(failure_text(job))
        self._panel.refresh()

    # -- state -------------------------------------------------------------------------------------------------------

    def _can_resume(self) -> bool:
        job, model = self._job, self.model
        return (
            isinstance(job, SynthesisJob)
            and job.state in (State.CANCELLED, State.FAILED)
            and bool(job.missing)
            and self._pet is not None
            and self._panel.scene.IsNodePresent(self._pet)
            and self._ct is self._ct_section.ct
            and bool(self._ct_section.image_id)
            and model is not None
            and (model.name, self._versions.number) == (self._model, self._version)
        )

    @property
    def _can_synthesise(self) -> bool:
        """Whether the selected model is trained, or a version of it is selected."""
        return self.model is not None and (self.model.trained or self._versions.version is not None)

    @property
    def _provides_uncertainty(self) -> bool:
        """Whether the selected model or version provides an uncertainty map."""
        selected = self._versions.version or self.model
        return selected is not None and selected.uncertainty

    def _show_progress(self) -> None:
        job = self._job
        if job is None or (job.state.is_over and self._ct is not self._ct_section.ct):
            self._show_bar(0.0, self._first_step())
        elif isinstance(job, SynthesisJob):
            is_retrying = self._retry_message and not job.state.is_over
            self._show_bar(job.fraction, self._retry_message if is_retrying else synthesis_text(job))
        elif job.state in UPLOAD_TEXTS:
            self._show_bar(0.0, UPLOAD_TEXTS[job.state])

    def _first_step(self) -> str:
        if self._panel.client is None:
            return _("Connect to a server first.")
        if not self._can_synthesise:
            return _("Select a trained model, or train one in section 7.")
        return _("Select a CT first.") if self._ct_section.ct is None else ""

    def _show_bar(self, fraction: float, text: str) -> None:
        self._panel.ui.progressBar.setValue(round(1000 * fraction))
        self._panel.ui.progressLabel.setText(text)

    def _on_selected(self) -> None:
        model, ui = self.model, self._panel.ui
        self._versions.update(model)
        version = self._versions.version
        if model is None or version is None or version.served:
            ui.standingLabel.setText("" if model is None else served_summary(model))
            ui.cardBrowser.setHtml(model_page(model) if model is not None and model.trained else "")
        else:
            ui.standingLabel.setText(version_summary(version))
            ui.cardBrowser.setHtml(version_page(model.name, version))
        self._panel.refresh()
