"""Section "Compare": the synthetic PET beside a real one, and SUV in segments."""

from __future__ import annotations

from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.nrrd import NrrdVolume, read_nrrd
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.display import DisplaySection
from CT2PETLib.panel.qt_helpers import number, set_rows
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.scene import comparison, metrics, node_attributes
from CT2PETLib.scene.comparison import Comparison
from CT2PETLib.scene.tables import show_chart
from CT2PETLib.scene.views import plots
from CT2PETLib.scene.volume import SceneError, declare_suv, is_suv, make_volume_node

NOWHERE = "127.0.0.1"  # a job needs a client; reckoning asks it nothing


class CompareSection:
    """Compares beside the window, and shows the outcome."""

    def __init__(self, panel: Panel, ct: CTSection, synthesise: SynthesiseSection, show: DisplaySection) -> None:
        self._panel, self._ct_section, self._synthesise, self._show = panel, ct, synthesise, show
        self._comparison: Comparison | None = None
        self._of: tuple[Any, ...] = ()  # what it is a comparison of
        self._difference: Any = None
        self._busy = False
        ui = panel.ui
        panel.when(ui.loadRealButton, "clicked", self.load_real)
        panel.when(ui.compareButton, "clicked", self.compare)
        panel.when(ui.differenceButton, "clicked", self.show_difference)
        panel.when(ui.scatterButton, "clicked", self.show_scatter)
        panel.when(ui.segmentButton, "clicked", self.segments)

    def load_real(self) -> None:
        """Fetch the real PET of the chosen CT from the server."""
        study, client = self._ct_section.study, self._panel.require_client()
        if study is None or not study.has_real_pet:
            why = f" ({study.why_no_pet})" if study is not None and study.why_no_pet else ""
            raise SceneError(f"The server has no real PET of this CT{why}; load one into the scene.")
        self._start("Fetching the real PET …")
        self._panel.running.ask(
            client,
            lambda asker: read_nrrd(asker.real_pet(study.image_id)),
            lambda volume: self._real_came(study.description, volume),
            failed=self._failed,
        )

    def compare(self) -> None:
        """Reckon figures, difference map and scatter plot."""
        chosen = self._panel.parameters
        synthetic, real = chosen.synthetic, chosen.real
        if chosen.real_is_suv and not is_suv(real):
            declare_suv(real)
        ct = synthetic.GetNodeReference(node_attributes.CT_NODE) or chosen.ct
        beside = comparison.gather(ct=ct, synthetic=synthetic, real=real)
        self._start("Comparing …")
        self._panel.running.ask(
            self._panel.client or Client(NOWHERE),
            lambda _: _computed(beside),
            lambda found: self._compared(ct, synthetic, real, found),
            failed=self._failed,
        )

    def show_difference(self) -> None:
        """Show synthetic minus real SUV over the CT."""
        self._show.over_ct(self._difference)

    def show_scatter(self) -> None:
        """Show the scatter plot in a plot view."""
        if self._comparison is not None:
            plots()
            show_chart(self._panel.scene, comparison.show_scatter(self._panel.scene, self._comparison))

    def segments(self) -> None:
        """Show SUVmax and SUVmean in each segment."""
        chosen = self._panel.parameters
        real = self._comparison.real_suv if self._comparison is not None and self._is_of_now() else None
        rows = comparison.segment_uptakes(chosen.segmentation, synthetic=chosen.synthetic, real_suv=real)
        comparison.show_uptakes(self._panel.scene, rows)
        set_rows(
            self._panel.ui.uptakeTable,
            [
                [row.region, number(row.volume_ml, 1), number(row.suv_max), number(row.suv_mean), number(row.suv_sd)]
                for row in rows
            ],
        )
        self._panel.say("" if real is not None else "Press Compare first to see the real PET in the segments, too.")

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui, chosen = self._panel.ui, self._panel.parameters
        synthetic, real = (chosen.synthetic, chosen.real) if chosen is not None else (None, None)
        study = self._ct_section.study
        drawing = self._synthesise.is_active
        ui.loadRealButton.setEnabled(study is not None and study.has_real_pet and not self._busy)
        ui.compareButton.setEnabled(synthetic is not None and real is not None and not self._busy and not drawing)
        ui.compareButton.setText("Working …" if self._busy else "Compare")
        ui.realIsSuvCheckBox.setEnabled(real is not None and not is_suv(real))
        of_now = self._comparison is not None and self._is_of_now()
        for button in (ui.differenceButton, ui.scatterButton):
            button.setEnabled(of_now)
        ui.segmentButton.setEnabled(synthetic is not None and chosen.segmentation is not None)

    def _real_came(self, description: str, volume: NrrdVolume) -> None:
        self._busy = False
        name = " ".join(filter(None, ("Real PET", description)))
        node = make_volume_node(self._panel.scene, volume.array, volume.affine, name)
        declare_suv(node)  # the server's labels are SUVbw
        self._panel.parameters.real = node
        self._panel.say("")
        self._panel.refresh()

    def _compared(self, ct: Any, synthetic: Any, real: Any, found: Any) -> None:
        self._busy = False
        if isinstance(found, SceneError):
            raise found
        scene = self._panel.scene
        self._comparison, self._of = found, (synthetic, real)
        self._difference = comparison.show_difference(scene, ct, synthetic, found)
        comparison.show_metrics(scene, found)
        set_rows(self._panel.ui.figuresTable, [_row(row) for row in found.rows])
        self._panel.say("")
        self._panel.refresh()

    def _is_of_now(self) -> bool:
        chosen = self._panel.parameters
        return self._of == (chosen.synthetic, chosen.real) and all(self._panel.scene.IsNodePresent(n) for n in self._of)

    def _start(self, words: str) -> None:
        self._busy = True
        self._panel.say(words)
        self._panel.refresh()

    def _failed(self, sentence: str) -> None:
        self._busy = False
        self._panel.show_error(sentence)


def _computed(beside: comparison.Beside) -> Any:
    """Return the comparison, or what stands in its way."""
    try:
        return comparison.compute(beside)
    except SceneError as error:
        return error


def _row(row: metrics.Figures) -> list[str]:
    return [
        row.region, str(row.voxels), number(row.mae_suv), number(row.rmse_suv), number(row.psnr_db, 1),
        number(row.bias_suv), number(row.correlation),
    ]  # fmt: skip
