"""Requests and a training of the same server: alone, and at the same time."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from statistics import median

from lib.errors import InputError
from lib.phantom.patient import PhantomSettings
from scripts.benchmarks.live import MODEL, Setup, prepare_setup, read_json
from scripts.benchmarks.measure import Figure, Ratio, Result
from scripts.benchmarks.parts.server import POLL_INTERVAL_S, SLAB_SLICES, request_slab

SLOWER = 3.0  # a request during a training, and an epoch during requests, at most
TRAINING = PhantomSettings(slices=40, ct_matrix=128, ct_pixel_mm=3.2)  # of each patient
QUICK_TRAINING = PhantomSettings(slices=4, ct_matrix=32, ct_pixel_mm=12.8, pet_matrix=32, pet_pixel_mm=12.8)


def measure(args: argparse.Namespace) -> Result:
    """Measure requests alone, a training alone and both together, in turn."""
    with prepare_setup(args, training=QUICK_TRAINING if args.quick else TRAINING) as setup, setup.server() as url:
        return _measure(setup, url, args)


def _measure(setup: Setup, url: str, args: argparse.Namespace) -> Result:
    request_slab(setup, url, 0)
    requests: dict[str, list[float]] = {"alone": [], "together": []}
    epochs: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(args.repeats):
        requests["alone"].append(median(request_slab(setup, url, number) for number in range(args.requests)))
        epochs["alone"].append(median(_train(setup, url, args.epochs, _wait)))
        meanwhile: list[float] = []

        def request(number: int, measured: list[float] = meanwhile) -> None:
            measured.append(request_slab(setup, url, number))

        epochs["together"].append(median(_train(setup, url, args.epochs, request)))
        requests["together"].append(median(meanwhile))
    figures = [Figure("request", "s", tuple(values), of=of) for of, values in requests.items()]
    figures += [Figure("epoch", "s", tuple(values), of=of) for of, values in epochs.items()]
    ratios = [
        Ratio(
            f"{what}: together / alone",
            tuple(b / a for a, b in zip(values["alone"], values["together"], strict=True)),
            at_most=SLOWER,
        )
        for what, values in (("request", requests), ("epoch", epochs))
    ]
    run = {"slices": setup.slices, "slices_per_request": min(SLAB_SLICES, setup.slices), "epochs": args.epochs}
    return Result(run, figures, ratios)


def _train(setup: Setup, url: str, epochs: int, meanwhile: Callable[[int], object]) -> list[float]:
    """Train on the server, call `meanwhile` again and again until it has ended, and return each epoch's time, s."""
    before = set(setup.models.rglob("history.jsonl"))
    settings = {"max_epochs": epochs, "folds": 0, "pretrained": False, "resume": False, "device": setup.device}
    read_json(f"{url}/train/{MODEL}", body=settings)
    for number in itertools.count():
        task = read_json(f"{url}/train/")
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            break
        meanwhile(number)
    histories = set(setup.models.rglob("history.jsonl")) - before
    if task["status"] != "DONE" or not histories:
        raise InputError(f"the training ended with {task['status']}: {task.get('details', [])[-3:]}")
    records = [json.loads(line) for path in histories for line in path.read_text().splitlines()]
    return [record["seconds"] for record in records if "seconds" in record]  # others are of published versions


def _wait(_: int) -> None:
    time.sleep(POLL_INTERVAL_S)
