"""Section "Retrain": start, watch and stop a training; its verdict; versions and rolling back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ForbiddenError, RefusedError, SignInError
from CT2PETLib.client.training import Training, Version, Versions
from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import ConnectionLost
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import TrainingWatch
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.qt_helpers import set_rows
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.scene.tables import show_chart, training_chart
from CT2PETLib.scene.views import show_plots


class TrainSection:
    """Retrains the selected model, and calls `on_published` when another version may be served."""

    def __init__(self, panel: Panel, synthesise: SynthesiseSection, on_published: Callable[[], None]) -> None:
        self._panel, self._synthesise, self._on_published = panel, synthesise, on_published
        self._watch: Any = None
        self._versions: tuple[Versions, ...] = ()
        self._shown: list[Version] = []
        self._was_active = False
        self._confirmed = ("", 0)  # model and version whose confirmation was requested, as its verdict is negative
        ui = panel.ui
        panel.on_signal(ui.trainButton, "clicked", self.train_or_stop)
        panel.on_signal(ui.curveButton, "clicked", self.show_curve)
        panel.on_signal(ui.rollBackButton, "clicked", self.roll_back)
        panel.on_signal(ui.versionsTable, "itemSelectionChanged", self.refresh)

    def connected(self) -> None:
        """Load the training and the versions of the connected server."""
        self._versions = ()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._panel.client is not None:
            self.list_versions()
            self.watch()

    def train_or_stop(self) -> None:
        """Start a training of the selected model, or stop the active one."""
        client, model = self._panel.require_client(), self._synthesise.model
        if self._is_active:
            self._panel.show_message(_("Stopping the training …"))
            self._panel.runner.submit(client, lambda job_client: job_client.stop_training(), lambda _: self.watch())
        elif model is not None:
            settings = {"max_epochs": int(self._panel.parameters.epochs)}
            self._panel.show_message(_("Starting the training …"))
            self._panel.runner.submit(
                client, lambda job_client: job_client.train(model.name, settings), lambda _: self._started()
            )

    def watch(self) -> None:
        """Poll the newest training until it is over."""
        if self._watch is None or self._watch.state.is_over:
            self._watch = TrainingWatch(self._panel.require_client())
            self._panel.runner.start(self._watch, self._on_event, self._on_end)

    def show_curve(self) -> None:
        """Show loss and validation metric by epoch in a plot view."""
        show_plots()
        show_chart(self._panel.scene, self._chart())

    def list_versions(self) -> None:
        """Request the versions of every model; a server that does not provide them has none."""
        client = self._panel.require_client()

        def request(job_client: Client) -> tuple[Versions, ...]:
            """Return the versions, or none."""
            try:
                return tuple(job_client.versions())
            except (RefusedError, ForbiddenError, SignInError):
                return ()

        self._panel.runner.submit(client, request, self._on_versions)

    def roll_back(self) -> None:
        """Serve the selected version; confirm first if its verdict is negative."""
        row = self._panel.ui.versionsTable.currentRow()
        model = self._synthesise.model
        if model is None or not 0 <= row < len(self._shown):
            return
        version, client = self._shown[row], self._panel.require_client()
        if version.published is False and self._confirmed != (model.name, version.number):
            self._confirmed = (model.name, version.number)
            self._panel.show_error(question_text(version))
            return
        self._confirmed = ("", 0)
        self._panel.runner.submit(
            client,
            lambda job_client: _serve(job_client, model.name, version),
            lambda _: self._on_served(model.name, version.number),
        )

    def refresh(self) -> None:
        """Update the widgets."""
        ui, model = self._panel.ui, self._synthesise.model
        ui.trainButton.setEnabled(self._panel.client is not None and (self._is_active or model is not None))
        ui.trainButton.setText(_("Stop training") if self._is_active else _("Train"))
        ui.curveButton.setEnabled(self._watch is not None and bool(self._watch.curve))
        versions = next((v for v in self._versions if model is not None and v.model == model.name), None)
        shown = list(versions.versions) if versions is not None else []
        if shown != self._shown:
            self._shown = shown
            set_rows(ui.versionsTable, [_row(version) for version in shown], elide_last=True)
        row = ui.versionsTable.currentRow()
        ui.rollBackButton.setEnabled(0 <= row < len(shown) and not shown[row].served)

    @property
    def _is_active(self) -> bool:
        training = self._watch.training if self._watch is not None else None
        return training is not None and training.is_active

    def _started(self) -> None:
        self._panel.show_message("")
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self.watch()

    def _on_event(self, event: ConnectionLost | Training) -> None:
        ui = self._panel.ui
        if isinstance(event, ConnectionLost):
            ui.trainingLabel.setText(
                _("{message} The training continues if the server is still running.").format(message=event.message)
            )
            return
        self._was_active = self._was_active or event.is_active
        # early stopping may end a training before its last epoch
        fraction = 1.0 if event.state == "DONE" else event.epoch / max(1, event.epochs)
        ui.trainingBar.setValue(round(1000 * fraction))
        ui.trainingLabel.setText(training_text(event))
        ui.verdictLabel.setText(verdict_text(event))
        verdict = event.verdict if event.published is not None else ""
        if ui.verdictBrowser.toPlainText() != verdict:  # otherwise each event would scroll back to its top
            ui.verdictBrowser.setPlainText(verdict)
        self._panel.refresh()
        if self._watch.curve:
            self._chart()

    def _chart(self) -> Any:
        """Update the chart of the curve, and return it."""
        training = self._watch.training
        return training_chart(self._panel.scene, self._watch.curve, metric=training.metric_name)

    def _on_end(self, job: Job) -> None:
        if job.state is State.FAILED:
            self._panel.show_error(job.message)
        if self._was_active and self._panel.client is not None:
            self._was_active = False
            self._on_published()
        self._panel.refresh()

    def _on_versions(self, versions: tuple[Versions, ...]) -> None:
        self._versions = versions
        self._synthesise.offer(versions)
        self._panel.refresh()

    def _on_served(self, model: str, number: int) -> None:
        self._panel.show_message(_("{model} is served as version {number} now.").format(model=model, number=number))
        self._on_published()


def _serve(job_client: Client, model: str, version: Version) -> Versions:
    """Serve a version: explicitly if its verdict is negative, otherwise by rolling back."""
    if version.published is False:
        return job_client.serve(model, version.number)
    return job_client.roll_back(model, version.number)


def training_text(training: Training) -> str:
    """Return the state of a training in a line."""
    if not training.model:
        return _("No training was started yet.")
    parts = [f"{training.model}: {training.state_text}"]
    if training.epochs:
        parts.append(_("epoch {epoch} of {epochs}").format(epoch=training.epoch, epochs=training.epochs))
    if training.loss is not None:
        parts.append(_("loss {loss:.4f}").format(loss=training.loss))
    if training.best is not None:
        parts.append(_best_text(training, training.best))
    if training.time_left:
        parts.append(_("{time_left} left").format(time_left=training.time_left))
    return f"{', '.join(parts)}. {training.why_failed}".strip()


def verdict_text(training: Training) -> str:
    """Return in a sentence whether the result of a finished training is served; its verdict says why."""
    if training.is_active or training.published is None:
        return ""
    if training.published:
        return _("Champion: the new version is served.")
    return _("Challenger: the served version is unchanged.")


def question_text(version: Version) -> str:
    """Return the question before a version with a negative verdict is served; it has the first sentence of it."""
    return _("{verdict}. Press the button again to serve version {number} anyway.").format(
        verdict=version.verdict.partition(". ")[0].rstrip("."), number=version.number
    )


def _best_text(training: Training, best: float) -> str:
    """Return the best validation metric; the reduction of the error says against what, and in which direction."""
    if training.key_metric != "skill_body":
        template = _("best {metric} {best:.4f} in epoch {epoch}")
        return template.format(metric=training.metric_name, best=best, epoch=training.best_epoch)
    template = (
        _("body MAE at best {percent:.1f} % below that of zero uptake, in epoch {epoch}")
        if best >= 0
        else _("body MAE at best {percent:.1f} % above that of zero uptake, in epoch {epoch}")
    )
    return template.format(percent=100 * abs(best), epoch=training.best_epoch)


def _row(version: Version) -> list[str]:
    return [
        str(version.number),
        version.kept[:10],
        str(version.patients or "–"),
        _("yes") if version.served else "",
        version.verdict or version.origin,
    ]
