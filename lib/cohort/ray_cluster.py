"""The connection to a Ray cluster, and how many synthesizers fit on its machines."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import lib
from lib.errors import ClusterError, InputError
from lib.processors import available_processors

logger = logging.getLogger(__name__)

LOCAL = "ray"  # the cluster of RAY_ADDRESS, or one that is started on this machine
USAGE_STATISTICS = "RAY_USAGE_STATS_ENABLED"  # Ray would report its use to its vendor


def require_ray() -> Any:
    """Return the package `ray`.

    Raises:
        InputError: It is not installed.
    """
    os.environ.setdefault(USAGE_STATISTICS, "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            f"the engine ray needs the package ray ({error}); install what requirements-ray.txt lists",
            code="ray_not_installed",
        ) from error


@contextmanager
def connected_cluster(address: str) -> Iterator[Any]:
    """Yield the package `ray`, connected to a cluster; the context ends the connection, and a cluster started for it.

    The cluster's workers get this program's own code, so that its machines need only the packages.

    Args:
        address: `ray`, or `ray://HOST:PORT`.

    Raises:
        InputError: Ray is not installed.
        ClusterError: The cluster cannot be reached.
    """
    ray = require_ray()
    options: dict[str, Any] = {
        "runtime_env": {"py_modules": [str(Path(lib.__file__).parent)]},
        "logging_level": logging.ERROR,
        "log_to_driver": False,
    }
    if address != LOCAL:
        options["address"] = address
    elif not os.environ.get("RAY_ADDRESS"):
        options |= {"address": "local", "num_cpus": available_processors(), "include_dashboard": False}
    with redirect_stdout(sys.stderr):  # Ray prints there that a machine was lost, and our stdout is for results
        with _our_signals():
            _connect(ray, options, address)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _our_signals() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM: with those of Ray, the begun studies would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _connect(ray: Any, options: dict[str, Any], address: str) -> None:
    try:
        ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
        where = address if address != LOCAL else os.environ.get("RAY_ADDRESS", "this machine")
        raise ClusterError(
            f"Ray on {where}: cannot be reached ({_first_line(error)}); check the address, that RAY_AUTH_MODE and "
            f"RAY_AUTH_TOKEN are those of the cluster, and that it runs Ray {ray.__version__} on Python "
            f"{sys.version_info.major}.{sys.version_info.minor}"
        ) from error


def synthesizer_resources(ray: Any, device: str, *, threads: int = 1) -> dict[str, float]:
    """Return what one synthesizer takes of a machine: a GPU, or processors where there is none or none is wanted.

    Raises:
        InputError: The device has a number, which Ray assigns.
    """
    if device.startswith("cuda:"):
        raise InputError(f"device {device}: Ray assigns the GPUs of a machine; give cuda without a number")
    if device != "cpu" and (device == "cuda" or ray.cluster_resources().get("GPU", 0) >= 1):
        return {"num_gpus": 1, "num_cpus": threads}
    return {"num_cpus": threads}


def synthesizers_that_fit(ray: Any, resources: dict[str, float]) -> int:
    """Return how many synthesizers the machines of the cluster have room for, now."""
    names = {"num_gpus": "GPU", "num_cpus": "CPU"}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(
        min(int(machine.get(names[name], 0) // needed) for name, needed in resources.items()) for machine in machines
    )


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
