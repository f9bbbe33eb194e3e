"""Which version of the model draws: the one that is served, unless the user chooses another.

It is no parameter of the scene: a number means nothing on another server, and a scene that is opened again must not
draw with what is not served before somebody has chosen that. What drew a PET stands in its node's attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from CT2PETLib.client.schemas import Model
from CT2PETLib.client.training import Version, Versions
from CT2PETLib.panel.qt_helpers import get_property


class VersionSelector:
    """The box that names the versions of the chosen model; its first entry is the one that is served."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._all: tuple[Versions, ...] = ()
        self._model = ""
        self._offered: tuple[Version, ...] = ()

    def know(self, versions: Sequence[Versions]) -> None:
        """Take what the server tells of every model's versions; `show` offers them."""
        self._all = tuple(versions)

    def show(self, model: Model | None) -> None:
        """Offer the versions of a model; the one that was chosen stays chosen while the model is the same."""
        name = "" if model is None else model.name
        chosen = self.number if name == self._model else None
        self._model = name
        self._offered = next((of.versions for of in self._all if of.model == name), ())
        words = [served_label(model), *(version_label(version) for version in self._offered)]
        if [self._box.itemText(index) for index in range(get_property(self._box, "count"))] == words:
            return
        numbers = [None, *(version.number for version in self._offered)]
        self._box.blockSignals(True)  # filling is no choice of the user's
        self._box.clear()
        for word in words:
            self._box.addItem(word)
        self._box.setCurrentIndex(numbers.index(chosen) if chosen in numbers else 0)
        self._box.blockSignals(False)

    @property
    def version(self) -> Version | None:
        """The version that was chosen; None for the one that is served, whichever that is."""
        row = int(get_property(self._box, "currentIndex")) - 1
        return self._offered[row] if 0 <= row < len(self._offered) else None

    @property
    def number(self) -> int | None:
        """Its number; None for the one that is served."""
        return None if self.version is None else self.version.number


def served_label(model: Model | None) -> str:
    """Return what the first entry says."""
    if model is None or not model.trained:
        return "the one served (none yet)"
    return f"the one served (version {model.version})" if model.version else "the one served"


def version_label(version: Version) -> str:
    """Return what an entry says: number, day, and how many patients it has learnt from."""
    parts = [f"version {version.number}", version.kept[:10]]
    if version.patients:
        parts.append(f"{version.patients} patients")
    if version.served:
        parts.append("served now")
    return ", ".join(filter(None, parts))
