"""Section "Give back": keep the synthetic PET as a DICOM series; submit a measured pair to learn from."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import qt

from CT2PETLib.client.client import Client
from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.panel.compare import NOWHERE
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.qt_helpers import get_property, set_rows
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.scene import node_attributes, pair_checks
from CT2PETLib.scene.dicom_files import dicom_files
from CT2PETLib.scene.pair_checks import Check
from CT2PETLib.scene.volume import SceneError


class ExportSection:
    """Nothing leaves Slicer here before its box is ticked."""

    def __init__(self, panel: Panel, ct: CTSection, synthesise: SynthesiseSection) -> None:
        self._panel, self._ct_section, self._synthesise = panel, ct, synthesise
        self._busy = False
        self._checked: tuple[Any, ...] = ()  # CT and PET that passed every check
        ui = panel.ui
        panel.when(ui.keepConsentCheckBox, "clicked", self.refresh)
        panel.when(ui.pairConsentCheckBox, "clicked", self.refresh)
        panel.when(ui.storeButton, "clicked", self.store)
        panel.when(ui.saveDicomButton, "clicked", self.save_dicom)
        panel.when(ui.checkPairButton, "clicked", self.check_pair)
        panel.when(ui.submitPairButton, "clicked", self.submit_pair)

    def store(self) -> None:
        """Put the synthetic PET by its CT, into the server's studies folder or PACS."""
        model, version, image_id = self._drawn()
        self._start("Saving …")
        self._panel.running.ask(
            self._panel.require_client(),
            lambda asker: asker.store(model, image_id, version=version),
            self._stored,
            failed=self._failed,
        )

    def save_dicom(self) -> None:
        """Write the synthetic PET as a DICOM series into a folder of this computer."""
        folder = qt.QFileDialog.getExistingDirectory(None, "Folder for the synthetic PET's DICOM series")
        if not folder:
            return
        model, version, image_id = self._drawn()
        self._start("Fetching the DICOM series …")
        self._panel.running.ask(
            self._panel.require_client(),
            lambda asker: unpack(asker.dicom(model, image_id, version=version), Path(folder)),
            lambda count: self._done(f"{count} DICOM files are in {folder}. Each says that it is synthetic."),
            failed=self._failed,
        )

    def check_pair(self) -> None:
        """Look whether CT and PET fit together; nothing is sent."""
        ct, pet = self._pair()
        pair = pair_checks.gather(ct, pet)
        self._start("Checking …")
        self._panel.running.ask(
            self._panel.client or Client(NOWHERE),
            lambda _: pair_checks.check(pair),
            lambda checks: self._pair_checked(ct, pet, checks),
            failed=self._failed,
        )

    def submit_pair(self) -> None:
        """Send CT and PET to the server, to learn from."""
        ct, pet = self._pair()
        pet_files = dicom_files(pet)
        ct_files = () if self._ct_section.is_of_studies(ct) else dicom_files(ct)
        self._start("Sending the pair …")
        self._panel.running.ask(
            self._panel.require_client(),
            lambda asker: str(asker.submit_pair(ct_files, pet_files)),
            self._submitted,
            failed=self._failed,
        )

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui, panel, chosen = self._panel.ui, self._panel, self._panel.parameters
        keep = get_property(ui.keepConsentCheckBox, "checked") and panel.client is not None and not self._busy
        there = chosen is not None and chosen.synthetic is not None and bool(self._ct_section.image_id)
        for button in (ui.storeButton, ui.saveDicomButton):
            button.setEnabled(bool(keep and there))
        pair = (chosen.pair_ct, chosen.pair_pet) if chosen is not None else (None, None)
        ui.checkPairButton.setEnabled(None not in pair and not self._busy)
        if self._checked and self._checked != pair:
            self._checked = ()
            set_rows(ui.pairTable, [])
        ticked = get_property(ui.pairConsentCheckBox, "checked")
        ui.submitPairButton.setEnabled(
            bool(self._checked) and bool(ticked) and panel.client is not None and not self._busy
        )

    def _drawn(self) -> tuple[str, int | None, str]:
        """Return model, version and image id of the synthetic PET that was chosen: what is kept is what was seen.

        Raises:
            SceneError: It was not drawn from the CT that was chosen, or the server does not have that CT.
        """
        pet, image_id = self._panel.parameters.synthetic, self._ct_section.image_id
        if pet.GetNodeReference(node_attributes.CT_NODE) is not self._ct_section.ct or not image_id:
            raise SceneError(f"{pet.GetName()}: was drawn from another CT; choose that CT in section 2")
        return pet.GetAttribute(node_attributes.MODEL), node_attributes.version_number(pet), image_id

    def _pair(self) -> tuple[Any, Any]:
        chosen = self._panel.parameters
        return chosen.pair_ct, chosen.pair_pet

    def _pair_checked(self, ct: Any, pet: Any, checks: tuple[Check, ...]) -> None:
        well = all(one.ok for one in checks)
        set_rows(self._panel.ui.pairTable, [[c.question, c.found, "ok" if c.ok else "NO"] for c in checks])
        self._done("The pair looks plausible." if well else "")
        self._checked = (ct, pet) if well else ()
        if not well:
            self._panel.show_error("The pair cannot be submitted: see the line marked NO.")
        self._panel.refresh()

    def _stored(self, told: InferResult) -> None:
        self._done(f"Saved by its CT as series {told.series_instance_uid}. Each file says that it is synthetic.")

    def _submitted(self, words: str) -> None:
        self._panel.ui.pairConsentCheckBox.setChecked(False)
        self._done(words)
        self._ct_section.list_studies()

    def _start(self, words: str) -> None:
        self._busy = True
        self._panel.say(words)
        self._panel.refresh()

    def _done(self, words: str) -> None:
        self._busy = False
        self._panel.say(words)
        self._panel.refresh()

    def _failed(self, sentence: str) -> None:
        self._busy = False
        self._panel.show_error(sentence)


def unpack(content: bytes, folder: Path) -> int:
    """Write the files of a zip into a folder, under plain names of their own; return how many."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        files = [entry for entry in packed.infolist() if not entry.is_dir()]
        for entry in files:
            (folder / Path(entry.filename).name).write_bytes(packed.read(entry))
    return len(files)
