"""Check that VTK can render off screen here, in a child process because VTK may crash where it cannot."""

from __future__ import annotations

import subprocess
import sys

# An off-screen window with a red background: reading a red pixel back proves that rendering works
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
PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libx11-6"  # of Debian; Mesa needs no graphics card
PROBE_TIMEOUT_S = 120.0


def start_probe() -> subprocess.Popen[bytes]:
    """Start the check in the background; `rendering_error` waits for its result."""
    return subprocess.Popen(
        [sys.executable, "-c", PROBE], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def rendering_error(probe: subprocess.Popen[bytes]) -> str:
    """Return why VTK cannot render on this computer and what to install; empty if it can."""
    try:
        code = probe.wait(timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        probe.kill()
        code = -1
    if code == 0:
        return ""
    return (
        "This computer cannot render images without a screen: VTK finds neither a working EGL nor OSMesa. On Debian: "
        f"apt-get install {PACKAGES}"
    )
