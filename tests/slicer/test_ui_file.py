"""CT2PET.ui as XML: unique names, the scene reaches every node box, parameters are the parameter class's."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MODULE = REPOSITORY / "slicer" / "CT2PET"
UI = MODULE / "Resources" / "UI" / "CT2PET.ui"
LIBRARY = MODULE / "CT2PETLib"
# which type a widget can show, as Slicer's own connectors decide (parameterNodeWrapper/guiConnectors.py)
CAN_SHOW = {
    "QCheckBox": {"bool"}, "QSpinBox": {"int"}, "ctkSliderWidget": {"float"}, "ctkRangeWidget": {"FloatRange"},
    "QComboBox": {"Colour"}, "qMRMLNodeComboBox": {"vtkMRMLScalarVolumeNode", "Union"},
}  # fmt: skip


@pytest.fixture(scope="module")
def root() -> ET.Element:
    return ET.parse(UI).getroot()


def widgets(root: ET.Element) -> list[ET.Element]:
    return list(root.iter("widget"))


def parameter_of(widget: ET.Element) -> str | None:
    found = [p for p in widget.findall("property") if p.get("name") == "SlicerParameterName"]
    return found[0].findtext("string") if found else None


def parameters() -> dict[str, str]:
    """The parameter class's names and types; Slicer's wrapper is not there to be imported."""
    tree = ast.parse((LIBRARY / "scene" / "parameters.py").read_text())
    of = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "CT2PETParameters")
    types = {}
    for node in of.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = node.annotation
            if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
                annotation = annotation.slice.elts[0]  # type: ignore[attr-defined]
            types[node.target.id] = ast.unparse(annotation).split("[")[0]
    return types


def test_names_are_unique(root: ET.Element) -> None:
    names = [element.get("name") for element in root.iter() if element.tag in ("widget", "layout", "spacer", "action")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_top_widget_takes_the_scene(root: ET.Element) -> None:
    top = root.find("widget")
    assert top is not None
    assert (top.get("class"), top.get("name")) == ("qMRMLWidget", "CT2PET")


def test_scene_is_connected_to_every_node_box(root: ET.Element) -> None:
    boxes = {widget.get("name") for widget in widgets(root) if str(widget.get("class")).startswith("qMRMLNode")}
    connected = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("sender") == "CT2PET"
        and connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert boxes
    assert connected == boxes


def test_every_parameter_has_one_widget(root: ET.Element) -> None:
    named = [name for widget in widgets(root) if (name := parameter_of(widget))]
    assert sorted(named) == sorted(parameters())


def test_every_parameter_has_a_widget_that_can_show_it(root: ET.Element) -> None:
    types = parameters()
    for widget in widgets(root):
        name = parameter_of(widget)
        if name:
            assert types[name] in CAN_SHOW[str(widget.get("class"))], name


def test_union_of_nodes_includes_none() -> None:
    unions = re.findall(r": Union\[(.*?)\]", (LIBRARY / "scene" / "parameters.py").read_text())
    assert unions
    assert all(union.split(", ")[-1] == "None" for union in unions)


def test_custom_widgets_are_declared(root: ET.Element) -> None:
    used = {str(widget.get("class")) for widget in widgets(root) if not str(widget.get("class")).startswith("Q")}
    declared = {custom.findtext("class") for custom in root.iter("customwidget")}
    assert used == declared


def test_widgets_in_the_code_exist(root: ET.Element) -> None:
    there = {widget.get("name") for widget in widgets(root)}
    named = {name for path in LIBRARY.rglob("*.py") for name in re.findall(r"\bui\.(\w+)", path.read_text())}
    assert named
    assert named <= there, named - there


def test_controls_have_tooltips(root: ET.Element) -> None:
    for widget in widgets(root):
        if widget.get("class") in (
            "QPushButton",
            "QCheckBox",
            "qMRMLNodeComboBox",
            "ctkSliderWidget",
            "ctkRangeWidget",
        ):
            tips = [p.findtext("string") for p in widget.findall("property") if p.get("name") == "toolTip"]
            assert tips, widget.get("name")
            assert len(str(tips[0])) > 15, widget.get("name")


def test_panel_has_the_warning() -> None:
    assert "never use it for diagnosis" in Path(UI).read_text()
