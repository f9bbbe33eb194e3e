"""What the panel remembers between sessions, and how it looks in a dark window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import slab_affine, volume_node
from CT2PETLib.scene import layouts, volume
from panels import opened


def synthetic(scene: Any, ct: Any) -> Any:
    node = volume.make_pet_node(scene, ct, model="cascade3")
    volume.fill_slab(node, np.ones((8, 24, 20), np.float32), slab_affine(ct, 0))
    return node


def test_layout_and_windows_are_remembered_on_this_computer(app: Any, scene: Any, ct: Any, tmp_path: Any) -> None:
    from CT2PETLib.scene import display

    with opened(app, tmp_path) as first:
        first.panel.parameters.ct = ct
        display.show_ct(ct)
        first.display.show_new(synthetic(scene, ct))
        first.ui.windowRange.setValues(0.5, 12.0)
        first.ui.colourBox.setCurrentIndex(2)
        first.ui.sideBySideButton.click()
        first.display.tick()
        ct.GetDisplayNode().SetWindowLevelMinMax(-1000.0, 400.0)  # as a mouse does
        first.display.tick()
    with opened(app, tmp_path) as second:
        from CT2PETLib.panel.settings import load_display

        parameters = second.panel.parameters
        assert (parameters.window_suv.minimum, parameters.window_suv.maximum) == (0.5, 12.0)
        assert (second.ui.windowRange.maximumValue, parameters.colour.value) == (12.0, "PET inverted grey")
        assert load_display().window_hu == (-1000.0, 400.0)
        other = volume_node(scene, volume.voxels(ct), volume.ijk_to_ras(ct), "another CT")
        parameters.ct = other
        second.display.show_new(synthetic(scene, other))
        composite = layouts.composite_node(scene, layouts.SYNTHETIC_VIEW)
        assert composite.GetBackgroundVolumeID() == parameters.synthetic.GetID()


def test_settings_of_a_scene_are_kept(app: Any, tmp_path: Any) -> None:
    with opened(app, tmp_path) as first:
        first.ui.thresholdSlider.setValue(2.0)
    with opened(app, tmp_path) as second:
        parameters = second.panel.parameters
        assert parameters.threshold_suv == 2.0
        parameters.threshold_suv = 1.0  # as a saved scene has it
        second.display.restore()
        assert parameters.threshold_suv == 1.0


@pytest.mark.parametrize("stored", ["no JSON", "[]", '{"layout": 3}', '{"window_suv": [5, 1]}', '{"unknown": 1}'])
def test_damaged_settings_are_ignored(app: Any, tmp_path: Any, stored: str) -> None:
    with opened(app, tmp_path):
        import qt
        from CT2PETLib.panel.settings import KEY, DisplaySettings, load_display

        qt.QSettings().setValue(KEY, stored)
        assert load_display() == DisplaySettings()


def test_errors_are_legible_in_a_light_and_a_dark_window(app: Any, tmp_path: Any) -> None:
    from PySide6.QtGui import QColor, QPalette
    from PySide6.QtWidgets import QApplication

    with opened(app, tmp_path) as panel:
        light = QApplication.palette()
        try:
            for window, colour in (("#f0f0f0", "#a84300"), ("#202326", "#ff9a57")):
                palette = QPalette(light)
                palette.setColor(QPalette.ColorRole.Window, QColor(window))
                QApplication.setPalette(palette)
                panel.panel.show_error("This failed.")
                assert colour in panel.ui.messageLabel.styleSheet()
        finally:
            QApplication.setPalette(light)
