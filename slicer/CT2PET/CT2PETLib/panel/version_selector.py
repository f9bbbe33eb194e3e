"""Selection of the model version: the served one, unless the user selects another.

The selection is not a parameter of the scene: a version number is meaningless on another server, and a reopened scene
must not use another version than the served one without a decision of the user. The version that predicted a PET is
in the attributes of its node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from CT2PETLib.client.schemas import Model
from CT2PETLib.client.training import Version, Versions
from CT2PETLib.i18n import _
from CT2PETLib.panel.qt_helpers import get_property


class VersionSelector:
    """Combo box with the versions of the selected model; its first item is the served one."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._all: tuple[Versions, ...] = ()
        self._model = ""
        self._offered: tuple[Version, ...] = ()

    def set_versions(self, versions: Sequence[Versions]) -> None:
        """Set the versions of all models; `update` shows them."""
        self._all = tuple(versions)

    def update(self, model: Model | None) -> None:
        """Offer the versions of a model; the selection is kept while the model is the same."""
        name = "" if model is None else model.name
        selected = self.number if name == self._model else None
        self._model = name
        self._offered = next((of.versions for of in self._all if of.model == name), ())
        labels = [served_label(model), *(version_label(version) for version in self._offered)]
        if [self._box.itemText(index) for index in range(get_property(self._box, "count"))] == labels:
            return
        numbers = [None, *(version.number for version in self._offered)]
        self._box.blockSignals(True)  # updating the items is not a selection by the user
        self._box.clear()
        for label in labels:
            self._box.addItem(label)
        self._box.setCurrentIndex(numbers.index(selected) if selected in numbers else 0)
        self._box.blockSignals(False)

    @property
    def version(self) -> Version | None:
        """The selected version; None for the served one."""
        row = int(get_property(self._box, "currentIndex")) - 1
        return self._offered[row] if 0 <= row < len(self._offered) else None

    @property
    def number(self) -> int | None:
        """Number of the selected version; None for the served one."""
        return None if self.version is None else self.version.number


def served_label(model: Model | None) -> str:
    """Return the label of the first item."""
    if model is None or not model.trained:
        return _("served version (none yet)")
    return _("served version ({version})").format(version=model.version) if model.version else _("served version")


def version_label(version: Version) -> str:
    """Return the label of a version: number, date, and number of training patients."""
    parts = [_("version {number}").format(number=version.number), version.kept[:10]]
    if version.patients:
        parts.append(_("{patients} patients").format(patients=version.patients))
    if version.served:
        parts.append(_("served"))
    return ", ".join(filter(None, parts))
