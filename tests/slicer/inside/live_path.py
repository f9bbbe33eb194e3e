"""A clinician's workflow against a live server, step by step; ../test_clinicians_path.py starts the server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer.util
from CT2PETLib.scene import layouts, node_attributes, views, volume
from CT2PETLib.scene.display import annotation_text
from panels import opened

import slicer

URL = os.environ["CT2PET_TEST_SERVER"]
MAX_BLOCKED_S = 0.05  # CPU time of any handler, which blocks the window


@pytest.fixture
def panel(app: Any, tmp_path: Any) -> Iterator[Any]:
    with opened(app, tmp_path) as widget:
        yield widget


def until(panel: Any, condition: Callable[[], bool], timeout_s: float = 120) -> None:
    """Tick the window until a condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{panel.ui.messageLabel.text()} | {panel.ui.progressLabel.text()}"
        panel.panel.guard(panel.tick)
        time.sleep(0.02)


def connect(panel: Any) -> None:
    """Test the connection, and sign in as required."""
    ui = panel.ui
    ui.addressBox.setCurrentText(URL)
    ui.testButton.click()
    until(panel, lambda: ui.testButton.isEnabled())
    assert "sign in" in ui.connectionLabel.text().lower()
    assert panel.panel.client is None
    ui.userEdit.setText("ada")
    ui.passwordEdit.setText("wrong")
    ui.signInButton.click()
    until(panel, lambda: ui.connectionLabel.text() == "Wrong user name or password.")
    ui.passwordEdit.setText(os.environ["CT2PET_TEST_PASSWORD"])
    ui.signInButton.click()
    assert ui.passwordEdit.text() == ""
    until(panel, lambda: panel.panel.server is not None and ui.studyTable.rowCount() > 0)
    assert ui.signInButton.text() == "Sign out"


class FolderOfFiles:
    """Stub of Slicer's DICOM database for the series in a folder; the paths of instances serve as UIDs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fileForInstance(self, uid: str) -> str:
        return str(self._folder / uid) if (self._folder / uid).is_file() else ""


def series(scene: Any, folder: Path) -> Any:
    """Load a series into the scene, with the attribute of its instances that Slicer's import sets."""
    files = sorted(folder.iterdir())
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetScene(scene)
    storage.SetSingleFile(0)
    storage.SetFileName(str(files[0]))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", folder.name)
    assert storage.ReadData(node)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(f"{folder.name}/{file.name}" for file in files))
    return node


def load(panel: Any, row: int = 0) -> Any:
    """Load the CT of a study with a real PET."""
    panel.ui.studyTable.setCurrentCell(row, 0)
    panel.ui.loadStudyButton.click()
    until(panel, lambda: panel.panel.parameters.ct is not None)
    return panel.panel.parameters.ct


def is_over(panel: Any) -> bool:
    return not panel.synthesise.is_active


