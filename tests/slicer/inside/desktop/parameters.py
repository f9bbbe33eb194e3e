"""A stand-in for slicer.parameterNodeWrapper, as strict as the real one about which widget a type may have."""

from __future__ import annotations

import enum
import typing
from dataclasses import dataclass
from typing import Any

from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox, QWidget

from desktop.widgets import ctkRangeWidget, ctkSliderWidget, qMRMLNodeComboBox


@dataclass(frozen=True)
class FloatRange:
    minimum: float
    maximum: float


@dataclass(frozen=True)
class _One:
    value: float


class Minimum(_One): ...


class Maximum(_One): ...


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float


class RangeBounds(WithinRange): ...


def parameterNodeWrapper(of: type) -> type:
    """Give a class of annotations the behaviour of a parameter node."""
    hints = typing.get_type_hints(of, include_extras=True)
    defaults = {name: getattr(of, name, None) for name in hints}

    class Wrapped:
        """Choices, kept for one module node."""

        __doc__ = of.__doc__

        def __init__(self, node: Any) -> None:
            object.__setattr__(self, "parameterNode", node)
            object.__setattr__(self, "_kept", dict(defaults))
            object.__setattr__(self, "_connectors", {})

        def __getattr__(self, name: str) -> Any:
            if name in hints:
                value = self._kept[name]
                return None if _is_gone(value) else value
            return getattr(self.parameterNode, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in hints:
                raise AttributeError(f"{name} is no parameter")
            _check(name, hints[name], value)
            if self._kept[name] == value:
                return
            self._kept[name] = value
            if name in self._connectors:
                self._connectors[name].write(value)
            self.parameterNode.Modified()

        def connectParametersToGui(self, mapping: dict[str, QWidget]) -> int:
            for name, widget in mapping.items():
                connector = _Connector(widget, hints[name])
                self._connectors[name] = connector
                connector.write(getattr(self, name))
                connector.changed.connect(lambda *_, n=name, c=connector: setattr(self, n, c.read()))
            return 1

        def disconnectGui(self, tag: int) -> None:
            self._connectors.clear()

    Wrapped.__name__ = of.__name__
    return Wrapped


def _is_gone(value: Any) -> bool:
    return hasattr(value, "GetScene") and value.GetScene() is None


def _check(name: str, hint: Any, value: Any) -> None:
    for rule in getattr(hint, "__metadata__", ()):
        low, high = getattr(rule, "minimum", None), getattr(rule, "maximum", None)
        numbers = (value.minimum, value.maximum) if isinstance(value, FloatRange) else (value,)
        if isinstance(rule, WithinRange) and not all(low <= number <= high for number in numbers):
            raise ValueError(f"{name}: {value} is not within {low} and {high}")


class _Connector:
    """Reads and writes one widget."""

    def __init__(self, widget: QWidget, hint: Any) -> None:
        plain = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        kinds: list[tuple[bool, type, str]] = [
            (plain is bool, QCheckBox, "toggled"), (plain is int, QSpinBox, "valueChanged"),
            (plain is float, ctkSliderWidget, "valueChanged"), (plain is FloatRange, ctkRangeWidget, "valuesChanged"),
            (plain is str, QLineEdit, "textChanged"),
            (isinstance(plain, type) and issubclass(plain, enum.Enum), QComboBox, "currentIndexChanged"),
            (_is_node(plain), qMRMLNodeComboBox, "currentNodeChanged"),
        ]  # fmt: skip
        fitting = [signal for fits, kind, signal in kinds if fits and type(widget) is kind]
        if not fitting:
            raise RuntimeError(f"Unable to create GUI connector from datatype '{hint}' to widget type '{type(widget)}'")
        self.widget, self.plain = widget, plain
        self.changed = getattr(widget, fitting[0])
        for rule in getattr(hint, "__metadata__", ()):
            if isinstance(rule, WithinRange) and plain in (int, float):
                widget.setProperty("minimum", rule.minimum)
                widget.setProperty("maximum", rule.maximum)
        if isinstance(widget, QComboBox):
            widget.clear()
            widget.addItems([member.label() for member in plain])

    def read(self) -> Any:
        widget: Any = self.widget
        if isinstance(widget, QComboBox):
            return list(self.plain)[widget.currentIndex()]
        if isinstance(widget, ctkRangeWidget):
            return FloatRange(widget.minimumValue, widget.maximumValue)
        if isinstance(widget, ctkSliderWidget):
            return widget.value
        if isinstance(widget, qMRMLNodeComboBox):
            return widget.currentNode()
        return (
            widget.isChecked()
            if isinstance(widget, QCheckBox)
            else widget.value()
            if isinstance(widget, QSpinBox)
            else widget.text()
        )

    def write(self, value: Any) -> None:
        widget: Any = self.widget
        if isinstance(widget, QComboBox):
            widget.setCurrentIndex(list(self.plain).index(value))
        elif isinstance(widget, ctkRangeWidget):
            widget.setValues(value.minimum, value.maximum)
        elif isinstance(widget, qMRMLNodeComboBox):
            widget.setCurrentNode(value)
        elif isinstance(widget, QCheckBox):
            widget.setChecked(value)
        elif isinstance(widget, QLineEdit):
            widget.setText(value)
        else:
            widget.setValue(value)


def _is_node(plain: Any) -> bool:
    members = typing.get_args(plain) or (plain,)
    if len(members) > 1 and type(None) not in members:
        return False  # the real one takes a union of nodes with None only
    nodes = [member for member in members if member is not type(None)]
    return all(isinstance(member, type) and member.__name__.startswith("vtkMRML") for member in nodes)
