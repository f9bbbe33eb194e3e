"""Tables and charts of the scene, created once and updated afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import vtk

import slicer
from CT2PETLib.client.training import CurvePoint

# title, table, column of x, column of y, "points" or "line"
Series = tuple[str, Any, str, str, str]
# Of Okabe and Ito's palette, safe for the colour-blind: vermilion, grey, blue, bluish green
COLOURS = ((0.84, 0.37, 0.0), (0.35, 0.35, 0.35), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45))


def get_or_add_node(scene: Any, class_name: str, name: str) -> Any:
    """Return the scene's node of a class and name; add it if there is none."""
    found = scene.GetNodesByClassByName(class_name, name)
    found.UnRegister(None)
    return found.GetItemAsObject(0) or scene.AddNewNodeByClass(class_name, name)


def fill_table(node: Any, columns: dict[str, Sequence[Any]]) -> Any:
    """Replace the columns of a table node, and return it. Text columns stay text, numbers become double."""
    changing = node.StartModify()
    node.RemoveAllColumns()
    for name, values in columns.items():
        array = vtk.vtkStringArray() if values and isinstance(values[0], str) else vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(value if isinstance(value, str) else float(value))
        node.AddColumn(array)
    node.EndModify(changing)
    return node


def make_chart(scene: Any, title: str, series: list[Series], *, x: str, y: str) -> Any:
    """Return the chart of a title with the given series; add it if there is none."""
    chart = get_or_add_node(scene, "vtkMRMLPlotChartNode", title)
    chart.RemoveAllPlotSeriesNodeIDs()
    for number, (name, table, x_column, y_column, kind) in enumerate(series):
        node = get_or_add_node(scene, "vtkMRMLPlotSeriesNode", f"CT2PET {name}")
        node.SetAndObserveTableNodeID(table.GetID())
        node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        node.SetXColumnName(x_column)
        node.SetYColumnName(y_column)
        node.SetColor(*COLOURS[number % len(COLOURS)])
        points = kind == "points"
        node.SetLineStyle(
            slicer.vtkMRMLPlotSeriesNode.LineStyleNone if points else slicer.vtkMRMLPlotSeriesNode.LineStyleSolid
        )
        node.SetMarkerStyle(
            slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle if points else slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        )
        node.SetMarkerSize(3.0)
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
    chart.SetTitle(title)
    chart.SetXAxisTitle(x)
    chart.SetYAxisTitle(y)
    return chart


def show_chart(scene: Any, chart: Any) -> None:
    """Show a chart in every plot view of the scene."""
    views = scene.GetNodesByClass("vtkMRMLPlotViewNode")
    views.UnRegister(None)
    for index in range(views.GetNumberOfItems()):
        views.GetItemAsObject(index).SetPlotChartNodeID(chart.GetID())


def training_chart(scene: Any, curve: Sequence[CurvePoint], *, metric: str) -> Any:
    """Return the chart of a training: the loss by epoch, and the validation metric of a name where it is known."""
    series: list[Series] = []
    for name, points in (
        ("training loss", [(point.epoch, point.loss) for point in curve if point.loss is not None]),
        (f"validation {metric}", [(point.epoch, point.metric) for point in curve if point.metric is not None]),
    ):
        if points:
            table = get_or_add_node(scene, "vtkMRMLTableNode", f"CT2PET {name}")
            fill_table(table, {"epoch": [epoch for epoch, _ in points], "value": [value for _, value in points]})
            series.append((name, table, "epoch", "value", "line"))
    return make_chart(scene, "CT2PET training", series, x="epoch", y="")