def test_workflow(panel: Any, scene: Any, tmp_path: Path) -> None:
    ui = panel.ui
    # connect
    connect(panel)
    assert ui.connectionLabel.text().startswith("Connected to ct2pet")
    assert "cascade3" in [ui.modelBox.itemText(i) for i in range(ui.modelBox.count())]
    # choose
    ct = load(panel)
    assert "The server has this CT; nothing has to be sent." in ui.ctStateLabel.text()
    assert ui.applyButton.text() == "Synthesise PET"
    # synthesise, and cancel after the first slab
    ui.applyButton.click()
    assert ui.applyButton.text() == "Cancel"
    until(panel, lambda: panel.panel.parameters.synthetic is not None)
    pet = panel.panel.parameters.synthetic
    began = time.monotonic()
    ui.applyButton.click()
    until(panel, lambda: is_over(panel))
    assert time.monotonic() - began < 1.0, "cancellation takes less than a second"
    kept = volume.present_slices(pet).copy()
    assert kept.any()
    assert not kept.all()
    assert np.all(volume.voxels(pet)[kept] == volume.voxels(pet)[kept].max())  # the model predicts a constant SUV
    assert "Received slices are kept." in ui.progressLabel.text()
    # resume
    assert ui.applyButton.text() == "Synthesise the rest"
    ui.applyButton.click()
    until(panel, lambda: is_over(panel))
    assert volume.present_slices(pet).all()
    assert panel.panel.parameters.synthetic is pet
    assert volume.voxels(pet) == pytest.approx(2.0, abs=0.01)
    assert ui.progressLabel.text() == "Done."
    # displayed and annotated
    red = layouts.composite_node(scene, "Red")
    assert (red.GetBackgroundVolumeID(), red.GetForegroundVolumeID()) == (ct.GetID(), pet.GetID())
    manager = views.layout_manager()
    texts = [annotation_text(manager.sliceWidget(name).renderer) for name in manager.sliceViewNames()]
    assert all(node_attributes.SYNTHETIC in text for text in texts)
    # compared with the server's real PET
    ui.loadRealButton.click()
    until(panel, lambda: panel.panel.parameters.real is not None)
    ui.compareButton.click()
    until(panel, lambda: ui.figuresTable.rowCount() == 2)
    assert float(ui.figuresTable.item(0, 2).text()) > 0
    # saved as DICOM series, on the server and in a folder, with consent
    assert not ui.storeButton.isEnabled()
    ui.keepConsentCheckBox.click()
    ui.storeButton.click()
    until(panel, lambda: ui.messageLabel.text().startswith("Saved with its CT as series 2.25."))
    from CT2PETLib.panel import export

    export.qt = SimpleNamespace(QFileDialog=SimpleNamespace(getExistingDirectory=lambda *_: str(tmp_path / "dicom")))
    (tmp_path / "dicom").mkdir()
    ui.saveDicomButton.click()
    until(panel, lambda: ui.messageLabel.text().startswith("Saved 40 DICOM files in "))
    assert len(list((tmp_path / "dicom").iterdir())) == 40
    # submit a pair that the server does not have
    new = Path(os.environ["CT2PET_TEST_PAIR"])
    slicer.dicomDatabase = FolderOfFiles(new)
    pair = [series(scene, new / name) for name in ("CT", "PET")]
    panel.panel.parameters.pair_ct, panel.panel.parameters.pair_pet = pair
    ui.checkPairButton.click()
    until(panel, lambda: ui.pairTable.rowCount() == 4)
    assert [ui.pairTable.item(row, 2).text() for row in range(4)] == ["ok"] * 4
    assert not ui.submitPairButton.isEnabled()
    ui.pairConsentCheckBox.click()
    ui.submitPairButton.click()
    until(panel, lambda: ui.messageLabel.text().startswith("The pair is stored, 80 files are new to the server"))
    until(panel, lambda: ui.studyTable.rowCount() == 6)
    # retrain: a verdict, and a new version in any case
    assert ui.versionsTable.rowCount() == 1
    panel.panel.parameters.epochs = 2
    ui.trainButton.click()
    until(panel, lambda: ui.trainButton.text() == "Stop training", 120)
    until(panel, lambda: ui.trainButton.text() == "Train" and ui.versionsTable.rowCount() == 2, 300)
    assert ui.verdictLabel.text().startswith(("Champion: ", "Challenger: "))
    assert "cascade3: done, epoch 2 of 2" in ui.trainingLabel.text()
    ui.curveButton.click()
    chart = scene.GetSingletonNode("CT2PETplot", "vtkMRMLPlotViewNode").GetPlotChartNode()
    assert chart.GetTitle() == "CT2PET training"
    assert chart.GetNthPlotSeriesNode(0).GetTableNode().GetNumberOfRows() == 2
    # use the version that is not served, without changing the served one
    until(panel, lambda: ui.versionBox.count() == 3)
    served = ui.versionBox.itemText(0)
    row = next(row for row in range(2) if ui.versionsTable.item(row, 3).text() == "")
    other = int(ui.versionsTable.item(row, 0).text())
    ui.versionBox.setCurrentIndex(row + 1)
    panel.panel.parameters.all_slices = False
    panel.panel.parameters.first_slice, panel.panel.parameters.last_slice = 19, 20
    ui.applyButton.click()
    until(panel, lambda: panel.panel.parameters.synthetic is not pet and is_over(panel))
    named = panel.panel.parameters.synthetic
    assert (named.GetAttribute(node_attributes.VERSION), named.GetAttribute(node_attributes.MODEL)) == (
        str(other),
        "cascade3",
    )
    assert f"cascade3 version {other} (not for diagnosis)" in named.GetName()
    assert named.GetAttribute(node_attributes.CHECKSUM) == panel.train._shown[row].checksum
    assert node_attributes.version_number(named) == other
    assert ui.versionBox.itemText(0) == served
    panel.panel.parameters.all_slices = True
    ui.versionBox.setCurrentIndex(0)
    # serve the other version, with confirmation if its verdict is negative
    row = next(row for row in range(2) if ui.versionsTable.item(row, 3).text() == "")
    version = ui.versionsTable.item(row, 0).text()
    ui.versionsTable.setCurrentCell(row, 0)
    ui.rollBackButton.click()
    if "Press the button again" in ui.messageLabel.text():
        ui.rollBackButton.click()
    until(panel, lambda: ui.messageLabel.text() == f"cascade3 is served as version {version} now.")
    until(panel, lambda: f"(version {version})" in ui.standingLabel.text())
    # no handler blocks the window
    busy = {name: used for name, used in panel.panel.max_cpu_s.items() if used > MAX_BLOCKED_S}
    assert not busy, busy
    assert max(panel.panel.max_wall_s.values()) < 2.0, panel.panel.max_wall_s  # wall time includes other processes


