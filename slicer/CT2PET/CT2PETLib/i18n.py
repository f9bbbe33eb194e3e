"""Translation of the texts that a user reads: `_("Send {count} files").format(count=3)`.

Slicer's tools find the texts by the name `_`, and its language packs translate them. The text has to be a literal, so
values are placeholders, never an f-string. Outside of Slicer, as in a script that uses the client, texts stay English.
"""

from __future__ import annotations

try:
    from slicer.i18n import tr as _
except ImportError:

    def _(text: str) -> str:
        """Return the text, as there is no Slicer to translate it."""
        return text


__all__ = ["_"]
