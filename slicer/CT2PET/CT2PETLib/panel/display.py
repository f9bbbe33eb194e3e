"""Section "Show": the synthetic PET to display, the layout, and the colours; they are remembered between sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from CT2PETLib.i18n import _
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.settings import DisplaySettings, load_display, save_display
from CT2PETLib.scene import display, layouts, node_attributes, views
from CT2PETLib.scene.volume import SceneError


class DisplaySection:
    """Applies the display parameters to the volumes and views."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._applied: tuple[Any, ...] = ()
        self._remembered = load_display()
        self._window_hu: tuple[Any, ...] = ()  # the CT and its window, as last seen
        ui = panel.ui
        panel.on_signal(ui.fusedButton, "clicked", self.fused)
        panel.on_signal(ui.sideBySideButton, "clicked", self.side_by_side)
        panel.on_signal(ui.projectionButton, "clicked", self.projection)
        panel.on_signal(ui.errorMapButton, "clicked", self.error_map)

    def show_new(self, pet: Any) -> None:
        """Select a new synthetic PET, and show it in the layout that was used last."""
        self._panel.parameters.synthetic = pet
        self.apply_display()
        shown = {layouts.SIDE_BY_SIDE: self.side_by_side, layouts.PROJECTION: self.projection}
        shown.get(self._remembered.layout, self.fused)()

    def restore(self) -> None:
        """Use the window, threshold, opacity and colours of the last session in a scene that has none of its own."""
        parameters, last = self._panel.parameters, self._remembered
        if _of_parameters(parameters, DisplaySettings()) != DisplaySettings():
            return
        parameters.window_suv = type(parameters.window_suv)(*last.window_suv)
        parameters.threshold_suv, parameters.opacity = last.threshold_suv, last.opacity
        parameters.colour = next(colour for colour in type(parameters.colour) if colour.value == last.colour)

    def fused(self) -> None:
        """Show the PET over the CT in three planes."""
        pet, ct = self._selected()
        self._switch_to(layouts.FUSED)
        layouts.show_fused(self._panel.scene, ct=ct, pet=pet, opacity=self._panel.parameters.opacity)
        self._update_views()

    def side_by_side(self) -> None:
        """Show CT, synthetic and real PET side by side."""
        pet, ct = self._selected()
        self._switch_to(layouts.SIDE_BY_SIDE)
        layouts.show_side_by_side(self._panel.scene, ct=ct, synthetic=pet, real=self._panel.parameters.real)
        self._update_views()

    def projection(self) -> None:
        """Show the PET's maximum intensity projections."""
        pet, _ = self._selected()
        self._switch_to(layouts.PROJECTION)
        layouts.show_projection(self._panel.scene, pet)
        self._update_views()

    def error_map(self) -> None:
        """Show the uncertainty map of the PET over the CT."""
        pet, _ = self._selected()
        node = pet.GetNodeReference(node_attributes.ERROR_MAP)
        display.show_suv(
            node, window_suv=display.ERROR_WINDOW_SUV, threshold_suv=display.MIN_ERROR_SUV, colour="PET hot metal"
        )
        self.over_ct(node)

    def over_ct(self, node: Any) -> None:
        """Show a map of the PET over the CT in three planes."""
        _, ct = self._selected()
        views.switch_to(layouts.FUSED)
        layouts.show_fused(self._panel.scene, ct=ct, pet=node, opacity=self._panel.parameters.opacity)
        self._update_views()

    def apply_display(self) -> None:
        """Apply window, threshold, colours and opacity if they have changed."""
        parameters = self._panel.parameters
        if parameters is None:
            return
        window = (parameters.window_suv.minimum, parameters.window_suv.maximum)
        nodes, threshold_suv = (parameters.synthetic, parameters.real), parameters.threshold_suv
        settings = (nodes, window, threshold_suv, parameters.colour, parameters.opacity)
        if settings == self._applied:
            return
        self._applied = settings
        self._remember(_of_parameters(parameters, self._remembered))
        for node in filter(None, nodes):
            display.show_suv(node, window_suv=window, threshold_suv=threshold_suv, colour=parameters.colour.value)
        layouts.set_opacity(self._panel.scene, parameters.opacity)

    def tick(self) -> None:
        """Update the annotation of every view, and remember the window of the CT if the user has changed it."""
        parameters = self._panel.parameters
        if parameters is None:
            return
        views.annotate_views(self._panel.scene, parameters.synthetic, parameters.real)
        ct = parameters.ct
        window_hu = display.window_of(ct)
        if window_hu is not None and self._window_hu[:1] == (ct,) and self._window_hu[1] != window_hu:
            self._remember(replace(self._remembered, window_hu=window_hu))
        self._window_hu = (ct, window_hu)

    def refresh(self) -> None:
        """Update the widgets."""
        ui = self._panel.ui
        has_pet = self._panel.parameters is not None and self._panel.parameters.synthetic is not None
        for button in (ui.fusedButton, ui.sideBySideButton, ui.projectionButton):
            button.setEnabled(has_pet)
        pet = self._panel.parameters.synthetic if has_pet else None
        ui.errorMapButton.setEnabled(pet is not None and pet.GetNodeReference(node_attributes.ERROR_MAP) is not None)
        self.apply_display()

    def _switch_to(self, layout: int) -> None:
        views.switch_to(layout)
        self._remember(replace(self._remembered, layout=layout))

    def _remember(self, settings: DisplaySettings) -> None:
        if settings != self._remembered:
            self._remembered = settings
            save_display(settings)

    def _update_views(self) -> None:
        views.fit()
        self.tick()

    def _selected(self) -> tuple[Any, Any]:
        pet = self._panel.parameters.synthetic
        if pet is None:
            raise SceneError(_("There is no synthetic PET yet: press Synthesise PET."))
        return pet, pet.GetNodeReference(node_attributes.CT_NODE) or self._panel.parameters.ct


def _of_parameters(parameters: Any, others: DisplaySettings) -> DisplaySettings:
    """Return the settings of a scene's parameters; those that are not among them are `others`."""
    window = parameters.window_suv
    return replace(
        others,
        window_suv=(window.minimum, window.maximum),
        threshold_suv=parameters.threshold_suv,
        opacity=parameters.opacity,
        colour=parameters.colour.value,
    )
