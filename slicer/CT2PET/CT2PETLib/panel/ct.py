"""Section "CT": a volume of the scene, or a study of the server; nothing is sent without the user's consent."""

from __future__ import annotations

from typing import Any

from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.client.studies import Study
from CT2PETLib.i18n import _
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.qt_helpers import get_property, set_rows
from CT2PETLib.panel.settings import load_display
from CT2PETLib.scene import display, views
from CT2PETLib.scene.volume import ijk_to_ras, make_volume_node, voxels


class CTSection:
    """Selects the input CT, and tracks its id on the server.

    Attributes:
        studies: CTs of the server.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.studies: tuple[Study, ...] = ()
        self._shown: list[Study] = []
        self._loading: str | None = None
        # by node id: server, image id on that server, and state of the node's content
        self._image_ids: dict[str, tuple[str, str, int]] = {}
        self._consent = ""  # CT and server that the user consented to
        self._range_ct = ""  # the CT that the range of slices was initialised for
        ui = panel.ui
        panel.on_signal(ui.refreshStudiesButton, "clicked", self.list_studies)
        panel.on_signal(ui.studyFilterEdit, "textChanged", self.show_studies)
        panel.on_signal(ui.loadStudyButton, "clicked", self.load)
        panel.on_signal(ui.studyTable, "cellDoubleClicked", self.load)
        panel.on_signal(ui.studyTable, "itemSelectionChanged", self.refresh)
        panel.on_signal(ui.consentCheckBox, "clicked", self.set_consent)

    @property
    def ct(self) -> Any:
        """The selected CT, or None."""
        return self._panel.parameters.ct if self._panel.parameters is not None else None

    def set_consent(self) -> None:
        """Store the CT and server that the user consents to."""
        self._consent = self._consent_key() if get_property(self._panel.ui.consentCheckBox, "checked") else ""
        self._panel.refresh()

    @property
    def has_consent(self) -> bool:
        """Whether the user consented to sending this CT to this server."""
        return bool(self._consent) and self._consent == self._consent_key()

    @property
    def image_id(self) -> str:
        """Id of the selected CT on the connected server; empty if it is not known to be there."""
        ct, client = self.ct, self._panel.client
        if ct is None or client is None:
            return ""
        base, image_id, state = self._image_ids.get(ct.GetID(), ("", "", 0))
        return image_id if base == client.address.base and state == _content_state(ct) else ""

    @property
    def study(self) -> Study | None:
        """The server's study of the selected CT, or None."""
        return next((study for study in self.studies if study.image_id == self.image_id), None)

    def is_from_studies(self, ct: Any) -> bool:
        """Return whether a CT of the scene is an unchanged download from the studies of the connected server."""
        base, image_id, state = self._image_ids.get(ct.GetID(), ("", "", 0))
        client = self._panel.client
        is_current = client is not None and base == client.address.base and state == _content_state(ct)
        return is_current and any(study.image_id == image_id and not study.uploaded for study in self.studies)

    def set_image_id(self, ct: Any, image_id: str) -> None:
        """Store the id of a CT of the scene on the connected server."""
        client = self._panel.client
        if client is not None:
            self._image_ids[ct.GetID()] = (client.address.base, image_id, _content_state(ct))

    def list_studies(self) -> None:
        """Request the list of studies."""
        client = self._panel.client
        if client is None:
            self.studies = ()
            self.show_studies()
        else:
            self._panel.runner.submit(client, lambda job_client: job_client.studies(), self._on_studies)

    def show_studies(self) -> None:
        """Show the studies that contain every word of the filter."""
        words = get_property(self._panel.ui.studyFilterEdit, "text").lower().split()
        rows = [(study, _row(study)) for study in self.studies]
        matching = [(study, row) for study, row in rows if all(word in " ".join(row).lower() for word in words)]
        self._shown = [study for study, _ in matching]
        set_rows(self._panel.ui.studyTable, [row for _, row in matching])
        self.refresh()

    def load(self) -> None:
        """Download the CT of the selected study into the scene."""
        row = self._panel.ui.studyTable.currentRow()
        if self._loading is not None or not 0 <= row < len(self._shown):
            return
        study, client = self._shown[row], self._panel.require_client()
        self._loading = study.image_id
        self._panel.show_message(_("Downloading the CT …"))
        self._panel.runner.submit(
            client,
            lambda job_client: read_nrrd(job_client.ct(study.image_id)),
            lambda volume: self._on_ct(study, volume),
            on_error=self._on_error,
        )
        self._panel.refresh()

    def refresh(self) -> None:
        """Update the widgets."""
        ui, panel = self._panel.ui, self._panel
        ui.refreshStudiesButton.setEnabled(panel.client is not None)
        ui.loadStudyButton.setEnabled(self._loading is None and 0 <= ui.studyTable.currentRow() < len(self._shown))
        ui.loadStudyButton.setText(_("Loading …") if self._loading else _("Load the selected study's CT"))
        ui.consentCheckBox.setChecked(self.has_consent)
        ui.consentCheckBox.setEnabled(self.ct is not None and not self.image_id)
        ui.ctStateLabel.setText(self._state())
        if self.ct is not None and self.ct.GetID() != self._range_ct:
            self._range_ct = self.ct.GetID()
            panel.parameters.first_slice, panel.parameters.last_slice = 1, voxels(self.ct).shape[0]

    def _state(self) -> str:
        ct, client = self.ct, self._panel.client
        if ct is None:
            return _("Select a CT of the scene, or load a study of the server.")
        slices, rows, columns = voxels(ct).shape
        size = _("{slices} slices of {rows} × {columns}.").format(slices=slices, rows=rows, columns=columns)
        if self.image_id:
            return _("{size} The server has this CT; nothing has to be sent.").format(size=size)
        if client is None:
            return size
        warning = f" {client.address.warning}" if client.address.warning else ""
        return _("{size} It has to be sent to {host} once.{warning}").format(
            size=size, host=client.address.host, warning=warning
        )

    def _consent_key(self) -> str:
        ct, client = self.ct, self._panel.client
        return "" if ct is None or client is None else f"{ct.GetID()} {_content_state(ct)} {client.address.base}"

    def _on_studies(self, studies: tuple[Study, ...]) -> None:
        self.studies = studies
        self.show_studies()
        self._panel.refresh()

    def _on_ct(self, study: Study, volume: NrrdVolume) -> None:
        self._loading = None
        kind = "" if "CT" in study.description.upper().split() else "CT"
        name = " ".join(filter(None, (kind, study.description, _day(study.date))))
        node = make_volume_node(self._panel.scene, volume.array, volume.affine, name)
        display.show_ct(node, load_display().window_hu)
        self.set_image_id(node, study.image_id)
        self._panel.parameters.ct = node
        views.show_alone(self._panel.scene, node)
        self._panel.show_message("")
        self._panel.refresh()

    def _on_error(self, message: str) -> None:
        self._loading = None
        self._panel.show_error(message)


def _row(study: Study) -> list[str]:
    real = _("yes") if study.has_real_pet else _("uploaded") if study.uploaded else _("no")
    return [study.patient_id or "–", _day(study.date) or "–", study.description or "–", str(study.slices or "–"), real]


def _day(date: str) -> str:
    """Return a DICOM date as YYYY-MM-DD."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date


def _content_state(node: Any) -> int:
    """Return a number that changes with the node's voxels or geometry."""
    return hash((node.GetImageData().GetMTime(), ijk_to_ras(node).tobytes()))
