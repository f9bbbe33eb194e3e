"""Section "CT": a volume of the scene, or a study of the server; nothing is sent before the user has agreed."""

from __future__ import annotations

from typing import Any

from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.client.studies import Study
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.qt_helpers import get_property, set_rows
from CT2PETLib.scene import display, views
from CT2PETLib.scene.volume import ijk_to_ras, make_volume_node, voxels


class CTSection:
    """Knows which CT is drawn from, and what it is called on the server.

    Attributes:
        studies: CTs of the server.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.studies: tuple[Study, ...] = ()
        self._shown: list[Study] = []
        self._loading: str | None = None
        # what a CT of the scene is called on which server, and when its voxels were changed last
        self._known: dict[str, tuple[str, str, int]] = {}
        self._agreed_for = ""
        self._ranged_for = ""  # the CT that the slices of interest were set to the whole of
        ui = panel.ui
        panel.when(ui.refreshStudiesButton, "clicked", self.list_studies)
        panel.when(ui.studyFilterEdit, "textChanged", self.show_studies)
        panel.when(ui.loadStudyButton, "clicked", self.load)
        panel.when(ui.studyTable, "cellDoubleClicked", self.load)
        panel.when(ui.studyTable, "itemSelectionChanged", self.refresh)
        panel.when(ui.consentCheckBox, "clicked", self.agree)

    @property
    def ct(self) -> Any:
        """The CT that was chosen; None where there is none."""
        return self._panel.parameters.ct if self._panel.parameters is not None else None

    def agree(self) -> None:
        """Remember for which CT and server the user has agreed."""
        self._agreed_for = self._this() if get_property(self._panel.ui.consentCheckBox, "checked") else ""
        self._panel.refresh()

    @property
    def may_be_sent(self) -> bool:
        """Whether the user has agreed that this CT is sent to this server."""
        return bool(self._agreed_for) and self._agreed_for == self._this()

    @property
    def image_id(self) -> str:
        """What the chosen CT is called on the server in use; empty where, as far as known, it is not there."""
        ct, client = self.ct, self._panel.client
        if ct is None or client is None:
            return ""
        base, image_id, changed = self._known.get(ct.GetID(), ("", "", 0))
        return image_id if base == client.address.base and changed == _changed(ct) else ""

    @property
    def study(self) -> Study | None:
        """The server's study that the chosen CT is of; None where it is none."""
        return next((study for study in self.studies if study.image_id == self.image_id), None)

    def is_of_studies(self, ct: Any) -> bool:
        """Return whether a CT of the scene was fetched from the studies of the server in use, and not changed since."""
        base, image_id, changed = self._known.get(ct.GetID(), ("", "", 0))
        client = self._panel.client
        here = client is not None and base == client.address.base and changed == _changed(ct)
        return here and any(study.image_id == image_id and not study.uploaded for study in self.studies)

    def is_called(self, ct: Any, image_id: str) -> None:
        """Remember what a CT of the scene is called on the server in use."""
        client = self._panel.client
        if client is not None:
            self._known[ct.GetID()] = (client.address.base, image_id, _changed(ct))

    def list_studies(self) -> None:
        """Ask the server for its studies."""
        client = self._panel.client
        if client is None:
            self.studies = ()
            self.show_studies()
        else:
            self._panel.running.ask(client, lambda asker: asker.studies(), self._listed)

    def show_studies(self) -> None:
        """Fill the table with the studies that hold every word of the filter."""
        words = get_property(self._panel.ui.studyFilterEdit, "text").lower().split()
        rows = [(study, _row(study)) for study in self.studies]
        found = [(study, row) for study, row in rows if all(word in " ".join(row).lower() for word in words)]
        self._shown = [study for study, _ in found]
        set_rows(self._panel.ui.studyTable, [row for _, row in found])
        self.refresh()

    def load(self) -> None:
        """Fetch the chosen study's CT into the scene."""
        row = self._panel.ui.studyTable.currentRow()
        if self._loading is not None or not 0 <= row < len(self._shown):
            return
        study, client = self._shown[row], self._panel.require_client()
        self._loading = study.image_id
        self._panel.say("Fetching the CT …")
        self._panel.running.ask(
            client,
            lambda asker: read_nrrd(asker.ct(study.image_id)),
            lambda volume: self._loaded(study, volume),
            failed=self._not_loaded,
        )
        self._panel.refresh()

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui, panel = self._panel.ui, self._panel
        ui.refreshStudiesButton.setEnabled(panel.client is not None)
        ui.loadStudyButton.setEnabled(self._loading is None and 0 <= ui.studyTable.currentRow() < len(self._shown))
        ui.loadStudyButton.setText("Loading …" if self._loading else "Load the chosen study's CT")
        ui.consentCheckBox.setChecked(self.may_be_sent)
        ui.consentCheckBox.setEnabled(self.ct is not None and not self.image_id)
        ui.ctStateLabel.setText(self._state())
        if self.ct is not None and self.ct.GetID() != self._ranged_for:
            self._ranged_for = self.ct.GetID()
            panel.parameters.first_slice, panel.parameters.last_slice = 1, voxels(self.ct).shape[0]

    def _state(self) -> str:
        ct, client = self.ct, self._panel.client
        if ct is None:
            return "Choose a CT of the scene, or load one of the server's studies."
        slices, rows, columns = voxels(ct).shape
        size = f"{slices} slices of {rows} × {columns}."
        if self.image_id:
            return f"{size} The server has this CT; nothing needs to be sent."
        if client is None:
            return size
        warning = f" {client.address.warning}" if client.address.warning else ""
        return f"{size} It has to be sent to {client.address.host}, once.{warning}"

    def _this(self) -> str:
        ct, client = self.ct, self._panel.client
        return "" if ct is None or client is None else f"{ct.GetID()} {_changed(ct)} {client.address.base}"

    def _listed(self, studies: tuple[Study, ...]) -> None:
        self.studies = studies
        self.show_studies()
        self._panel.refresh()

    def _loaded(self, study: Study, volume: NrrdVolume) -> None:
        self._loading = None
        name = " ".join(filter(None, ("CT", study.description, study.date)))
        node = make_volume_node(self._panel.scene, volume.array, volume.affine, name)
        display.show_ct(node)
        self.is_called(node, study.image_id)
        self._panel.parameters.ct = node
        views.show_alone(self._panel.scene, node)
        self._panel.say("")
        self._panel.refresh()

    def _not_loaded(self, sentence: str) -> None:
        self._loading = None
        self._panel.show_error(sentence)


def _row(study: Study) -> list[str]:
    date = study.date
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date
    real = "yes" if study.has_real_pet else "sent" if study.uploaded else "no"
    return [study.patient_id or "–", day or "–", study.description or "–", str(study.slices or "–"), real]


def _changed(node: Any) -> int:
    """Return a number that another one follows when the node's voxels or their place are changed."""
    return hash((node.GetImageData().GetMTime(), ijk_to_ras(node).tobytes()))
