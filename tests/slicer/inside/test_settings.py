"""What the panel remembers between sessions, and how it looks in a dark window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import application_logic, oblique_matrix, slab_affine, volume_node
from CT2PETLib.scene import display, layouts, volume
from panels import opened


@contextmanager
def session(settings: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Start Slicer with a CT and its synthetic PET in the scene; yield the panel and both."""
    with application_logic() as app:
        scene = app.GetMRMLScene()
        hu = np.where(np.indices((10, 24, 20)).sum(axis=0) % 2, 40, -1000).astype(np.int16)
        ct = volume_node(scene, hu, oblique_matrix())
        pet = volume.make_pet_node(scene, ct, model="cascade3")
        volume.fill_slab(pet, np.ones((8, 24, 20), np.float32), slab_affine(ct, 0))
        with opened(app, settings) as panel:
            panel.panel.parameters.ct = ct
            yield panel, ct, pet


def test_layout_and_windows_are_remembered_on_this_computer(tmp_path: Path) -> None:
    with session(tmp_path) as (panel, ct, pet):
        display.show_ct(ct)
        panel.display.show_new(pet)
        panel.ui.windowRange.setValues(0.5, 12.0)
        panel.ui.colourBox.setCurrentIndex(2)
        panel.ui.sideBySideButton.click()
        panel.display.tick()
        ct.GetDisplayNode().SetWindowLevelMinMax(-1000.0, 400.0)  # as a mouse does
        panel.display.tick()
    with session(tmp_path) as (panel, _, pet):
        from CT2PETLib.panel.settings import load_display

        parameters = panel.panel.parameters
        assert (parameters.window_suv.minimum, parameters.window_suv.maximum) == (0.5, 12.0)
        assert (panel.ui.windowRange.maximumValue, parameters.colour.value) == (12.0, "PET inverted grey")
        assert load_display().window_hu == (-1000.0, 400.0)
        panel.display.show_new(pet)
        composite = layouts.composite_node(panel.panel.scene, layouts.SYNTHETIC_VIEW)
        assert composite.GetBackgroundVolumeID() == pet.GetID()


def test_settings_of_a_scene_are_kept(tmp_path: Path) -> None:
    with session(tmp_path) as (panel, _, _):
        panel.ui.thresholdSlider.setValue(2.0)
    with session(tmp_path) as (panel, _, _):
        parameters = panel.panel.parameters
        assert parameters.threshold_suv == 2.0
        parameters.threshold_suv = 1.0  # as a saved scene has it
        panel.display.restore()
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
