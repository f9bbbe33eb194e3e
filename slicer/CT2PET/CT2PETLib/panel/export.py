"""Section "Save and submit": save the synthetic PET as DICOM series; submit a measured pair for training."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import qt

from CT2PETLib.client.client import Client
from CT2PETLib.client.infer_result import InferResult
from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import PairSubmitted, UploadProgress
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import PairUploadJob
from CT2PETLib.panel.compare import UNUSED_ADDRESS
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.qt_helpers import get_property, sent_text, set_rows
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.scene import node_attributes, pair_checks
from CT2PETLib.scene.dicom_files import dicom_files
from CT2PETLib.scene.pair_checks import Check
from CT2PETLib.scene.volume import SceneError


class ExportSection:
    """Saves and submits data, only with the user's consent."""

    def __init__(self, panel: Panel, ct: CTSection, synthesise: SynthesiseSection) -> None:
        self._panel, self._ct_section, self._synthesise = panel, ct, synthesise
        self._busy = False
        self._checked: tuple[Any, ...] = ()  # CT and PET that passed all checks
        ui = panel.ui
        panel.on_signal(ui.keepConsentCheckBox, "clicked", self.refresh)
        panel.on_signal(ui.pairConsentCheckBox, "clicked", self.refresh)
        panel.on_signal(ui.storeButton, "clicked", self.store)
        panel.on_signal(ui.saveDicomButton, "clicked", self.save_dicom)
        panel.on_signal(ui.checkPairButton, "clicked", self.check_pair)
        panel.on_signal(ui.submitPairButton, "clicked", self.submit_pair)

    def store(self) -> None:
        """Store the synthetic PET with its CT, in the server's studies folder or PACS."""
        model, version, image_id = self._synthesised()
        self._start(_("Saving …"))
        self._panel.runner.submit(
            self._panel.require_client(),
            lambda job_client: job_client.store(model, image_id, version=version),
            self._on_stored,
            on_error=self._on_error,
        )

    def save_dicom(self) -> None:
        """Save the synthetic PET as DICOM series in a folder of this computer."""
        folder = qt.QFileDialog.getExistingDirectory(None, _("Folder for the synthetic PET's DICOM series"))
        if not folder:
            return
        model, version, image_id = self._synthesised()
        self._start(_("Downloading the DICOM series …"))
        self._panel.runner.submit(
            self._panel.require_client(),
            lambda job_client: unpack(job_client.dicom(model, image_id, version=version), Path(folder)),
            lambda count: self._done(
                _("Saved {count} DICOM files in {folder}. Each is labelled as synthetic.").format(
                    count=count, folder=folder
                )
            ),
            on_error=self._on_error,
        )

    def check_pair(self) -> None:
        """Check whether CT and PET form a plausible pair; nothing is sent."""
        ct, pet = self._pair()
        pair = pair_checks.gather(ct, pet)
        self._start(_("Checking …"))
        self._panel.runner.submit(
            self._panel.client or Client(UNUSED_ADDRESS),
            lambda _: pair_checks.check(pair),
            lambda checks: self._on_checked(ct, pet, checks),
            on_error=self._on_error,
        )

    def submit_pair(self) -> None:
        """Submit CT and PET to the server for training."""
        ct, pet = self._pair()
        pet_files = dicom_files(pet)
        ct_files = () if self._ct_section.is_from_studies(ct) else dicom_files(ct)
        job = PairUploadJob(self._panel.require_client(), ct=ct_files, pet=pet_files)
        self._start(_("Sending the pair …"))
        self._panel.runner.start(job, self._on_pair_event, self._on_pair_end)

    def refresh(self) -> None:
        """Update the widgets."""
        ui, panel, parameters = self._panel.ui, self._panel, self._panel.parameters
        may_save = get_property(ui.keepConsentCheckBox, "checked") and panel.client is not None and not self._busy
        has_pet = parameters is not None and parameters.synthetic is not None and bool(self._ct_section.image_id)
        for button in (ui.storeButton, ui.saveDicomButton):
            button.setEnabled(bool(may_save and has_pet))
        pair = (parameters.pair_ct, parameters.pair_pet) if parameters is not None else (None, None)
        ui.checkPairButton.setEnabled(None not in pair and not self._busy)
        if self._checked and self._checked != pair:
            self._checked = ()
            set_rows(ui.pairTable, [])
        ticked = get_property(ui.pairConsentCheckBox, "checked")
        ui.submitPairButton.setEnabled(
            bool(self._checked) and bool(ticked) and panel.client is not None and not self._busy
        )

    def _synthesised(self) -> tuple[str, int | None, str]:
        """Return model, version and image id of the selected synthetic PET, so that exactly this PET is saved.

        Raises:
            SceneError: The PET belongs to another CT than the selected one, or the server does not have that CT.
        """
        pet, image_id = self._panel.parameters.synthetic, self._ct_section.image_id
        if pet.GetNodeReference(node_attributes.CT_NODE) is not self._ct_section.ct or not image_id:
            raise SceneError(
                _("{volume} was synthesised from another CT; select that CT in section 2.").format(volume=pet.GetName())
            )
        return pet.GetAttribute(node_attributes.MODEL), node_attributes.version_number(pet), image_id

    def _pair(self) -> tuple[Any, Any]:
        parameters = self._panel.parameters
        return parameters.pair_ct, parameters.pair_pet

    def _on_checked(self, ct: Any, pet: Any, checks: tuple[Check, ...]) -> None:
        passed = all(one.ok for one in checks)
        set_rows(self._panel.ui.pairTable, [[c.question, c.found, _("ok") if c.ok else _("FAILED")] for c in checks])
        self._done(_("The pair is plausible.") if passed else "")
        self._checked = (ct, pet) if passed else ()
        if not passed:
            self._panel.show_error(_("The pair cannot be submitted: see the check marked FAILED."))
        self._panel.refresh()

    def _on_stored(self, metadata: InferResult) -> None:
        self._done(
            _("Saved with its CT as series {series_instance_uid}. Each file is labelled as synthetic.").format(
                series_instance_uid=metadata.series_instance_uid
            )
        )

    def _on_pair_event(self, event: UploadProgress | PairSubmitted) -> None:
        if isinstance(event, UploadProgress):
            self._panel.show_message(sent_text(_("Sending the pair"), event))
            return
        self._panel.ui.pairConsentCheckBox.setChecked(False)
        self._done(event.message)
        self._ct_section.list_studies()

    def _on_pair_end(self, job: Job) -> None:
        if job.state is State.FAILED:
            self._on_error(job.message)
        elif job.state is State.CANCELLED:
            self._done("")

    def _start(self, message: str) -> None:
        self._busy = True
        self._panel.show_message(message)
        self._panel.refresh()

    def _done(self, message: str) -> None:
        self._busy = False
        self._panel.show_message(message)
        self._panel.refresh()

    def _on_error(self, message: str) -> None:
        self._busy = False
        self._panel.show_error(message)


def unpack(content: bytes, folder: Path) -> int:
    """Write the files of a zip into a folder, without their paths; return their number."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        files = [entry for entry in packed.infolist() if not entry.is_dir()]
        for entry in files:
            (folder / Path(entry.filename).name).write_bytes(packed.read(entry))
    return len(files)
