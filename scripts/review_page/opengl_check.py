"""Whether pictures can be drawn here at all: asked of a process of its own, which may crash where they cannot."""

from __future__ import annotations

import subprocess
import sys

# A window off the screen with a red background: that one red pixel comes back is the proof. EGL first, as VTK tries it
PROBE = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkCommonCore import vtkUnsignedCharArray
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window, renderer, pixels = vtkRenderWindow(), vtkRenderer(), vtkUnsignedCharArray()
renderer.SetBackground(1, 0, 0)
window.SetOffScreenRendering(1)
window.SetSize(8, 8)
window.AddRenderer(renderer)
window.Render()
window.GetPixelData(0, 0, 7, 7, 0, pixels, 0)
raise SystemExit(0 if pixels.GetNumberOfValues() and pixels.GetValue(0) == 255 else 3)
"""
PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libx11-6"  # of Debian; Mesa draws without a graphics card
WITHIN_S = 120.0


def start_probe() -> subprocess.Popen[bytes]:
    """Start to find out, beside what else is done; `why_no_pictures` waits for the answer."""
    return subprocess.Popen(
        [sys.executable, "-c", PROBE], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def why_no_pictures(probe: subprocess.Popen[bytes]) -> str:
    """Return why no pictures can be drawn on this machine, with the way out; empty where they can."""
    try:
        code = probe.wait(timeout=WITHIN_S)
    except subprocess.TimeoutExpired:
        probe.kill()
        code = -1
    if code == 0:
        return ""
    return (
        "This machine cannot draw pictures without a screen: VTK finds neither EGL nor OSMesa that works. On Debian: "
        f"apt-get install {PACKAGES}"
    )
