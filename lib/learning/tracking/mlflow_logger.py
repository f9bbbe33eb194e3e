"""A run mirrored to MLflow: settings, figures of every epoch, final scores and model card; never who a patient was.

What is mirrored is `history.jsonl`, so whatever could not be sent, for a server that was gone or a run that was killed,
is sent the next time; see docs/decisions/0010-tracking.md.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.files import write_text
from lib.learning.model_card.card import ModelCard
from lib.learning.recipe import Recipe
from lib.learning.tracking.options import Store, Tracking, store_of
from lib.learning.tracking.progress import TRAINING_LOSS, read_history, scalars

logger = logging.getLogger(__name__)

TRACKING_FILE = "tracking.json"  # which MLflow run a resumed run goes on with
CARD_ARTIFACT = "model_card.json"
RETRY_AFTER_S = 300.0  # a server that is gone costs a timeout each time it is asked
CALM = {  # MLflow's defaults wait for minutes on a server that is gone, tell its makers of each use, and print
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@contextlib.contextmanager
def mirrored(tracking: Tracking | None, run: Path, recipe: Recipe, *, name: str) -> Iterator[MlflowLogger | None]:
    """Yield the mirror of a run, or None where none is asked for; an error inside marks the run as failed or killed."""
    if tracking is None:
        yield None
        return
    mirror = MlflowLogger(tracking, run, recipe, name=name)
    mirror.epoch()  # a run shows from its beginning
    try:
        yield mirror
    except Exception:
        mirror.end("FAILED")
        raise
    except BaseException:  # interrupted from outside
        mirror.end("KILLED")
        raise


class MlflowLogger:
    """One run in MLflow. Whatever goes wrong there is told once and tried again later; the training goes on."""

    def __init__(self, tracking: Tracking, run: Path, recipe: Recipe, *, name: str) -> None:
        self._tracking, self._run, self._recipe = tracking, run, recipe
        self._name = tracking.run_name or name
        self._store = store_of(tracking.uri, run)
        self._client: Any = None
        self._run_id = ""
        self._sent: set[int] = set()  # epochs
        self._not_before = 0.0  # time.monotonic()

    def epoch(self) -> None:
        """Send the epochs that are not there yet."""
        if time.monotonic() >= self._not_before:
            self._attempt(self._send_epochs)

    def finish(self, card: ModelCard) -> None:
        """Send what is missing, the final scores and the card, and mark the run as finished."""

        def send() -> None:
            """Send all of it; harmless where it is there already."""
            self._send_epochs()
            scores = {} if card.scores is None else card.scores.table
            figures = {f"final/{method}/{name}": value for method, row in scores.items() for name, value in row.items()}
            self._log(figures, step=card.epoch)
            self._client.set_tag(self._run_id, "standing", card.standing.sentence)
            self._client.set_tag(self._run_id, "standing.mark", card.standing.mark)
            self._client.log_text(self._run_id, card.to_json(), CARD_ARTIFACT)
            self._client.set_terminated(self._run_id, "FINISHED")

        self._attempt(send)

    def end(self, status: str) -> None:
        """Mark a run that did not finish: `FAILED` or `KILLED`."""
        if self._run_id:
            self._attempt(lambda: self._client.set_terminated(self._run_id, status))

    def _attempt(self, send: Callable[[], None]) -> None:
        try:
            send()
            self._not_before = 0.0
        except Exception as error:  # a server can fail in any way, and none of them may end a training
            self._not_before = time.monotonic() + RETRY_AFTER_S
            reason = str(error).replace(self._store.uri, self._store.shown).split("\n")[0][:200]
            logger.warning(
                "MLflow at %s does not answer (%s: %s); training goes on, and what is missing there is sent later, at "
                "the latest when the finished run is resumed", self._store.shown, type(error).__name__, reason,
            )  # fmt: skip

    def _send_epochs(self) -> None:
        if self._client is None or not self._run_id:
            self._connect()
        for record in read_history(self._run):
            if record.epoch not in self._sent:
                self._log(scalars(record), step=record.epoch)
                self._sent.add(record.epoch)

    def _connect(self) -> None:
        """Go on with the MLflow run that this folder names, or begin one."""
        client = _client(self._store)
        run_id = _known_run(self._run / TRACKING_FILE, self._store, client)
        if run_id is None:
            run_id = client.create_run(
                _experiment(self._tracking, self._store, client), run_name=self._name
            ).info.run_id
            told = {"store": self._store.shown, "experiment": self._tracking.experiment, "run_id": run_id}
            write_text(self._run / TRACKING_FILE, json.dumps(told, indent=1))
        else:
            client.update_run(run_id, status="RUNNING")
        self._sent = {metric.step for metric in client.get_metric_history(run_id, TRAINING_LOSS)}  # every epoch has one
        from mlflow.entities import Param

        client.log_batch(run_id, params=[Param(key, value) for key, value in flatten(asdict(self._recipe)).items()])
        self._client, self._run_id = client, run_id
        logger.info("tracked by MLflow: experiment %s, run %s, in %s", self._tracking.experiment, run_id,
                    self._store.shown)  # fmt: skip

    def _log(self, figures: Mapping[str, float | None], *, step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, value, now_ms, step) for key, value in figures.items() if value is not None]
        self._client.log_batch(self._run_id, metrics=metrics)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as `optimiser.learning_rate: 0.001`."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": str(value)}
    return flat


def _client(store: Store) -> Any:
    for name, value in CALM.items():
        os.environ.setdefault(name, value)
    from mlflow.telemetry import set_telemetry_client
    from mlflow.tracking import MlflowClient

    set_telemetry_client()  # MONAI has imported mlflow before, and it looked at the environment then
    for name in ("mlflow", "alembic"):  # they tell of every table of a new database
        logging.getLogger(name).setLevel(logging.WARNING)
    if store.artifacts is not None:
        Path(store.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=store.uri)


def _experiment(tracking: Tracking, store: Store, client: Any) -> str:
    found = client.get_experiment_by_name(tracking.experiment)
    if found is not None:
        return str(found.experiment_id)
    location = None if store.artifacts is None else store.artifacts.as_uri()
    return str(client.create_experiment(tracking.experiment, artifact_location=location))


def _known_run(path: Path, store: Store, client: Any) -> str | None:
    """Return the MLflow run that a file names, if it is of this store and still there."""
    from mlflow.exceptions import MlflowException

    try:
        known = json.loads(path.read_text())
        if known["store"] != store.shown:
            return None
        return str(client.get_run(known["run_id"]).info.run_id)
    except (OSError, ValueError, KeyError, TypeError):  # a first run, or a file that was written by hand
        return None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
