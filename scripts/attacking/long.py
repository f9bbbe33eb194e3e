"""Suite `long`: the synthesis of a large CT."""

from __future__ import annotations

import time
from pathlib import Path

from lib.phantom.generate import PhantomSettings
from scripts.attacking.cases import Notify
from scripts.attacking.result import Result, find_violation
from scripts.attacking.target import FAST_NETWORK, MODEL, target

SLICES, MATRIX = 300, 512
TIMEOUT_S = 3600.0
DEFAULT_NETWORK: tuple[str, ...] = ()  # the default recipe's, with the weights that it begins with


def long_suite(
    folder: Path, *, said: Notify, slices: int = SLICES, matrix: int = MATRIX, network: tuple[str, ...] = FAST_NETWORK,
    latency: bool = True,
) -> Result:  # fmt: skip
    """Return memory and latency while all slices of a phantom are synthesised."""
    result = Result("long")
    phantom = PhantomSettings(
        slices=slices, ct_matrix=matrix, ct_pixel_mm=400 / matrix, slice_spacing_mm=3.0, pet_matrix=64, pet_pixel_mm=6.4
    )
    said(f"making a phantom of {slices} slices")
    with target(folder, phantom=phantom, patients=1, network=network) as to:
        began = time.monotonic()
        with to.watched() as measured:
            response = to.request("POST", f"/infer/{MODEL}?image={to.ct}&output=json", timeout=TIMEOUT_S)
        seconds = time.monotonic() - began
        if response.status_code != 200:
            result.violations.append(find_violation(response) or f"{response.status_code} {response.text[:200]}")
        if not to.is_alive():
            result.violations.append(f"the server ended with {to.server.process.returncode}")
    result.violations += measured.violations(latency=latency)
    result.figures = {
        **measured.figures(),
        "slices": slices,
        "matrix": matrix,
        "network": list(network) or "default recipe",
        "synthesis_s": round(seconds, 1),
    }
    return result
