"""The web page: three slice views rendered by Slicer's libraries on this computer, and sliders (trame-slicer)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web
from CT2PETLib.scene import display, layouts
from trame.app import get_server
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, SliceView, ViewLayoutDefinition
from vtkmodules.vtkCommonCore import vtkObject

from scripts.review_page import scene
from scripts.review_page.controls import add_view_overlay, build
from scripts.review_page.server_data import ReviewData

LAYOUT = "three planes"
SYNTHETIC, MEASURED = "synthetic", "measured"
QUALITY = 90  # PNG is lossless at any quality; a still image of another quality would be rendered in addition
MAX_THRESHOLD_SUV = 30.0
ALL_INTERFACES = ("0.0.0.0", "")


class ReviewPage:
    """A page of one CT and its synthetic PET."""

    def __init__(self, review: ReviewData, *, host: str, port: int) -> None:
        """Build scene and page; `serve` serves it.

        Args:
            review: Data to show.
            host, port: Address to serve the page at.
        """
        self._key = secrets.token_urlsafe(24)
        # without it trame parses the command line of scripts/review
        os.environ["TRAME_ARGS"] = f"--server --host {host} --port {port} --authKey={self._key}"
        self._host, self._port = host, port
        self._server = get_server("ct2pet-review", client_type="vue3")
        vtkObject.GlobalWarningDisplayOff()  # VTK warns about the missing screen while it creates windows
        self._app = SlicerApp()
        self._nodes = scene.add_volumes(self._app.scene, review)
        register_rca_factories(
            self._app.view_manager,
            self._server,
            slice_view_ui_f=add_view_overlay,
            rca_encoder="png",
            interactive_quality=QUALITY,
        )
        layout_manager = LayoutManager(self._app.scene, self._app.view_manager, self._server)
        self._set_state(review)
        layout_manager.register_layout(LAYOUT, _layout(side_by_side=scene.is_tall(self._nodes.ct)))
        layout_manager.set_layout(LAYOUT)
        scene.apply_display(self._app.scene, self._nodes, scene.DisplaySettings())
        colours = scene.colours(self._app.scene)
        build(self._server, review, layout_manager, colours=colours, fit=self._fit)
        self._server.state.change("opacity", "window_suv", "threshold_suv", "foreground")(self._update_display)
        self._update_display()
        for view in self._views():
            view.reset_view()  # to the middle slice
            # the size of a view is known only once a browser shows it; then trame invokes this event
            view.interactor().AddObserver("WindowResizeEvent", lambda *_, view=view: _fit(view))
        vtkObject.GlobalWarningDisplayOn()
        self._server.controller.on_server_bind.add(_add_session_route)

    def serve(self, on_ready: Callable[[str], None], *, task: Callable[[str], None] | None = None) -> None:
        """Serve the page until the program is stopped.

        Args:
            on_ready: Called with the URL once the page is served.
            task: Called with the URL in another thread; when it returns, serving ends.
        """
        failures: list[BaseException] = []

        async def run(task: Callable[[str], None], url: str) -> None:
            try:
                await asyncio.get_running_loop().run_in_executor(None, task, url)
            except Exception as error:
                failures.append(error)
            await self._server.stop()

        def on_server_ready(**_: Any) -> None:
            name = socket.gethostname() if self._host in ALL_INTERFACES else self._host
            url = f"http://{name}:{self._server.port}/?secret={self._key}"
            on_ready(url)
            if task is not None:
                self._task = asyncio.get_running_loop().create_task(run(task, url))

        self._server.controller.on_server_ready.add(on_server_ready)
        with contextlib.suppress(asyncio.CancelledError):
            self._server.start(open_browser=False, show_connection_info=False, timeout=0, disable_logging=True)
        if failures:
            raise failures[0]

    def _views(self) -> list[SliceView]:
        return self._app.view_manager.get_slice_views()

    def _set_state(self, review: ReviewData) -> None:
        state, settings = self._server.state, scene.DisplaySettings()
        state.trame__title = f"SYNTHETIC PET of {review.study.image_id}"
        state.opacity = settings.opacity
        state.window_suv = list(settings.window_suv)
        state.threshold_suv = settings.threshold_suv
        state.foreground = SYNTHETIC
        state.labels = dict.fromkeys(layouts.FUSED_VIEWS, "")

    def _update_display(self, **_: Any) -> None:
        """Apply the sliders to the scene."""
        state = self._server.state
        low, high = sorted(float(end) for end in state.window_suv)
        settings = scene.DisplaySettings(
            opacity=min(1.0, max(0.0, float(state.opacity))),
            window_suv=(low, max(high, low + 0.1)),
            threshold_suv=min(MAX_THRESHOLD_SUV, max(0.0, float(state.threshold_suv))),
            measured=state.foreground == MEASURED,
        )
        scene.apply_display(self._app.scene, self._nodes, settings)
        labels = {}
        for view in self._views():
            tag = view.get_singleton_tag()
            labels[tag] = scene.view_label(self._app.scene, tag, self._nodes, settings)
            display.annotate(view.first_renderer(), labels[tag])
            view.schedule_render()
        state.labels = labels

    def _fit(self) -> None:
        """Fit the whole CT into every view."""
        for view in self._views():
            _fit(view)


def _fit(view: SliceView) -> None:
    """Fit the whole CT into a view without changing its slice."""
    position = view.get_slice_value()
    view.fit_view_to_content()
    view.set_slice_value(position)
    view.schedule_render()


def _layout(*, side_by_side: bool) -> Layout:
    """Return three views in a row, or a large axial one to the left of the two others."""
    axial = ViewLayoutDefinition.axial_view()
    others = [ViewLayoutDefinition.coronal_view(), ViewLayoutDefinition.sagittal_view()]
    if side_by_side:
        return Layout(LayoutDirection.Horizontal, [axial, *others])
    return Layout(LayoutDirection.Horizontal, [axial, Layout(LayoutDirection.Vertical, others)])


def _add_session_route(wslink_server: Any) -> None:
    """Add the route that returns the WebSocket's URL; without it the page logs an error to its console."""

    async def session(_: web.Request) -> web.Response:
        return web.json_response({"sessionURL": "ws://USE_HOST/ws"})

    wslink_server.app.router.add_post("/paraview/", session)
