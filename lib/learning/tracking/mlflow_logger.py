"""Log a run to MLflow: settings, metrics of every epoch, final scores and model card; no patient IDs.

The epochs are read from `history.jsonl`, so those that could not be sent (server unreachable, run killed) are sent the
next time; see docs/decisions/0010-tracking.md.
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

TRACKING_FILE = "tracking.json"  # the MLflow run that a resumed run continues
CARD_ARTIFACT = "model_card.json"
RETRY_AFTER_S = 300.0  # each request to an unreachable server takes until its timeout
ENVIRONMENT = {  # MLflow's defaults wait minutes for an unreachable server, send telemetry, and print URLs
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def configure_mlflow_process() -> None:
    """Configure MLflow for this process: short timeouts, no telemetry, no messages below WARNING.

    Changes environment variables (those that are set already stay), telemetry and logger levels of the process. Call it
    once in a program that tracks runs; nothing else in the engine changes global state.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.telemetry import set_telemetry_client

    set_telemetry_client()  # MONAI may have imported MLflow, which has then read the environment already
    for name in ("mlflow", "alembic"):  # they log every table of a new database
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def mlflow_run(tracking: Tracking | None, run: Path, recipe: Recipe, *, name: str) -> Iterator[MlflowLogger | None]:
    """Yield the logger of a run, None without tracking; an exception marks the MLflow run as failed or killed."""
    if tracking is None:
        yield None
        return
    mlflow_logger = MlflowLogger(tracking, run, recipe, name=name)
    mlflow_logger.log_epoch()  # creates the MLflow run
    try:
        yield mlflow_logger
    except Exception:
        mlflow_logger.end("FAILED")
        raise
    except BaseException:  # interrupted
        mlflow_logger.end("KILLED")
        raise


class MlflowLogger:
    """Logger of one run. Errors of MLflow are logged as a warning and retried later; training continues."""

    def __init__(self, tracking: Tracking, run: Path, recipe: Recipe, *, name: str) -> None:
        self._tracking, self._run, self._recipe = tracking, run, recipe
        self._name = tracking.run_name or name
        self._store = store_of(tracking.uri, run)
        self._client: Any = None
        self._run_id = ""
        self._sent: set[int] = set()  # epochs
        self._not_before = 0.0  # time.monotonic()

    def log_epoch(self) -> None:
        """Send the epochs that MLflow does not have yet."""
        if time.monotonic() >= self._not_before:
            self._attempt(self._send_epochs)

    def finish(self, card: ModelCard) -> None:
        """Send missing epochs, final scores and model card, and mark the run as finished."""

        def send() -> None:
            """Send everything; can be repeated."""
            self._send_epochs()
            scores = {} if card.scores is None else card.scores.table
            metrics = {f"final/{method}/{name}": value for method, row in scores.items() for name, value in row.items()}
            self._log(metrics, step=card.epoch)
            self._client.set_tag(self._run_id, "standing", card.standing.sentence)
            self._client.set_tag(self._run_id, "standing.mark", card.standing.mark)
            self._client.log_text(self._run_id, card.to_json(), CARD_ARTIFACT)
            self._client.set_terminated(self._run_id, "FINISHED")

        self._attempt(send)

    def end(self, status: str) -> None:
        """Mark a run that did not finish as `FAILED` or `KILLED`."""
        if self._run_id:
            self._attempt(lambda: self._client.set_terminated(self._run_id, status))

    def _attempt(self, send: Callable[[], None]) -> None:
        try:
            send()
            self._not_before = 0.0
        except Exception as error:  # whatever the server does, training must continue
            self._not_before = time.monotonic() + RETRY_AFTER_S
            reason = str(error).replace(self._store.uri, self._store.shown).split("\n")[0][:200]
            logger.warning(
                "MLflow at %s is not available (%s: %s); training continues, and missing data is sent later, at the "
                "latest when the finished run is resumed", self._store.shown, type(error).__name__, reason,
            )  # fmt: skip

    def _send_epochs(self) -> None:
        if self._client is None or not self._run_id:
            self._connect()
        for record in read_history(self._run):
            if record.epoch not in self._sent:
                self._log(scalars(record), step=record.epoch)
                self._sent.add(record.epoch)

    def _connect(self) -> None:
        """Continue the MLflow run that is recorded in the folder, or create one."""
        client = _client(self._store)
        run_id = _known_run(self._run / TRACKING_FILE, self._store, client)
        if run_id is None:
            run_id = client.create_run(
                _experiment(self._tracking, self._store, client), run_name=self._name
            ).info.run_id
            record = {"store": self._store.shown, "experiment": self._tracking.experiment, "run_id": run_id}
            write_text(self._run / TRACKING_FILE, json.dumps(record, indent=1))
        else:
            client.update_run(run_id, status="RUNNING")
        self._sent = {metric.step for metric in client.get_metric_history(run_id, TRAINING_LOSS)}  # every epoch has one
        from mlflow.entities import Param

        client.log_batch(run_id, params=[Param(key, value) for key, value in flatten(asdict(self._recipe)).items()])
        self._client, self._run_id = client, run_id
        logger.info("tracked by MLflow: experiment %s, run %s, in %s", self._tracking.experiment, run_id,
                    self._store.shown)  # fmt: skip

    def _log(self, values: Mapping[str, float | None], *, step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, value, now_ms, step) for key, value in values.items() if value is not None]
        self._client.log_batch(self._run_id, metrics=metrics)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as `optimiser.learning_rate: 0.001`."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": str(value)}
    return flat


def _client(store: Store) -> Any:
    from mlflow.tracking import MlflowClient

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
    """Return the MLflow run recorded in a file, if it is in this store and exists."""
    from mlflow.exceptions import MlflowException

    try:
        known = json.loads(path.read_text())
        if known["store"] != store.shown:
            return None
        return str(client.get_run(known["run_id"]).info.run_id)
    except (OSError, ValueError, KeyError, TypeError):  # a new run, or an invalid file
        return None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
