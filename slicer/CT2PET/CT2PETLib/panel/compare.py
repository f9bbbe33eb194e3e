"""Section "Compare": the synthetic PET against a real one, and SUV in segments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.infer_result import Interval, MeasuredRegion, RegionIntervals
from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.i18n import _
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.display import DisplaySection
from CT2PETLib.panel.qt_helpers import format_number, set_rows
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.scene import comparison, metrics, node_attributes
from CT2PETLib.scene.comparison import Comparison
from CT2PETLib.scene.tables import show_chart
from CT2PETLib.scene.views import show_plots
from CT2PETLib.scene.volume import SceneError, declare_suv, is_suv, make_volume_node

PLACES = (  # of the rows of a comparison
    _("In the body, the synthetic PET is {error}."),
    _("Where the real PET is above 2.5 SUV, it is {error}."),  # comparison.HOT_SUV
)
UNUSED_ADDRESS = "127.0.0.1"  # a job needs a client, even for a computation that sends no request


class CompareSection:
    """Compares two PETs in a job, and shows the results."""

    def __init__(self, panel: Panel, ct: CTSection, synthesise: SynthesiseSection, display: DisplaySection) -> None:
        self._panel, self._ct_section, self._synthesise, self._display = panel, ct, synthesise, display
        self._comparison: Comparison | None = None
        self._compared: tuple[Any, ...] = ()  # the compared nodes, synthetic and real
        self._shown: Comparison | None = None  # the comparison in the table
        self._measured: tuple[Any, ...] = ()  # the nodes of the table of segments, synthetic and segmentation
        self._difference: Any = None
        self._busy = False
        ui = panel.ui
        panel.on_signal(ui.loadRealButton, "clicked", self.load_real)
        panel.on_signal(ui.compareButton, "clicked", self.compare)
        panel.on_signal(ui.differenceButton, "clicked", self.show_difference)
        panel.on_signal(ui.scatterButton, "clicked", self.show_scatter)
        panel.on_signal(ui.segmentButton, "clicked", self.segments)

    def load_real(self) -> None:
        """Download the real PET of the selected CT from the server."""
        study, client = self._ct_section.study, self._panel.require_client()
        if study is None or not study.has_real_pet:
            why = f" ({study.why_no_pet})" if study is not None and study.why_no_pet else ""
            raise SceneError(_("The server has no real PET of this CT{why}; load one into the scene.").format(why=why))
        name = _("Real PET of {ct}").format(ct=self._ct_section.ct.GetName())
        self._start(_("Downloading the real PET …"))
        self._panel.runner.submit(
            client,
            lambda job_client: read_nrrd(job_client.real_pet(study.image_id)),
            lambda volume: self._on_real(name, volume),
            on_error=self._on_error,
        )

    def compare(self) -> None:
        """Compute metrics, difference map and scatter plot."""
        parameters = self._panel.parameters
        synthetic, real = parameters.synthetic, parameters.real
        if parameters.real_is_suv and not is_suv(real):
            declare_suv(real)
        ct = synthetic.GetNodeReference(node_attributes.CT_NODE) or parameters.ct
        inputs = comparison.gather(ct=ct, synthetic=synthetic, real=real)
        self._start(_("Comparing …"))
        self._panel.runner.submit(
            self._panel.client or Client(UNUSED_ADDRESS),
            lambda _: _compute(inputs),
            lambda result: self._on_compared(ct, synthetic, real, result),
            on_error=self._on_error,
        )

    def show_difference(self) -> None:
        """Show synthetic minus real SUV over the CT."""
        self._display.over_ct(self._difference)

    def show_scatter(self) -> None:
        """Show the scatter plot in a plot view."""
        if self._comparison is not None:
            show_plots()
            show_chart(self._panel.scene, comparison.show_scatter(self._panel.scene, self._comparison))

    def segments(self) -> None:
        """Show SUVmax and SUVmean in each segment."""
        parameters = self._panel.parameters
        real = self._comparison.real_suv if self._comparison is not None and self._is_current() else None
        rows = comparison.segment_uptakes(parameters.segmentation, synthetic=parameters.synthetic, real_suv=real)
        comparison.show_uptakes(self._panel.scene, rows)
        self._measured = (parameters.synthetic, parameters.segmentation)
        set_rows(self._panel.ui.uptakeTable, [_uptake_row(row) for row in rows])
        self._panel.show_message("" if real is not None else _("Press Compare first to include the real PET."))
        self._request_intervals(rows, parameters.synthetic)

    def refresh(self) -> None:
        """Update the widgets."""
        ui, parameters = self._panel.ui, self._panel.parameters
        synthetic, real = (parameters.synthetic, parameters.real) if parameters is not None else (None, None)
        study = self._ct_section.study
        synthesising = self._synthesise.is_active
        ui.loadRealButton.setEnabled(study is not None and study.has_real_pet and not self._busy)
        ui.compareButton.setEnabled(synthetic is not None and real is not None and not self._busy and not synthesising)
        ui.compareButton.setText(_("Comparing …") if self._busy else _("Compare"))
        ui.realIsSuvCheckBox.setEnabled(real is not None and not is_suv(real))
        is_current = self._comparison is not None and self._is_current()
        for button in (ui.differenceButton, ui.scatterButton):
            button.setEnabled(is_current)
        self._show_figures(self._comparison if is_current else None)
        ui.segmentButton.setEnabled(synthetic is not None and parameters.segmentation is not None)
        if parameters is not None and self._measured and self._measured != (synthetic, parameters.segmentation):
            self._measured = ()
            set_rows(ui.uptakeTable, [])

    def _show_figures(self, result: Comparison | None) -> None:
        """Show the metrics of a comparison; None clears them, as they belong to other PETs than the selected ones."""
        if result is self._shown:
            return
        self._shown = result
        rows = result.rows if result is not None else ()
        set_rows(self._panel.ui.figuresTable, [_row(row) for row in rows])
        self._panel.ui.comparisonLabel.setText(comparison_text(rows))

    def _request_intervals(self, rows: list[metrics.Uptake], synthetic: Any) -> None:
        """Request the intervals of the synthetic rows, and add them to the table; without a connection do nothing."""
        model = synthetic.GetAttribute(node_attributes.MODEL) or ""
        measured = [row for row in rows if row.is_synthetic and math.isfinite(row.suv_max)]
        if self._panel.client is None or not model or not measured:
            return
        regions = [
            MeasuredRegion(row.volume_ml, row.suv_mean, row.suv_max, comparison.is_lesion(row.region))
            for row in measured
        ]
        version = node_attributes.version_number(synthetic)
        self._panel.runner.submit(
            self._panel.client,
            lambda client: client.intervals(model, regions, version=version),
            lambda found: self._on_intervals(rows, dict(zip(map(id, measured), found))),
            on_error=self._panel.show_message,
        )

    def _on_intervals(self, rows: list[metrics.Uptake], found: dict[int, RegionIntervals]) -> None:
        set_rows(self._panel.ui.uptakeTable, [_uptake_row(row, found.get(id(row))) for row in rows])
        sentences = dict.fromkeys(one.max.sentence for one in found.values() if one.max.low is None)
        levels = {f"{100 * one.max.level:g} %": one.max.patients for one in found.values() if one.max.low is not None}
        shown = [
            _("Estimated SUV, with {level} intervals in brackets, calibrated on {count} patients.").format(
                level=level, count=count
            )
            for level, count in levels.items()
        ]
        self._panel.show_message(" ".join([*shown, *sentences]))

    def _on_real(self, name: str, volume: NrrdVolume) -> None:
        self._busy = False
        node = make_volume_node(self._panel.scene, volume.array, volume.affine, name)
        declare_suv(node)  # the server's PETs are in SUVbw
        self._panel.parameters.real = node
        self._panel.show_message("")
        self._panel.refresh()

    def _on_compared(self, ct: Any, synthetic: Any, real: Any, result: Comparison | SceneError) -> None:
        self._busy = False
        if isinstance(result, SceneError):
            raise result
        scene = self._panel.scene
        self._comparison, self._compared = result, (synthetic, real)
        self._difference = comparison.show_difference(scene, ct, synthetic, result)
        comparison.show_metrics(scene, result)
        self._panel.show_message("")
        self._panel.refresh()

    def _is_current(self) -> bool:
        parameters = self._panel.parameters
        nodes = self._compared
        return nodes == (parameters.synthetic, parameters.real) and all(map(self._panel.scene.IsNodePresent, nodes))

    def _start(self, message: str) -> None:
        self._busy = True
        self._panel.show_message(message)
        self._panel.refresh()

    def _on_error(self, message: str) -> None:
        self._busy = False
        self._panel.show_error(message)


def _compute(inputs: comparison.ComparisonInputs) -> Comparison | SceneError:
    """Return the comparison, or the reason why it is not possible."""
    try:
        return comparison.compute(inputs)
    except SceneError as error:
        return error


def comparison_text(rows: Sequence[metrics.RegionMetrics]) -> str:
    """Return what the bias in the body and in its hot part means, in a sentence each."""
    return " ".join(place.format(error=_bias_text(row.bias_suv)) for place, row in zip(PLACES, rows))


def _bias_text(bias_suv: float) -> str:
    if math.isnan(bias_suv):
        return _("not compared: too few voxels")
    text = f"{abs(bias_suv):.2f}"
    if float(text) == 0:
        return _("neither too high nor too low on average")
    template = _("too high by {suv} SUV on average") if bias_suv > 0 else _("too low by {suv} SUV on average")
    return template.format(suv=text)


def _uptake_row(row: metrics.Uptake, intervals: RegionIntervals | None = None) -> list[str]:
    return [
        row.region,
        format_number(row.volume_ml, 1),
        format_number(row.suv_max) + _in_brackets(intervals.max if intervals else None),
        format_number(row.suv_mean) + _in_brackets(intervals.mean if intervals else None),
        format_number(row.suv_sd),
    ]


def _in_brackets(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f" ({interval.low:.1f}–{interval.high:.1f})"


def _row(row: metrics.RegionMetrics) -> list[str]:
    values = ((row.mae_suv, 2), (row.rmse_suv, 2), (row.psnr_db, 1), (row.bias_suv, 2), (row.correlation, 2))
    return [row.region, f"{row.voxels:,}", *(format_number(value, decimals) for value, decimals in values)]
