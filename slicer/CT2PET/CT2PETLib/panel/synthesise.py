"""Section "Synthesise": one button draws the PET, slab by slab from the slice on screen, cancels, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from CT2PETLib.client.schemas import Model
from CT2PETLib.client.training import Versions
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted, Uploaded, UploadProgress
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import SynthesisJob, UploadJob
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.model_card import model_page, standing, version_page, version_summary
from CT2PETLib.panel.qt_helpers import get_property, set_items, span
from CT2PETLib.panel.version_selector import VersionSelector
from CT2PETLib.scene import node_attributes, views
from CT2PETLib.scene.buffer import ZeroBuffer
from CT2PETLib.scene.volume import LPS_TO_RAS, clear_slabs, fill_slab, ijk_to_ras, make_pet_node, voxels


class SynthesiseSection:
    """Draws, and tells `came` of each synthetic PET when its first slab is there."""

    def __init__(self, panel: Panel, ct_section: CTSection, came: Callable[[Any], None]) -> None:
        self._panel, self._ct_section, self._came = panel, ct_section, came
        self._job: Any = None  # a SynthesisJob or UploadJob
        self._ct: Any = None  # what the job draws from; the user may choose another meanwhile
        self._pet: Any = None
        self._error_map: Any = None
        self._blanks: list[ZeroBuffer] = []  # for the two
        self._model = ""
        self._version: int | None = None  # that was asked for; None for the one that is served
        self._lost = ""
        self._client: Any = None  # whose versions are offered
        self._versions = VersionSelector(panel.ui.versionBox)
        panel.when(panel.ui.applyButton, "clicked", self.apply)
        panel.when(panel.ui.modelBox, "currentTextChanged", self._chosen)
        panel.when(panel.ui.versionBox, "currentTextChanged", self._chosen)

    @property
    def model(self) -> Model | None:
        """The model that was chosen."""
        server = self._panel.server
        return server.model(get_property(self._panel.ui.modelBox, "currentText")) if server is not None else None

    @property
    def is_active(self) -> bool:
        """Whether a PET is being drawn, or its CT sent."""
        return self._job is not None and not self._job.state.is_over

    def connected(self) -> None:
        """Offer the models of the server in use."""
        server = self._panel.server
        if self._panel.client is not self._client:  # else the same server has been asked anew
            self._client = self._panel.client
            self._versions.know(())
        set_items(self._panel.ui.modelBox, [model.name for model in server.models] if server is not None else [])
        self._chosen()

    def offer(self, versions: tuple[Versions, ...]) -> None:
        """Offer the versions that the server has of each model."""
        self._versions.know(versions)
        self._chosen()

    def apply(self) -> None:
        """Draw; or cancel, where something is being drawn; or go on, where slices are missing."""
        if self.is_active:
            self._job.cancel()
        elif self._can_go_on():
            self._start(self._job.rest())
        elif self._ct_section.image_id:
            self._draw(self._ct_section.image_id)
        elif self._ct_section.may_be_sent:
            self._send()
        else:
            self._panel.show_error("Tick “I may send this CT to the server” first: nothing is sent before.")
            return
        self._panel.refresh()

    def tick(self) -> None:
        """Let the slices round the one on screen come next."""
        if self.is_active and isinstance(self._job, SynthesisJob) and self._panel.scene.IsNodePresent(self._ct):
            k = views.displayed_slice(self._panel.scene, self._ct)
            if k is not None:
                self._job.look_at(k)
            self._show_progress()

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui, under_way = self._panel.ui, self.is_active
        ready = self._ct_section.ct is not None and self._can_draw
        ui.applyButton.setText(
            "Cancel" if under_way else "Synthesise the rest" if self._can_go_on() else "Synthesise PET"
        )
        cancelling = under_way and self._job.state is State.CANCEL_REQUESTED
        ui.applyButton.setEnabled(not cancelling if under_way else bool(ready))
        ui.uncertaintyCheckBox.setEnabled(not under_way and self._knows_errors)
        for widget in (ui.modelBox, ui.versionBox, ui.allSlicesCheckBox):
            widget.setEnabled(not under_way)
        ct = self._ct_section.ct
        if ct is not None:
            for box in (ui.firstSliceSpinBox, ui.lastSliceSpinBox):
                box.setMaximum(voxels(ct).shape[0])
        self._show_progress()

    # -- beginning -------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        ct = self._ct = self._ct_section.ct
        array = voxels(ct)
        if array.dtype.itemsize > 4:
            array = array.astype("float32")
        job = UploadJob(self._panel.require_client(), array=array, affine=LPS_TO_RAS @ ijk_to_ras(ct))

        def come(what: Any) -> None:
            """Show how much has been sent, and what the CT is called on the server."""
            if isinstance(what, UploadProgress):
                self._bar(
                    what.done / max(1, what.total),
                    f"Sending the CT: {what.done / 1e6:.0f} of {what.total / 1e6:.0f} MB",
                )
            elif isinstance(what, Uploaded):
                self._ct_section.is_called(ct, what.image_id)

        def over(ended: Job) -> None:
            """Draw, now that the server has it."""
            if ended.state is State.DONE and self._ct_section.ct is ct:
                self._draw(self._ct_section.image_id)
            self._ended(ended)

        self._begin(job, come, over, "Sending the CT …")

    def _draw(self, image_id: str) -> None:
        ct, model = self._ct_section.ct, self.model
        if model is None:
            return
        slices = voxels(ct).shape[0]
        first, stop = self._wanted(slices)
        k = views.displayed_slice(self._panel.scene, ct)
        centre = (first + stop) // 2 if k is None else k
        self._ct, self._pet, self._error_map = ct, None, None
        uncertainty = bool(self._panel.parameters.uncertainty and self._knows_errors)
        self._blanks = [ZeroBuffer(voxels(ct).shape) for _ in range(1 + uncertainty)]
        self._model, self._version = model.name, self._versions.number
        self._start(
            SynthesisJob(
                self._panel.require_client(),
                model=model.name,
                image_id=image_id,
                wanted=(first, stop),
                centre=centre,
                uncertainty=uncertainty,
                version=self._version,
            )
        )

    def _start(self, job: SynthesisJob) -> None:
        self._begin(job, self._slab, self._ended, "Waiting for the first slices …")

    def _begin(self, job: Job, come: Callable[[Any], None], over: Callable[[Job], None], words: str) -> None:
        self._job, self._lost = job, ""
        self._panel.say("")
        self._bar(0.0, words)
        self._panel.running.start(job, come, over)

    def _wanted(self, slices: int) -> tuple[int, int]:
        """Return the slices of interest of the chosen CT, first and the one after the last."""
        chosen = self._panel.parameters
        if chosen.all_slices:
            return 0, slices
        ends = sorted((chosen.first_slice, chosen.last_slice))
        return max(0, min(ends[0], slices) - 1), min(ends[1], slices)

    # -- what comes --------------------------------------------------------------------------------------------------

    def _slab(self, what: Any) -> None:
        if isinstance(what, ConnectionLost):
            self._lost = f"{what.sentence} Trying again in {span(what.retry_in_s)}; what has come is kept."
        elif isinstance(what, Restarted):
            self._panel.say(what.sentence)
            for node in (self._pet, self._error_map):
                if node is not None:
                    clear_slabs(node)
        elif isinstance(what, ReceivedSlab):
            self._lost = ""
            self._fill(what)

    def _fill(self, slab: ReceivedSlab) -> None:
        if not self._panel.scene.IsNodePresent(self._ct):
            self._job.cancel()
            self._panel.show_error("The CT was taken out of the scene: the synthesis has ended.")
            return
        version = slab.told.version or slab.told.checksum[:8]
        is_first = self._pet is None or not self._panel.scene.IsNodePresent(self._pet)
        if is_first:
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
            node.SetAttribute(node_attributes.CHECKSUM, slab.told.checksum)
        if is_first:
            self._came(self._pet)

    def _node(self, version: str, role: str) -> Any:
        title = "" if self._version is None else f"{self._model} version {self._version}"
        array = self._blanks.pop().take() if self._blanks else None
        return make_pet_node(
            self._panel.scene, self._ct, model=self._model, version=version, title=title, role=role, array=array
        )

    def _ended(self, job: Job) -> None:
        if job is self._job and job.state is State.FAILED:
            self._panel.show_error(
                f"{job.sentence} {'What has come is kept.' if self._pet is not None else ''}".strip()
            )
        self._panel.refresh()

    # -- words -------------------------------------------------------------------------------------------------------

    def _can_go_on(self) -> bool:
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
    def _can_draw(self) -> bool:
        """Whether the chosen model is served, or a version of it was chosen."""
        return self.model is not None and (self.model.trained or self._versions.version is not None)

    @property
    def _knows_errors(self) -> bool:
        """Whether what would draw can say what error to expect."""
        chosen = self._versions.version or self.model
        return chosen is not None and chosen.uncertainty

    def _show_progress(self) -> None:
        job = self._job
        if not isinstance(job, SynthesisJob):
            if job is None:
                self._bar(0.0, self._first_step())
            return
        left = job.seconds_left
        words = {
            State.CANCEL_REQUESTED: "Cancelling …",
            State.CANCELLED: "Cancelled. What has come is kept.",
            State.FAILED: "Not finished. What has come is kept.",
            State.DONE: "Done.",
        }.get(job.state, "Waiting for the first slices …" if left is None else f"About {span(left)} left.")
        self._bar(job.fraction, self._lost if self._lost and not job.state.is_over else words)

    def _first_step(self) -> str:
        if self._panel.client is None:
            return "Connect to a server first."
        if not self._can_draw:
            return "Choose a model that has been trained, or train one below."
        return "Choose a CT first." if self._ct_section.ct is None else ""

    def _bar(self, fraction: float, words: str) -> None:
        self._panel.ui.progressBar.setValue(round(1000 * fraction))
        self._panel.ui.progressLabel.setText(words)

    def _chosen(self) -> None:
        model, ui = self.model, self._panel.ui
        self._versions.show(model)
        version = self._versions.version
        if model is None or version is None or version.served:
            ui.standingLabel.setText("" if model is None else standing(model))
            ui.cardBrowser.setHtml(model_page(model) if model is not None and model.trained else "")
        else:
            ui.standingLabel.setText(version_summary(version))
            ui.cardBrowser.setHtml(version_page(model.name, version))
        self._panel.refresh()
