"""What stands around the pictures: title, warning, sliders, colour bar, words about the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from CT2PETLib.card_words import MARKS
from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state

from scripts.review_page.server_data import Review

WARNING = "SYNTHETIC PET - NOT FOR DIAGNOSIS"
LINE = "The libraries of 3D Slicer in a web page; useful where Slicer is not installed."
CHECKSUM_SIGNS = 12
# name, colour as Slicer gives it, and the ends of the axis that the slider runs along
PLANES = {
    "Red": ("Axial", "#F34A33", "I", "S"),
    "Green": ("Coronal", "#6EB04B", "P", "A"),
    "Yellow": ("Sagittal", "#EDD54C", "L", "R"),
}
LEARNT = {
    True: "The model has learnt from this patient: on others it does worse.",
    False: "The model has not learnt from this patient.",
    None: "Whether the model has learnt from this patient is not known.",
}
STYLE = """
html { overflow: hidden; }
.review-warning { background: #ffd93b; color: #1a1a1a; font-weight: 700; letter-spacing: .06em; text-align: center;
  padding: 4px 8px; }
.review-ids { font-size: .8rem; line-height: 1.35; overflow: hidden; text-overflow: ellipsis; }
.review-ids code { font-size: .78rem; opacity: .85; }
.review-bar { height: 16px; border-radius: 2px; position: relative; border: 1px solid #555; }
.review-cut { position: absolute; top: -4px; bottom: -4px; width: 2px; background: #fff; }
.review-small { font-size: .76rem; line-height: 1.4; color: #b8b8b8; }
.review-view { position: absolute; inset: 0; pointer-events: none; }
.review-plane { position: absolute; top: 34px; left: 10px; font-size: .82rem; text-shadow: 0 0 4px #000; }
.review-slice { position: absolute; left: 12px; right: 12px; bottom: 2px; pointer-events: auto; }
.layout-grid-item { position: relative; min-width: 0; }
"""


def build(server: Any, review: Review, planes: Any, *, colours: Sequence[str], fit: Callable[[], None]) -> None:
    """Make the page around the views of a layout manager.

    Args:
        server: Trame's.
        review: Whose ids and words are shown.
        planes: The layout manager.
        colours: Of the PET, from the window's lower end to its upper one, as CSS has them.
        fit: Lets every view show the whole CT.
    """
    with VAppLayout(server) as layout:
        layout.root.theme = "dark"
        client.Style(STYLE)
        _title(review)
        with v3.VNavigationDrawer(permanent=True, width=304):
            _sliders(review)
            _bar(colours)
            with html.Div(classes="px-4 pb-3"):
                v3.VBtn("Show the whole CT", click=fit, size="small", variant="tonal", block=True, id="fit")
            _about(review)
        with v3.VMain(style="height: 100vh;"):
            html.Div(WARNING, classes="review-warning", id="warning")
            with html.Div(style="height: calc(100% - 32px);"):
                planes.initialize_layout_grid(layout)


def over_a_view(server: Any, _: str, view: Any) -> None:
    """Write a plane's name and position over its picture, and a slider below that goes through the slices."""
    tag = view.get_singleton_tag()
    name, colour, low, high = PLANES[tag]
    state = connect_slice_view_slider_to_state(server, view)
    at = state.name.value
    spoken = f""":aria-label="'{name}: ' + words['{tag}']" role="group" """
    with html.Div(classes="review-view", id=f"view-{tag}", raw_attrs=[spoken]):
        html.Div(
            f"{name} &nbsp;{{{{ {at} >= 0 ? '{high}' : '{low}' }}}} {{{{ Math.abs({at}).toFixed(1) }}}} mm",
            classes="review-plane",
            style=f"color: {colour};",
        )
        with html.Div(classes="review-slice"):
            v3.VSlider(
                v_model=(at,), min=(state.name.min_value,), max=(state.name.max_value,), step=(state.name.step,),
                id=f"slice-{tag}", hide_details=True, density="compact", color=colour,
                thumb_size=14, track_size=3,
            )  # fmt: skip


def _title(review: Review) -> None:
    told = review.told
    version = f" version {told.version}" if told.version else ""
    with v3.VAppBar(density="comfortable", flat=True, border=True):
        html.Div("ct2pet review", classes="text-h6 ml-4 mr-6 flex-shrink-0")
        with html.Div(classes="review-ids"):
            with html.Div():
                html.Span("CT&nbsp;")
                html.Code(review.study.image_id, id="ct-uid")
            with html.Div(id="model"):
                html.Span(f"model <b>{escape(told.model)}</b>{escape(version)} &nbsp;")
                html.Code(told.checksum[:CHECKSUM_SIGNS], title=f"checksum {told.checksum}")
                html.Span(f"&nbsp; on {escape(review.server)}")


def _sliders(review: Review) -> None:
    with html.Div(classes="pa-4 pb-0"):
        if review.real is not None:
            with v3.VBtnToggle(
                v_model=("over_the_ct",), mandatory=True, density="compact", divided=True, variant="outlined",
                classes="mb-4 d-flex", id="which",
            ):  # fmt: skip
                v3.VBtn("Synthetic PET", value="synthetic", size="small", classes="flex-grow-1")
                v3.VBtn("Measured PET", value="measured", size="small", classes="flex-grow-1")
        html.Div("Opacity of the PET: {{ Math.round(opacity * 100) }} %", classes="text-body-2")
        v3.VSlider(v_model=("opacity",), min=0, max=1, step=0.05, id="opacity", **_SLIM)
        html.Div("Window: {{ window_suv[0] }} to {{ window_suv[1] }} SUV", classes="text-body-2")
        v3.VRangeSlider(v_model=("window_suv",), min=0, max=20, step=0.5, strict=True, id="window", **_SLIM)
        html.Div("CT alone below {{ threshold_suv }} SUV", classes="text-body-2")
        v3.VSlider(v_model=("threshold_suv",), min=0, max=5, step=0.1, id="threshold", **_SLIM)


def _bar(colours: Sequence[str]) -> None:
    gradient = ", ".join(colours)
    cut = "(threshold_suv - window_suv[0]) / (window_suv[1] - window_suv[0]) * 100"
    with html.Div(classes="px-4 pb-2", id="bar"):
        with html.Div(classes="review-bar", style=f"background: linear-gradient(to right, {gradient});"):
            html.Div(
                classes="review-cut", v_show=(f"{cut} > 0 && {cut} <= 100",), style=(f"`left: ${{{cut}}}%`",),
                title="below it the CT alone is seen",
            )  # fmt: skip
        with html.Div(classes="d-flex justify-space-between review-small"):
            for share in (0, 0.25, 0.5, 0.75, 1):
                html.Span(f"{{{{ +(window_suv[0] + (window_suv[1] - window_suv[0]) * {share}).toFixed(1) }}}}")
        html.Div("SUV, body weight", classes="review-small text-center")


def _about(review: Review) -> None:
    told = review.told
    judged = MARKS.get(review.model.mark, review.model.mark)
    with html.Div(classes="px-4 review-small"):
        v3.VDivider(classes="mb-2")
        html.P(LEARNT[told.seen_in_training], classes="mb-2")
        if judged:
            html.P(f"{escape(told.model)} is {escape(judged)}.", title=told.standing, classes="mb-2")
        html.P(escape(told.notice), classes="mb-2")
        html.P("Mouse: wheel through the slices, right button zooms, middle button moves.", classes="mb-2")
        html.P(LINE, id="line")


_SLIM = {"hide_details": True, "density": "compact", "thumb_size": 16, "color": "#ffd93b", "classes": "mb-3"}
