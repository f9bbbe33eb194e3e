"""Widgets in the place of ctk's and MRML's, with the properties, slots and signals that the module and the .ui use."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property, QRect, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPolygon
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QLineEdit, QSlider, QToolButton, QWidget

HEADER_PX = 24


class qMRMLWidget(QWidget):
    """The panel itself."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class ctkCollapsibleButton(QWidget):
    """A section with a header that folds it up."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False

    def _get_text(self) -> str:
        return self._text

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self.fold()

    text = Property(str, _get_text, _set_text)
    collapsed = Property(bool, _get_collapsed, _set_collapsed)

    def fold(self) -> None:
        """Show or hide what is inside; called again when the file has been read."""
        if self.layout() is not None:
            self.layout().setContentsMargins(8, HEADER_PX + 6, 8, 8)
        for child in self.children():
            if isinstance(child, QWidget):
                child.setVisible(not self._collapsed)
        self.setMaximumHeight(HEADER_PX + 2 if self._collapsed else 16777215)

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setPen(QColor("#c4c7c5"))
        painter.drawRect(QRect(0, 0, self.width() - 1, self.height() - 1))
        painter.fillRect(QRect(0, 0, self.width(), HEADER_PX), QColor("#e3e6ea"))
        painter.setPen(QColor("#1f1f1f"))
        painter.setBrush(QColor("#1f1f1f"))
        x, y = 9, HEADER_PX // 2
        arrow = [(0, -4), (0, 4), (5, 0)] if self._collapsed else [(-2, -2), (6, -2), (2, 3)]
        polygon = QPolygon()
        for dx, dy in arrow:
            polygon.append(self.rect().topLeft() + type(self.rect().topLeft())(x + dx, y + dy))
        painter.drawPolygon(polygon)
        font = painter.font()
        font.setBold(True)
        painter.setFont(font)
        painter.drawText(QRect(22, 0, self.width() - 24, HEADER_PX), Qt.AlignmentFlag.AlignVCenter, self._text)


class ctkSliderWidget(QWidget):
    """A slider with a number next to it."""

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.slider, self.box = QSlider(Qt.Orientation.Horizontal), QDoubleSpinBox()
        self.slider.setRange(0, 1000)
        row.addWidget(self.slider)
        row.addWidget(self.box)
        self.box.valueChanged.connect(self._box_changed)
        self.slider.sliderMoved.connect(self._moved)

    def _moved(self, position: int) -> None:
        low, high = self.box.minimum(), self.box.maximum()
        self.box.setValue(low + (high - low) * position / 1000)

    def _box_changed(self, value: float) -> None:
        low, high = self.box.minimum(), self.box.maximum()
        self.slider.setValue(round(1000 * (value - low) / max(1e-9, high - low)))
        self.valueChanged.emit(value)

    def setValue(self, value: float) -> None:
        self.box.setValue(value)

    decimals = Property(int, lambda self: self.box.decimals(), lambda self, v: self.box.setDecimals(v))
    minimum = Property(float, lambda self: self.box.minimum(), lambda self, v: self.box.setMinimum(v))
    maximum = Property(float, lambda self: self.box.maximum(), lambda self, v: self.box.setMaximum(v))
    singleStep = Property(float, lambda self: self.box.singleStep(), lambda self, v: self.box.setSingleStep(v))
    value = Property(float, lambda self: self.box.value(), lambda self, v: self.box.setValue(v))


class _Bar(QWidget):
    """The bar between the two numbers of a range."""

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        self._owner = owner
        self.setMinimumSize(60, 18)

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width, middle = self.width() - 12, self.height() // 2
        painter.fillRect(QRect(6, middle - 2, width, 4), QColor("#c4c7c5"))
        span = max(1e-9, self._owner.low.maximum())
        left, right = (6 + round(width * box.value() / span) for box in (self._owner.low, self._owner.high))
        painter.fillRect(QRect(left, middle - 2, right - left, 4), QColor("#308cc6"))
        painter.setPen(QColor("#6f7376"))
        painter.setBrush(QColor("#ffffff"))
        for x in (left, right):
            painter.drawRoundedRect(QRect(x - 5, middle - 7, 10, 14), 3, 3)


class ctkRangeWidget(QWidget):
    """Two numbers with a bar between them."""

    valuesChanged = Signal(float, float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        bar = _Bar(self)
        for widget in (self.low, bar, self.high):
            row.addWidget(widget, 1 if widget is bar else 0)
        for box in (self.low, self.high):
            box.valueChanged.connect(
                lambda _: (bar.update(), self.valuesChanged.emit(self.low.value(), self.high.value()))
            )

    def setValues(self, low: float, high: float) -> None:
        self.low.setValue(low)
        self.high.setValue(high)

    def _set_maximum(self, value: float) -> None:
        self.low.setMaximum(value)
        self.high.setMaximum(value)

    def _set_decimals(self, decimals: int) -> None:
        self.low.setDecimals(decimals)
        self.high.setDecimals(decimals)

    decimals = Property(int, lambda self: self.low.decimals(), _set_decimals)
    minimum = Property(float, lambda self: self.low.minimum(), lambda self, v: self.low.setMinimum(v))
    maximum = Property(float, lambda self: self.high.maximum(), _set_maximum)
    minimumValue = Property(float, lambda self: self.low.value(), lambda self, v: self.low.setValue(v))
    maximumValue = Property(float, lambda self: self.high.value(), lambda self, v: self.high.setValue(v))


class ctkPathLineEdit(QWidget):
    """A path and a button that chooses it."""

    currentPathChanged = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.line, button = QLineEdit(), QToolButton()
        button.setText("…")
        row.addWidget(self.line)
        row.addWidget(button)
        self.line.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self.line.text(), lambda self, v: self.line.setText(v))


class qMRMLNodeComboBox(QWidget):
    """The nodes of some classes of a scene, and none."""

    currentNodeChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.box = QComboBox()
        self.box.setMinimumWidth(120)
        row.addWidget(self.box)
        self._types: list[str] = []
        self._scene: Any = None
        self._ids: list[Any] = [None]
        self.box.addItem("None")
        self.box.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    nodeTypes = Property("QStringList", lambda self: self._types, lambda self, v: setattr(self, "_types", list(v)))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            scene.AddObserver(event, lambda *_: self.list_nodes())
        self.list_nodes()

    def list_nodes(self) -> None:
        """Offer the nodes that the scene holds now; the chosen one stays chosen."""
        chosen = self._ids[self.box.currentIndex()]
        nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        mine = [node for node in nodes if any(node.IsA(name) for name in self._types) and not node.GetHideFromEditors()]
        self.box.blockSignals(True)
        self._ids = [None, *(node.GetID() for node in mine)]
        self.box.clear()
        self.box.addItems(["None", *(node.GetName() or "" for node in mine)])
        self.box.setCurrentIndex(self._ids.index(chosen) if chosen in self._ids else 0)
        self.box.blockSignals(False)
        if chosen not in self._ids:
            self.currentNodeChanged.emit(None)

    def currentNode(self) -> Any:
        node_id = self._ids[self.box.currentIndex()]
        return self._scene.GetNodeByID(node_id) if node_id is not None and self._scene is not None else None

    def setCurrentNode(self, node: Any) -> None:
        if self._scene is not None:
            self.list_nodes()
        node_id = node.GetID() if node is not None else None
        self.box.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else 0)


STAND_INS = {
    of.__name__: of
    for of in (qMRMLWidget, ctkCollapsibleButton, ctkSliderWidget, ctkRangeWidget, ctkPathLineEdit, qMRMLNodeComboBox)
}
__all__ = ["STAND_INS", "QLabel", *STAND_INS]
