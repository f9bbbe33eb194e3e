"""The panel without a server: the .ui file and all sections, with a scene of the core libraries."""

from __future__ import annotations

import io
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import slab_affine, volume_node
from CT2PETLib.scene import layouts, node_attributes, volume
from panels import opened


@pytest.fixture
def panel(app: Any, tmp_path: Any) -> Iterator[Any]:
    with opened(app, tmp_path) as widget:
        yield widget


@pytest.fixture
def wait(panel: Any) -> Callable[[Callable[[], bool]], None]:
    """Return a function that ticks the window until a condition holds."""

    def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, panel.ui.messageLabel.text()
            panel.tick()
            time.sleep(0.01)

    return until


def test_every_section_has_its_widgets(panel: Any) -> None:
    assert panel.ui.applyButton.text() == "Synthesise PET"
    assert panel.ui.colourBox.count() == 4
    assert panel.ui.windowRange.maximumValue == 8.0


def test_buttons_are_disabled_without_a_server_and_a_ct(panel: Any) -> None:
    ui = panel.ui
    names = (
        "applyButton",
        "loadStudyButton",
        "compareButton",
        "storeButton",
        "submitPairButton",
        "trainButton",
        "rollBackButton",
    )
    assert not [name for name in names if getattr(ui, name).isEnabled()]
    assert ui.progressLabel.text() == "Connect to a server first."


