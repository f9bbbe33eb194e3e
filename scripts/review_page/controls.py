"""The page around the images: title, warning, sliders, colour bar, facts about the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from CT2PETLib.panel.model_card import BASELINE_RESULTS
from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state

from scripts.review_page.server_data import ReviewData

WARNING = "SYNTHETIC PET - NOT FOR DIAGNOSIS"
SUBTITLE = "The libraries of 3D Slicer in a web page; useful where Slicer is not installed."
CHECKSUM_LENGTH = 12
# name, Slicer's colour, and the two ends of the slider's axis
PLANES = {
    "Red": ("Axial", "#F34A33", "I", "S"),
    "Green": ("Coronal", "#6EB04B", "P", "A"),
    "Yellow": ("Sagittal", "#EDD54C", "L", "R"),
}
SEEN_IN_TRAINING = {
    True: "The model was trained on this patient; expect larger errors on other patients.",
    False: "The model was not trained on this patient.",
    None: "It is unknown whether the model was trained on this patient.",
}
STYLE = """
html { overflow: hidden; }
.review-warning { background: #ffd93b; color: #1a1a1a; font-weight: 700; letter-spacing: .06em; text-align: center;
  padding: 4px 8px; }
.review-unlike { background: #ffd93b; color: #1a1a1a; font-size: .8rem; line-height: 1.35; padding: 6px 16px; }
.review-ids { font-size: .8rem; line-height: 1.35; overflow: hidden; text-overflow: ellipsis; }
.review-ids code { font-size: .78rem; opacity: .85; }
.review-bar { height: 16px; border-radius: 2px; position: relative; border: 1px solid #555; }
.review-threshold { position: absolute; top: -4px; bottom: -4px; width: 2px; background: #fff; }
.review-small { font-size: .76rem; line-height: 1.4; color: #b8b8b8; }
.review-view { position: absolute; inset: 0; pointer-events: none; }
.review-plane { position: absolute; top: 34px; left: 10px; font-size: .82rem; text-shadow: 0 0 4px #000; }
.review-slice { position: absolute; left: 12px; right: 12px; bottom: 2px; pointer-events: auto; }
.layout-grid-item { position: relative; min-width: 0; }
"""


def build(server: Any, review: ReviewData, layouts: Any, *, colours: Sequence[str], fit: Callable[[], None]) -> None:
    """Build the page around the views of a layout manager.

    Args:
        server: Trame server.
        review: Data of which the page shows IDs and model metadata.
        layouts: Layout manager of the slice views.
        colours: CSS colours of the PET, from the lower to the upper end of the window.
        fit: Callback that fits the whole CT into every view.
    """
    with VAppLayout(server) as layout:
        layout.root.theme = "dark"
        client.Style(STYLE)
        _title(review)
        with v3.VNavigationDrawer(permanent=True, width=304):
            if review.metadata.unlike_warning:
                html.Div(escape(review.metadata.unlike_warning), classes="review-unlike", id="unlike")
            _sliders(review)
            _colour_bar(colours)
            with html.Div(classes="px-4 pb-3"):
                v3.VBtn("Show the whole CT", click=fit, size="small", variant="tonal", block=True, id="fit")
            _about(review)
        with v3.VMain(style="height: 100vh;"):
            html.Div(WARNING, classes="review-warning", id="warning")
            with html.Div(style="height: calc(100% - 32px);"):
                layouts.initialize_layout_grid(layout)


def add_view_overlay(server: Any, _: str, view: Any) -> None:
    """Add the plane's name and position and a slider through its slices to a view."""
    tag = view.get_singleton_tag()
    name, colour, low, high = PLANES[tag]
    state = connect_slice_view_slider_to_state(server, view)
    position = state.name.value
    aria_label = f""":aria-label="'{name}: ' + labels['{tag}']" role="group" """
    with html.Div(classes="review-view", id=f"view-{tag}", raw_attrs=[aria_label]):
        html.Div(
            f"{name} &nbsp;{{{{ {position} >= 0 ? '{high}' : '{low}' }}}} {{{{ Math.abs({position}).toFixed(1) }}}} mm",
            classes="review-plane",
            style=f"color: {colour};",
        )
        with html.Div(classes="review-slice"):
            v3.VSlider(
                v_model=(position,), min=(state.name.min_value,), max=(state.name.max_value,), step=(state.name.step,),
                id=f"slice-{tag}", hide_details=True, density="compact", color=colour,
                thumb_size=14, track_size=3,
            )  # fmt: skip


def _title(review: ReviewData) -> None:
    metadata = review.metadata
    version = f" version {metadata.version}" if metadata.version else ""
    with v3.VAppBar(density="comfortable", flat=True, border=True):
        html.Div("ct2pet review", classes="text-h6 ml-4 mr-6 flex-shrink-0")
        with html.Div(classes="review-ids"):
            with html.Div():
                html.Span("CT&nbsp;")
                html.Code(review.study.image_id, id="ct-uid")
            with html.Div(id="model"):
                html.Span(f"model <b>{escape(metadata.model)}</b>{escape(version)} &nbsp;")
                html.Code(metadata.checksum[:CHECKSUM_LENGTH], title=f"checksum {metadata.checksum}")
                html.Span(f"&nbsp; on {escape(review.server)}")


def _sliders(review: ReviewData) -> None:
    with html.Div(classes="pa-4 pb-0"):
        if review.real is not None:
            with v3.VBtnToggle(
                v_model=("foreground",), mandatory=True, density="compact", divided=True, variant="outlined",
                classes="mb-4 d-flex", id="which",
            ):  # fmt: skip
                v3.VBtn("Synthetic PET", value="synthetic", size="small", classes="flex-grow-1")
                v3.VBtn("Measured PET", value="measured", size="small", classes="flex-grow-1")
        html.Div("Opacity of the PET: {{ Math.round(opacity * 100) }} %", classes="text-body-2")
        v3.VSlider(v_model=("opacity",), min=0, max=1, step=0.05, id="opacity", **_SLIDER_STYLE)
        html.Div("Window: {{ window_suv[0] }} to {{ window_suv[1] }} SUV", classes="text-body-2")
        v3.VRangeSlider(v_model=("window_suv",), min=0, max=20, step=0.5, strict=True, id="window", **_SLIDER_STYLE)
        html.Div("Only the CT below {{ threshold_suv }} SUV", classes="text-body-2")
        v3.VSlider(v_model=("threshold_suv",), min=0, max=5, step=0.1, id="threshold", **_SLIDER_STYLE)


def _colour_bar(colours: Sequence[str]) -> None:
    gradient = ", ".join(colours)
    threshold = "(threshold_suv - window_suv[0]) / (window_suv[1] - window_suv[0]) * 100"
    with html.Div(classes="px-4 pb-2", id="bar"):
        with html.Div(classes="review-bar", style=f"background: linear-gradient(to right, {gradient});"):
            html.Div(
                classes="review-threshold", v_show=(f"{threshold} > 0 && {threshold} <= 100",),
                style=(f"`left: ${{{threshold}}}%`",), title="only the CT is visible below",
            )  # fmt: skip
        with html.Div(classes="d-flex justify-space-between review-small"):
            for fraction in (0, 0.25, 0.5, 0.75, 1):
                html.Span(f"{{{{ +(window_suv[0] + (window_suv[1] - window_suv[0]) * {fraction}).toFixed(1) }}}}")
        html.Div("SUV, body weight", classes="review-small text-center")


def _about(review: ReviewData) -> None:
    metadata = review.metadata
    quality = BASELINE_RESULTS.get(review.model.baseline_result, review.model.baseline_result)
    with html.Div(classes="px-4 review-small"):
        v3.VDivider(classes="mb-2")
        html.P(SEEN_IN_TRAINING[metadata.seen_in_training], classes="mb-2")
        if quality:
            html.P(f"{escape(metadata.model)} is {escape(quality)}.", title=metadata.baseline_summary, classes="mb-2")
        html.P(escape(metadata.notice), classes="mb-2")
        html.P("Mouse: scroll to change slices, right-drag to zoom, middle-drag to pan.", classes="mb-2")
        html.P(SUBTITLE, id="subtitle")


_SLIDER_STYLE = {"hide_details": True, "density": "compact", "thumb_size": 16, "color": "#ffd93b", "classes": "mb-3"}
