"""The web page: three planes drawn by Slicer's libraries on this machine, sliders beside them (trame-slicer)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web
from CT2PETLib import display, layouts
from trame.app import get_server
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, SliceView, ViewLayoutDefinition
from vtkmodules.vtkCommonCore import vtkObject

from scripts.review_page import scene
from scripts.review_page.server_data import Review
from scripts.review_page.controls import build, over_a_view

LAYOUT = "three planes"
SYNTHETIC, MEASURED = "synthetic", "measured"
QUALITY = 90  # PNG keeps every pixel, whatever it is; equal ones let trame draw a view once rather than twice
MOST_SUV = 30.0
EVERYWHERE = ("0.0.0.0", "")


class ReviewPage:
    """A page of one CT and its synthetic PET."""

    def __init__(self, review: Review, *, host: str, port: int) -> None:
        """Make scene and page; nothing is served yet.

        Args:
            review: What is shown.
            host, port: Where it will be served.
        """
        self._key = secrets.token_urlsafe(24)
        # trame reads the command line of the program, which is ours
        os.environ["TRAME_ARGS"] = f"--server --host {host} --port {port} --authKey={self._key}"
        self._host, self._port = host, port
        self._server = get_server("ct2pet-review", client_type="vue3")
        vtkObject.GlobalWarningDisplayOff()  # while windows are made, VTK complains that there is no screen
        self._app = SlicerApp()
        self._shown = scene.fill(self._app.scene, review)
        register_rca_factories(
            self._app.view_manager,
            self._server,
            slice_view_ui_f=over_a_view,
            rca_encoder="png",
            interactive_quality=QUALITY,
        )
        planes = LayoutManager(self._app.scene, self._app.view_manager, self._server)
        self._set_state(review)
        planes.register_layout(LAYOUT, _arranged(side_by_side=scene.is_tall(self._shown.ct)))
        planes.set_layout(LAYOUT)
        scene.apply(self._app.scene, self._shown, scene.Look())
        colours = scene.colours(self._app.scene)
        build(self._server, review, planes, colours=colours, fit=self._fit)
        self._server.state.change("opacity", "window_suv", "threshold_suv", "over_the_ct")(self._restyle)
        self._restyle()
        for view in self._views():
            view.reset_view()  # at the middle
            # the size of a view is known only once a browser shows it; trame tells of it by this event
            view.interactor().AddObserver("WindowResizeEvent", lambda *_, of=view: _fit(of))
        vtkObject.GlobalWarningDisplayOn()
        self._server.controller.on_server_bind.add(_greet)

    def serve(self, ready: Callable[[str], None], *, meanwhile: Callable[[str], None] | None = None) -> None:
        """Serve the page until the program is stopped.

        Args:
            ready: Told the page's address once it answers.
            meanwhile: Done in another thread once it answers; then serving ends.
        """
        failures: list[BaseException] = []

        async def work(url: str) -> None:
            """Do it, and end."""
            try:
                await asyncio.get_running_loop().run_in_executor(None, meanwhile, url)
            except Exception as error:
                failures.append(error)
            await self._server.stop()

        def on_ready(**_: Any) -> None:
            """Tell the address."""
            name = socket.gethostname() if self._host in EVERYWHERE else self._host
            url = f"http://{name}:{self._server.port}/?secret={self._key}"
            ready(url)
            if meanwhile is not None:
                self._work = asyncio.get_running_loop().create_task(work(url))

        self._server.controller.on_server_ready.add(on_ready)
        with contextlib.suppress(asyncio.CancelledError):
            self._server.start(open_browser=False, show_connection_info=False, timeout=0, disable_logging=True)
        if failures:
            raise failures[0]

    def _views(self) -> list[SliceView]:
        return self._app.view_manager.get_slice_views()

    def _set_state(self, review: Review) -> None:
        state, look = self._server.state, scene.Look()
        state.trame__title = f"SYNTHETIC PET of {review.study.image_id}"
        state.opacity = look.opacity
        state.window_suv = list(look.window_suv)
        state.threshold_suv = look.threshold_suv
        state.over_the_ct = SYNTHETIC
        state.words = dict.fromkeys(layouts.FUSED_VIEWS, "")

    def _restyle(self, **_: Any) -> None:
        """Show the scene as the sliders say."""
        state = self._server.state
        low, high = sorted(float(end) for end in state.window_suv)
        look = scene.Look(
            opacity=min(1.0, max(0.0, float(state.opacity))),
            window_suv=(low, max(high, low + 0.1)),
            threshold_suv=min(MOST_SUV, max(0.0, float(state.threshold_suv))),
            measured=state.over_the_ct == MEASURED,
        )
        scene.apply(self._app.scene, self._shown, look)
        told = {}
        for view in self._views():
            tag = view.get_singleton_tag()
            told[tag] = scene.words(self._app.scene, tag, self._shown, look)
            display.mark(view.first_renderer(), told[tag])
            view.schedule_render()
        state.words = told

    def _fit(self) -> None:
        """Let every view show the whole CT."""
        for view in self._views():
            _fit(view)


def _fit(view: SliceView) -> None:
    """Let a view show the whole CT, at the slice it shows."""
    at = view.get_slice_value()
    view.fit_view_to_content()
    view.set_slice_value(at)
    view.schedule_render()


def _arranged(*, side_by_side: bool) -> Layout:
    """Return three planes in a row, or the axial one large and the others, one above the other, beside it."""
    axial = ViewLayoutDefinition.axial_view()
    others = [ViewLayoutDefinition.coronal_view(), ViewLayoutDefinition.sagittal_view()]
    if side_by_side:
        return Layout(LayoutDirection.Horizontal, [axial, *others])
    return Layout(LayoutDirection.Horizontal, [axial, Layout(LayoutDirection.Vertical, others)])


def _greet(wslink_server: Any) -> None:
    """Tell the page where to connect; it asks, and without an answer its console would complain."""

    async def answer(_: web.Request) -> web.Response:
        """Name the connection of the host that was asked."""
        return web.json_response({"sessionURL": "ws://USE_HOST/ws"})

    wslink_server.app.router.add_post("/paraview/", answer)