def test_refused_connection_is_shown(panel: Any, wait: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    panel.ui.addressBox.setCurrentText(f"http://127.0.0.1:{port}")
    panel.ui.testButton.click()
    assert panel.ui.testButton.text() == "Testing …"
    wait(lambda: panel.ui.testButton.isEnabled())
    assert panel.ui.connectionLabel.text().startswith(f"Connection refused on port {port}")


def test_invalid_address_is_shown(panel: Any) -> None:
    panel.ui.addressBox.setCurrentText("ftp://somewhere")
    panel.ui.testButton.click()
    assert panel.ui.connectionLabel.text().startswith("“ftp://somewhere” is not a server address")


def test_ct_of_the_scene_is_described(panel: Any, ct: Any) -> None:
    panel.panel.parameters.ct = ct
    assert panel.ui.ctSelector.currentNode() is ct
    assert panel.ui.ctStateLabel.text() == "10 slices of 24 × 20."


def received(ct: Any, start: int, familiarity: dict[str, str], *, seen: bool | None = None) -> Any:
    """Return a slab of two slices as a job emits it."""
    from CT2PETLib.client.infer_result import read_infer_result
    from CT2PETLib.client.nrrd import NrrdVolume
    from CT2PETLib.jobs.events import ReceivedSlab

    pet = NrrdVolume(np.ones((2, 24, 20), np.float32), slab_affine(ct, start))
    response = {"slices": f"{start}:{start + 2}", "model": {"name": "cascade3"}, "familiarity": familiarity,
                "seen_in_training": seen}  # fmt: skip
    return ReceivedSlab(start, start + 2, pet, None, read_infer_result(response), 1.0)


def test_ct_unlike_the_training_cts_is_described_before_the_pet_is_shown(
    panel: Any, ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    section, label = panel.synthesise, panel.ui.unlikeLabel
    assert label.isHidden() and not panel.ui.allowUnlikeCheckBox.isChecked()
    for collapsed in (True, False):  # a section shows what it directly contains when it is opened
        panel.ui.synthesiseSection.setProperty("collapsed", collapsed)
    assert label.isHidden()
    panel.ui.allowUnlikeCheckBox.setChecked(True)
    assert panel.panel.parameters.allow_unlike
    shown: list[str] = []
    monkeypatch.setattr(section, "_on_first_slab", lambda _: shown.append(label.text()))
    for level, expected in (("unlike", "This CT is unlike the training CTs: metal."), ("familiar", "")):
        section._ct, section._pet = ct, None
        section._fill(received(ct, 4, {"level": level, "sentence": "This CT is unlike the training CTs: metal."}))
        assert (shown[-1], label.isHidden()) == (expected, not expected)


def test_patient_of_the_training_is_announced(panel: Any, ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    section, label = panel.synthesise, panel.ui.unlikeLabel
    monkeypatch.setattr(section, "_on_first_slab", lambda _: None)
    for seen in (True, False, None):
        section._ct, section._pet = ct, None
        section._fill(received(ct, 4, {"level": "familiar"}, seen=seen))
        assert label.text().startswith("This patient was part of the training") == bool(seen)


def test_summary_says_first_what_the_comparison_means(panel: Any) -> None:
    from CT2PETLib.client.schemas import read_card
    from CT2PETLib.panel.model_card import model_page

    scores = {"side": "test", "patients": 8, "table": {"model": {"mae_suv_body": 0.4}, "hu_median": {}}}
    card = read_card({"scores": scores, "training": {"patients": ["a"] * 20, "slices": 900}, "limits": "Chest only."})
    sentence = "Better than all four baselines; tested on 8 test patients. Model and strongest baseline: body MAE 0.4"
    serve(panel, card=card, baseline_result="beats all", baseline_summary=sentence)
    assert panel.ui.standingLabel.text() == (
        "Better than all four baselines; tested on 8 test patients (version 2). See the model card."
    )
    page = panel.ui.cardBrowser.toPlainText()
    assert page.startswith("Better than all four baselines; tested on 8 test patients.")
    assert "median SUV per HU" in page and "mae_suv_body" not in page and "hu_median" not in page
    assert "<b>Better than all four baselines; tested on 8 test patients.</b>" in model_page(panel.synthesise.model)


def versions_of_cascade3() -> Any:
    from CT2PETLib.client.training import read_versions

    versions = [
        {"version": 1, "kept": "2026-01-02T00:00:00", "served": False, "checksum": "a" * 64, "origin": "uploaded",
         "card": {"standing": "Better than <no baseline>.", "training_patients": 8, "uncertainty": True}},
        {"version": 2, "kept": "2026-01-03T00:00:00", "served": True, "checksum": "b" * 64, "origin": "run 2",
         "card": {"standing": "Better than all.", "training_patients": 9, "uncertainty": False}},
    ]  # fmt: skip
    return (read_versions({"model": "cascade3", "served": 2, "versions": versions}),)


def serve(panel: Any, **model: Any) -> None:
    """Connect the panel to a server that offers a model."""
    from CT2PETLib.client.client import Client
    from CT2PETLib.client.schemas import Model, Server

    panel.panel.client = Client("http://127.0.0.1:9")  # no request is sent
    one = Model(**{"name": "cascade3", "trained": True, "description": "", "version": "2", **model})
    panel.panel.server = Server("0.1.0", "", (one, Model("unet", False, "")), 0, 0)
    panel.synthesise.connected()
    panel.synthesise.offer(versions_of_cascade3())


def test_served_version_is_used_until_another_is_selected(panel: Any, ct: Any) -> None:
    serve(panel)
    panel.panel.parameters.ct = ct
    box, ui = panel.ui.versionBox, panel.ui
    assert [box.itemText(row) for row in range(box.count())] == [
        "served version (2)",
        "version 2, 2026-01-03, 9 patients, served",
        "version 1, 2026-01-02, 8 patients",
    ]
    assert panel.synthesise._versions.number is None
    assert not ui.uncertaintyCheckBox.isEnabled()
    box.setCurrentIndex(2)
    assert panel.synthesise._versions.number == 1
    assert ui.standingLabel.text() == "Better than <no baseline>. Version 1, not served."
    assert "Better than <no baseline>." in ui.cardBrowser.toPlainText()
    assert ui.uncertaintyCheckBox.isEnabled()
    panel.synthesise.offer(versions_of_cascade3())  # an update keeps the selection
    assert panel.synthesise._versions.number == 1
    ui.modelBox.setCurrentText("unet")  # another model has its own versions
    assert (box.count(), box.currentText()) == (1, "served version (none yet)")
    assert not ui.applyButton.isEnabled()
    ui.modelBox.setCurrentText("cascade3")
    assert panel.synthesise._versions.number is None


def test_version_can_be_used_if_none_is_served(panel: Any, ct: Any) -> None:
    serve(panel, trained=False, version="")
    panel.panel.parameters.ct = ct
    panel.refresh()
    assert not panel.ui.applyButton.isEnabled()
    panel.ui.versionBox.setCurrentIndex(2)
    assert panel.ui.applyButton.isEnabled()


def test_selected_version_is_reset_on_disconnection(panel: Any) -> None:
    serve(panel)
    panel.ui.versionBox.setCurrentIndex(2)
    panel.synthesise.connected()  # the same server, updated
    assert (panel.ui.versionBox.count(), panel.synthesise._versions.number) == (3, 1)
    panel.panel.client = panel.panel.client.copy()  # possibly another server
    panel.synthesise.connected()
    assert (panel.ui.versionBox.count(), panel.synthesise._versions.number) == (1, None)
    panel.panel.client = panel.panel.server = None
    panel.synthesise.connected()
    assert panel.ui.versionBox.currentText() == "served version (none yet)"


def test_training_is_shown_in_a_line_with_its_error(panel: Any) -> None:
    from CT2PETLib.client.training import Training
    from CT2PETLib.panel.train import training_text, verdict_text

    why = "The disk of the server is full."
    text = training_text(Training("unet", "ERROR", epoch=1, epochs=9, loss=0.25, why_failed=why))
    assert text == f"unet: failed, epoch 1 of 9, loss 0.2500. {why}"
    done = Training("unet", "DONE", 4, 9, 0.1, {"skill_body": -0.5}, "skill_body", best=-0.4, best_epoch=2)
    assert training_text(done) == (
        "unet: done, epoch 4 of 9, loss 0.1000, body MAE at best 40.0 % above that of zero uptake, in epoch 2."
    )
    assert verdict_text(replace(done, published=False)) == "Challenger: the served version is unchanged."
    other = replace(done, key_metric="mae_suv_body", best=0.5)
    assert training_text(other).endswith("best body MAE 0.5000 in epoch 2.")
    assert "best" not in training_text(Training("unet", "RUNNING", 4, 9, 0.1))  # without validation


def synthetic(scene: Any, ct: Any) -> Any:
    node = volume.make_pet_node(scene, ct, model="cascade3")
    hu = volume.voxels(ct)
    suv = np.where(hu > 60, 4.0, np.where(hu > 0, 1.0, 0.0)).astype(np.float32)
    volume.fill_slab(node, suv[:8], slab_affine(ct, 0))
    return node


def test_new_pet_is_fused_and_coloured(panel: Any, scene: Any, ct: Any) -> None:
    panel.panel.parameters.ct = ct
    pet = synthetic(scene, ct)
    panel.display.show_new(pet)
    red = layouts.composite_node(scene, "Red")
    assert (red.GetBackgroundVolumeID(), red.GetForegroundVolumeID()) == (ct.GetID(), pet.GetID())
    assert pet.GetDisplayNode().GetColorNodeID() == "vtkMRMLPETProceduralColorNodePET-Heat"


def test_sliders_change_the_views(panel: Any, scene: Any, ct: Any) -> None:
    pet = synthetic(scene, ct)
    panel.display.show_new(pet)
    panel.ui.opacitySlider.setValue(0.8)
    panel.ui.windowRange.setValues(1.0, 5.0)
    panel.ui.thresholdSlider.setValue(2.0)
    panel.ui.colourBox.setCurrentIndex(2)
    shown = pet.GetDisplayNode()
    assert layouts.composite_node(scene, "Red").GetForegroundOpacity() == pytest.approx(0.8)
    assert (shown.GetWindowLevelMin(), shown.GetWindowLevelMax(), shown.GetLowerThreshold()) == (1.0, 5.0, 2.0)
    assert "MaximumIntensityProjection" in shown.GetColorNodeID()


@pytest.mark.parametrize("button", ["fusedButton", "sideBySideButton", "projectionButton"])
def test_every_view_of_every_layout_is_annotated(panel: Any, scene: Any, ct: Any, button: str) -> None:
    from CT2PETLib.scene import views
    from CT2PETLib.scene.display import annotation_text

    panel.display.show_new(synthetic(scene, ct))
    getattr(panel.ui, button).click()
    manager = views.layout_manager()
    texts = [annotation_text(manager.sliceWidget(name).renderer) for name in manager.sliceViewNames()]
    assert texts
    assert all(node_attributes.SYNTHETIC in text for text in texts)


def test_comparison_fills_table_and_difference_map(panel: Any, wait: Any, scene: Any, ct: Any) -> None:
    pet = synthetic(scene, ct)
    real = volume_node(scene, volume.voxels(pet) * 1.5, volume.ijk_to_ras(ct), "real")
    panel.display.show_new(pet)
    panel.panel.parameters.real = real
    panel.ui.compareButton.click()
    assert "the units are not SUVbw" in panel.ui.messageLabel.text()
    panel.ui.realIsSuvCheckBox.setChecked(True)
    panel.ui.compareButton.click()
    wait(lambda: panel.ui.figuresTable.rowCount() == 2)
    assert panel.ui.figuresTable.item(0, 0).text() == "body"
    panel.ui.differenceButton.click()
    assert "minus real" in scene.GetNodeByID(layouts.composite_node(scene, "Red").GetForegroundVolumeID()).GetName()
    panel.ui.scatterButton.click()
    plot_view = scene.GetSingletonNode("CT2PETplot", "vtkMRMLPlotViewNode")
    assert plot_view.GetPlotChartNode() is not None


def test_pair_is_checked(panel: Any, wait: Any, scene: Any, ct: Any) -> None:
    hu = volume.voxels(ct)
    real = volume_node(scene, np.where(hu > 0, 1.5, 0.0).astype(np.float32), volume.ijk_to_ras(ct), "real")
    volume.declare_suv(real)
    panel.panel.parameters.pair_ct, panel.panel.parameters.pair_pet = ct, real
    panel.ui.checkPairButton.click()
    wait(lambda: panel.ui.pairTable.rowCount() == 4)
    assert [panel.ui.pairTable.item(row, 2).text() for row in range(4)] == ["ok"] * 4
    panel.panel.parameters.pair_pet = ct
    assert panel.ui.pairTable.rowCount() == 0


def test_files_of_a_zip_are_written_without_their_paths(panel: Any, tmp_path: Any) -> None:
    from CT2PETLib.panel.export import unpack

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("../../up.dcm", b"1")
        zipped.writestr("series/IMG1", b"2")
    (tmp_path / "out").mkdir()
    assert unpack(packed.getvalue(), tmp_path / "out") == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["IMG1", "up.dcm"]


def test_only_dicom_series_can_be_submitted(panel: Any, wait: Any, scene: Any, ct: Any) -> None:
    hu = volume.voxels(ct)
    real = volume_node(scene, np.where(hu > 0, 15000.0, 0.0).astype(np.float32), volume.ijk_to_ras(ct), "in Bq/mL")
    panel.panel.parameters.pair_ct, panel.panel.parameters.pair_pet = ct, real
    panel.ui.checkPairButton.click()
    wait(lambda: panel.ui.pairTable.rowCount() == 4)
    assert panel.ui.pairTable.item(2, 1).text() == "not in SUV: checked by the server"
    assert not panel.ui.submitPairButton.isEnabled()
    panel.panel.guard(panel.export.submit_pair)
    assert "was not loaded from Slicer's DICOM database" in panel.ui.messageLabel.text()


def test_synthetic_pet_cannot_be_submitted(panel: Any, scene: Any, ct: Any) -> None:
    panel.panel.parameters.pair_ct, panel.panel.parameters.pair_pet = ct, synthetic(scene, ct)
    panel.ui.checkPairButton.click()
    assert "measured images only" in panel.ui.messageLabel.text()


def test_internal_error_is_shown(panel: Any) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    panel.panel.guard(broken)
    assert panel.ui.messageLabel.text().startswith("Internal error of the CT2PET module")


def test_panel_works_after_closing_the_scene(panel: Any, scene: Any, ct: Any) -> None:
    panel.panel.parameters.ct = ct
    scene.Clear(0)
    assert panel.panel.parameters.ct is None
    assert not panel.ui.applyButton.isEnabled()


def test_intervals_are_shown_next_to_the_values_of_a_segment(panel: Any, ct: Any) -> None:
    from CT2PETLib.client.infer_result import Interval, RegionIntervals
    from CT2PETLib.scene.metrics import Uptake

    rows = [Uptake("liver, SYNTHETIC", 20.0, 4.0, 2.0, 0.5, True), Uptake("liver, real", 20.0, 5.0, 2.5, 0.5)]
    known = Interval(2.89, 5.29, 0.9, 36, "With 90 % probability, ...")
    unknown = Interval(None, None, 0.9, 5, "Too few patients: a 90 % interval needs 9 patients.")
    section = panel.compare
    section._on_intervals(rows, {id(rows[0]): RegionIntervals(mean=unknown, max=known)})
    table = panel.ui.uptakeTable
    assert [table.item(0, column).text() for column in range(4)] == [
        "liver, SYNTHETIC",
        "20.0",
        "4.00 (2.9–5.3)",
        "2.00",
    ]
    assert table.item(1, 2).text() == "5.00"
    assert panel.ui.messageLabel.text() == (
        "Estimated SUV, with 90 % intervals in brackets, calibrated on 36 patients."
    )
    section._on_intervals(rows, {id(rows[0]): RegionIntervals(mean=unknown, max=unknown)})
    assert panel.ui.messageLabel.text() == unknown.sentence