def test_panel_opened_after_a_training_shows_the_full_curve(panel: Any, scene: Any) -> None:
    connect(panel)
    until(panel, lambda: panel.ui.curveButton.isEnabled())
    assert "cascade3: done, epoch 2 of 2" in panel.ui.trainingLabel.text()
    panel.ui.curveButton.click()
    chart = scene.GetSingletonNode("CT2PETplot", "vtkMRMLPlotViewNode").GetPlotChartNode()
    series = chart.GetNthPlotSeriesNode(0)
    assert (series.GetName(), series.GetTableNode().GetNumberOfRows()) == ("CT2PET training loss", 2)


def test_ct_of_the_scene_is_uploaded_once_with_consent(panel: Any, scene: Any) -> None:
    ui = panel.ui
    connect(panel)
    hu = np.full((12, 40, 44), -1000, dtype=np.int16)
    hu[:, 6:34, 6:38] = 40
    # left-handed on purpose: the order of slices is kept, and the PET has the same grid
    affine = np.diag([4.0, 4.0, -5.0, 1.0])
    affine[:3, 3] = [-80.0, -70.0, 100.0]
    ct = volume.make_volume_node(scene, hu, affine, "of the scene")
    panel.panel.parameters.ct = ct
    ui.applyButton.click()
    assert "nothing is sent without consent" in ui.messageLabel.text()
    ui.consentCheckBox.click()
    panel.panel.parameters.all_slices = False
    panel.panel.parameters.first_slice, panel.panel.parameters.last_slice = 3, 5
    ui.applyButton.click()
    until(panel, lambda: panel.panel.parameters.synthetic is not None and is_over(panel))
    pet = panel.panel.parameters.synthetic
    assert pet.GetAttribute(node_attributes.PRESENT) == "2:5"
    assert np.abs(volume.ijk_to_ras(pet) - volume.ijk_to_ras(ct)).max() < 1e-6
    assert "The server has this CT" in ui.ctStateLabel.text()
    # changed voxels make another CT, which requires consent again
    volume.voxels(ct)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(ct)
    panel.refresh()
    assert not panel.ct.image_id
    assert not ui.consentCheckBox.isChecked()
