"""Section "Retrain": start, watch and stop a training; what was decided about it; versions and going back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.error_messages import last_words
from CT2PETLib.client.errors import ForbiddenError, RefusedError, SignInError
from CT2PETLib.client.training import Training, Version, Versions
from CT2PETLib.jobs.events import ConnectionLost
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import TrainingWatch
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.qt_helpers import set_rows
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.scene.tables import show_chart, training_chart
from CT2PETLib.scene.views import plots


class TrainSection:
    """Retrains the chosen model, and tells `published` when another version may be served."""

    def __init__(self, panel: Panel, synthesise: SynthesiseSection, published: Callable[[], None]) -> None:
        self._panel, self._synthesise, self._published = panel, synthesise, published
        self._watch: Any = None
        self._versions: tuple[Versions, ...] = ()
        self._shown: list[Version] = []
        self._seen_running = False
        self._asked_for = ("", 0)  # a version that was refused, and is to be served all the same
        ui = panel.ui
        panel.when(ui.trainButton, "clicked", self.train_or_stop)
        panel.when(ui.curveButton, "clicked", self.show_curve)
        panel.when(ui.rollBackButton, "clicked", self.roll_back)
        panel.when(ui.versionsTable, "itemSelectionChanged", self.refresh)

    def connected(self) -> None:
        """Look at trainings and versions of the server in use."""
        self._versions = ()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._panel.client is not None:
            self.list_versions()
            self.watch()

    def train_or_stop(self) -> None:
        """Start a training of the chosen model, or stop the one under way."""
        client, model = self._panel.require_client(), self._synthesise.model
        if self._is_under_way:
            self._panel.say("Stopping the training …")
            self._panel.running.ask(client, lambda asker: asker.stop_training(), lambda _: self.watch())
        elif model is not None:
            settings = {"max_epochs": int(self._panel.parameters.epochs)}
            self._panel.say("Starting the training …")
            self._panel.running.ask(client, lambda asker: asker.train(model.name, settings), lambda _: self._started())

    def watch(self) -> None:
        """Watch the newest training until it is over."""
        if self._watch is None or self._watch.state.is_over:
            self._watch = TrainingWatch(self._panel.require_client())
            self._panel.running.start(self._watch, self._told, self._over)

    def show_curve(self) -> None:
        """Show loss and validation figure by epoch in a plot view."""
        plots()
        show_chart(self._panel.scene, self._chart())

    def list_versions(self) -> None:
        """Ask for the versions of every model; a server without accounts, or an older one, may have none."""
        client = self._panel.require_client()

        def ask(asker: Any) -> tuple[Versions, ...]:
            """Return the versions, or none."""
            try:
                return tuple(asker.versions())
            except (RefusedError, ForbiddenError, SignInError):
                return ()

        self._panel.running.ask(client, ask, self._listed)

    def roll_back(self) -> None:
        """Serve the chosen version."""
        row = self._panel.ui.versionsTable.currentRow()
        model = self._synthesise.model
        if model is None or not 0 <= row < len(self._shown):
            return
        wanted, client = self._shown[row], self._panel.require_client()
        if wanted.published is False and self._asked_for != (model.name, wanted.number):
            self._asked_for = (model.name, wanted.number)
            self._panel.show_error(
                f"{wanted.verdict} Press the button again to serve version {wanted.number} all the same."
            )
            return
        self._asked_for = ("", 0)
        self._panel.running.ask(
            client, lambda asker: _serve(asker, model.name, wanted), lambda _: self._rolled(model.name, wanted.number)
        )

    def refresh(self) -> None:
        """Bring the widgets up to date."""
        ui, model = self._panel.ui, self._synthesise.model
        ui.trainButton.setEnabled(self._panel.client is not None and (self._is_under_way or model is not None))
        ui.trainButton.setText("Stop training" if self._is_under_way else "Train")
        ui.curveButton.setEnabled(self._watch is not None and bool(self._watch.curve))
        versions = next((v for v in self._versions if model is not None and v.model == model.name), None)
        shown = list(versions.versions) if versions is not None else []
        if shown != self._shown:
            self._shown = shown
            set_rows(ui.versionsTable, [_row(version) for version in shown])
        row = ui.versionsTable.currentRow()
        ui.rollBackButton.setEnabled(0 <= row < len(shown) and not shown[row].served)

    @property
    def _is_under_way(self) -> bool:
        training = self._watch.training if self._watch is not None else None
        return training is not None and training.is_active

    def _started(self) -> None:
        self._panel.say("")
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self.watch()

    def _told(self, what: Any) -> None:
        ui = self._panel.ui
        if isinstance(what, ConnectionLost):
            ui.trainingLabel.setText(f"{what.sentence} The training goes on without this window.")
            return
        self._seen_running = self._seen_running or what.is_active
        # one that is done may have ended before its last epoch: nothing was gained any more
        share = 1.0 if what.state == "DONE" else what.epoch / max(1, what.epochs)
        ui.trainingBar.setValue(round(1000 * share))
        ui.trainingLabel.setText(training_text(what))
        ui.verdictLabel.setText(verdict_text(what))
        self._panel.refresh()
        if self._watch.curve:
            self._chart()

    def _chart(self) -> Any:
        """Return the curve's chart, brought up to date."""
        training = self._watch.training
        return training_chart(self._panel.scene, self._watch.curve, score=training.key_metric or "figure")

    def _over(self, job: Job) -> None:
        if job.state is State.FAILED:
            self._panel.show_error(job.sentence)
        if self._seen_running and self._panel.client is not None:
            self._seen_running = False
            self._published()
        self._panel.refresh()

    def _listed(self, versions: tuple[Versions, ...]) -> None:
        self._versions = versions
        self._synthesise.offer(versions)
        self._panel.refresh()

    def _rolled(self, model: str, number: int) -> None:
        self._panel.say(f"{model} is served as version {number} now.")
        self._published()


def _serve(asker: Client, model: str, wanted: Version) -> Versions:
    """Serve a version: one that was refused in so many words, any other by rolling back."""
    if wanted.published is False:
        return asker.serve(model, wanted.number)
    return asker.roll_back(model, wanted.number)


def training_text(training: Training) -> str:
    """Return how a training does, in a line."""
    if not training.model:
        return "There was no training yet."
    words = [f"{training.model}: {training.in_words}"]
    if training.epochs:
        words.append(f"epoch {training.epoch} of {training.epochs}")
    if training.loss is not None:
        words.append(f"loss {training.loss:.4f}")
    if training.best is not None:
        words.append(f"best {training.key_metric or 'figure'} {training.best:.4f} in epoch {training.best_epoch}")
    if training.time_left:
        words.append(f"{training.time_left} left")
    told = ", ".join(words) + "."
    why = last_words(training.details) if training.state == "ERROR" else ""
    return f"{told} {why}".strip()


def verdict_text(training: Training) -> str:
    """Return what was decided about a training that is over, in words."""
    if training.is_active or training.published is None:
        return ""
    head = "Champion: the new version is served now." if training.published else "Challenger: the former version stays."
    return f"{head} {training.verdict[:1].upper()}{training.verdict[1:]}".strip()


def _row(version: Version) -> list[str]:
    words = version.verdict or version.origin
    return [
        str(version.number),
        version.kept[:10],
        str(version.patients or "–"),
        "yes" if version.served else "",
        words,
    ]
