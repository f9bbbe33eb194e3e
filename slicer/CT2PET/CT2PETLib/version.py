"""The version of the panel, and the message for a server of another one."""

from __future__ import annotations

from CT2PETLib.i18n import _

VERSION = "0.1.0"  # of ct2pet; a server of the same version was tested with this panel


def version_note(server_version: str) -> str:
    """Return that panel and server differ in version, and which of them to update; empty where they do not."""
    if server_version == VERSION:
        return ""
    if _numbers(server_version) > _numbers(VERSION):
        advice = _("update the extension CT2PET in Slicer's Extensions Manager.")
    else:
        advice = _("ask the administrator to update the server.")
    difference = _("The panel is version {panel}, the server {server}, so some functions may fail:").format(
        panel=VERSION, server=server_version or _("unknown")
    )
    return f"{difference} {advice}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:3] if number.isdecimal())
