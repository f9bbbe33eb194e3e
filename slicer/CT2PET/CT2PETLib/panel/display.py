"""Section "Show": which synthetic PET, in which layout, how coloured."""

from __future__ import annotations

from typing import Any

from CT2PETLib.panel.context import Panel
from CT2PETLib.scene import display, layouts, node_attributes, views
from CT2PETLib.scene.volume import SceneError


class DisplaySection:
    """Shows what was chosen, as it was chosen."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._as_shown: tuple[Any, ...] = ()
        ui = panel.ui
        panel.when(ui.fusedButton, "clicked", self.fused)
        panel.when(ui.sideBySideButton, "clicked", self.side_by_side)
        panel.when(ui.projectionButton, "clicked", self.projection)
        panel.when(ui.errorMapButton, "clicked", self.error_map)

    def came(self, pet: Any) -> None:
        """Choose a synthetic PET that has just begun to come, and show it over its CT."""
        self._panel.parameters.synthetic = pet
        self.apply_display()
        self.fused()

    def fused(self) -> None:
        """Show the PET over the CT in three planes."""
        pet, ct = self._chosen()
        views.switch_to(layouts.FUSED)
        layouts.show_fused(self._panel.scene, ct=ct, pet=pet, opacity=self._panel.parameters.opacity)
        self._arranged()

    def side_by_side(self) -> None:
        """Show CT, synthetic and real PET beside each other."""
        pet, ct = self._chosen()
        views.switch_to(layouts.SIDE_BY_SIDE)
        layouts.show_side_by_side(self._panel.scene, ct=ct, synthetic=pet, real=self._panel.parameters.real)
        self._arranged()

    def projection(self) -> None:
        """Show the PET's maximum intensity projections."""
        pet, _ = self._chosen()
        views.switch_to(layouts.PROJECTION)
        layouts.show_projection(self._panel.scene, pet)
        self._arranged()

    def error_map(self) -> None:
        """Show the map of errors to expect that came with the PET, over the CT."""
        pet, _ = self._chosen()
        node = pet.GetNodeReference(node_attributes.ERROR_MAP)
        display.show_suv(
            node, window_suv=display.ERROR_WINDOW_SUV, threshold_suv=display.MIN_ERROR_SUV, colour="PET DICOM"
        )
        self.over_ct(node)

    def over_ct(self, node: Any) -> None:
        """Show a map that belongs to the PET, over the CT in three planes."""
        _, ct = self._chosen()
        views.switch_to(layouts.FUSED)
        layouts.show_fused(self._panel.scene, ct=ct, pet=node, opacity=self._panel.parameters.opacity)
        self._arranged()

    def apply_display(self) -> None:
        """Colour synthetic and real PET as was chosen, where that has changed."""
        chosen = self._panel.parameters
        if chosen is None:
            return
        window = (chosen.window_suv.minimum, chosen.window_suv.maximum)
        wish = (chosen.synthetic, chosen.real, window, chosen.threshold_suv, chosen.colour, chosen.opacity)
        if wish == self._as_shown:
            return
        self._as_shown = wish
        for node in (chosen.synthetic, chosen.real):
            if node is not None:
                display.show_suv(
                    node, window_suv=window, threshold_suv=chosen.threshold_suv, colour=chosen.colour.value
                )
        layouts.set_opacity(self._panel.scene, chosen.opacity)

    def tick(self) -> None:
        """Keep the words in every view true."""
        chosen = self._panel.parameters
        if chosen is not None:
            views.annotate_views(self._panel.scene, chosen.synthetic, chosen.real)

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui = self._panel.ui
        there = self._panel.parameters is not None and self._panel.parameters.synthetic is not None
        for button in (ui.fusedButton, ui.sideBySideButton, ui.projectionButton):
            button.setEnabled(there)
        pet = self._panel.parameters.synthetic if there else None
        ui.errorMapButton.setEnabled(pet is not None and pet.GetNodeReference(node_attributes.ERROR_MAP) is not None)
        self.apply_display()

    def _arranged(self) -> None:
        views.fit()
        self.tick()

    def _chosen(self) -> tuple[Any, Any]:
        pet = self._panel.parameters.synthetic
        if pet is None:
            raise SceneError("There is no synthetic PET to show yet: press Synthesise PET.")
        return pet, pet.GetNodeReference(node_attributes.CT_NODE) or self._panel.parameters.ct
