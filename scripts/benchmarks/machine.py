"""The machine that a benchmark ran on: what its results depend on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from lib.networks.precision import choose_device, has_bfloat16

PACKAGES = ("torch", "monai", "numpy", "onnxruntime")
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS")


def describe_machine(device_name: str) -> dict[str, Any]:
    """Return date, hardware, load, threads and versions; the same header for every part.

    Raises:
        RecipeError: This machine has no such device.
    """
    device = choose_device(device_name)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "bfloat16": has_bfloat16(device.type),
        "load_1_min_before": round(os.getloadavg()[0], 2),
        "torch_threads": torch.get_num_threads(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # optional, such as onnxruntime
            continue
    return found
