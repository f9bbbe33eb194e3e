"""The device and the precision that a network runs in."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch

from lib.errors import RecipeError

NumberFormat = Literal["float32", "bfloat16"]
Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str = "auto") -> torch.device:
    """Return a device by name; `auto` is the first CUDA device if there is one, otherwise the CPU.

    Raises:
        RecipeError: This machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use auto or cpu")
    return device


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[object]:
    """Return the autocast context for convolutions: bfloat16 where the hardware supports it, otherwise float32.

    `auto` selects bfloat16 on CUDA devices that support it and on CPUs with bf16 instructions; elsewhere it would be
    emulated, and slower than float32.
    """
    if precision not in get_args(Precision):
        raise RecipeError(f"precision must be one of {', '.join(get_args(Precision))}, found {precision!r}")
    if precision == "float32" or (precision == "auto" and not has_bfloat16(device.type)):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@cache
def has_bfloat16(device_type: str) -> bool:
    """Return whether the device supports bfloat16 in hardware."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    if device_type != "cpu" or not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))
