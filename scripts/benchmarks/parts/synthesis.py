"""A whole volume: the network alone, DICOM to DICOM, and the same work by MONAI and by KonfAI.

`network` is the time from HU to SUV on the network's grid. The steps around it are measured one by one; DICOM to DICOM
is `main.py synthesize` as a process of its own, in which steps may overlap, less the start-up, which is the same
process for a CT of two slices.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lib.imaging.volume import Volume
from lib.learning.checkpoint import load_checkpoint
from lib.learning.model_card.card import ModelCard
from lib.networks.precision import choose_device, has_bfloat16
from lib.synthesis.synthesizer import Synthesizer
from lib.types import BoolArray
from scripts.benchmarks.measure import Duration, Figure, Ratio, Result, Work, alternate, divide, walls
from scripts.benchmarks.network import body_ct, gflop, pixel_mm_of, pixels_of, save_model

if TYPE_CHECKING:
    from scripts.benchmarks.parts.dicom_to_dicom import DicomCase
from scripts.benchmarks.peers import monai as monai_peer

OURS = "ct2pet"
OURS_FLOAT32 = "ct2pet in float32"
FASTER, FASTER_FLOAT32 = 5.0, 2.5  # than the peer, where the processor has bfloat16 and elsewhere
MAX_DIFFERENCE_SUV = 0.02  # from the peer, inside the body
NETWORK = "network"
LARGEST = "largest difference inside the body"

Times = dict[str, tuple[Duration, ...]]


@dataclass(frozen=True, eq=False)
class Case:
    """A CT on the network's grid, its body, and the model."""

    ct: Volume
    body: BoolArray
    model: Path
    card: ModelCard


def measure(args: argparse.Namespace) -> Result:
    """Measure a volume from arrays with `--gpu`, else from DICOM to DICOM; all rivals take turns in one run."""
    device = choose_device(args.device)
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as name:
        folder = Path(name)
        model = folder / "model.safetensors"
        card = save_model(args, model)
        if args.gpu:
            ct, body = body_ct(args.slices, pixels_of(args, card.recipe), pixel_mm=pixel_mm_of(card.recipe))
            return _measure_network(args, Case(ct, body, model, card), device)
        # not at the top: a bare machine lacks pydicom and SimpleITK
        from scripts.benchmarks.parts.dicom_to_dicom import DicomCase

        dicom = DicomCase.make(args, folder, model)
        return _measure_network(args, Case(dicom.on_network_grid, dicom.body, model, card), device, dicom)


def _measure_network(
    args: argparse.Namespace, case: Case, device: torch.device, dicom: DicomCase | None = None
) -> Result:
    rivals: dict[str, Work] = {
        name: partial(synthesizer.apply, case.ct, grid="network")
        for name, synthesizer in _synthesizers(case.model, args.device).items()
    }
    peer = monai_peer.MonaiPeer(load_checkpoint(case.model, device=device)[0], case.card, device=device)
    if "monai" in args.peer:
        rivals[monai_peer.NAME] = lambda: peer.apply(case.ct)
    around = dicom.rivals(args.peer) if dicom is not None else {}
    times = alternate({**rivals, **around}, repeats=args.repeats, device=device, warm_up=not args.quick)

    slices, rows, columns = case.ct.geometry.shape
    cost = gflop(case.card.network, rows=rows, columns=columns)
    figures = [Figure(NETWORK, "s", walls(times[name]), of=name) for name in rivals]
    figures += [
        Figure("speed", "TFLOP/s", tuple(slices * cost / 1e3 / s for s in walls(times[name])), of=name)
        for name in rivals
    ]
    differences = _differences(case, peer, args.device) if "monai" in args.peer else []
    ratios = _ratios(times, differences, device) if "monai" in args.peer else []
    found = dicom.result(times, network=walls(times[OURS])) if dicom is not None else Result({}, ())
    run = {
        "model": case.card.name, "stages": case.card.network.stages, "slices": slices, "pixels": (rows, columns),
        "gflop_per_slice": cost, "flips_and_lookup": "off", "inside_body": float(case.body.mean()), **found.run,
    }  # fmt: skip
    return Result(run, [*figures, *differences, *found.figures], [*ratios, *found.ratios])


def _synthesizers(model: Path, device: str) -> dict[str, Synthesizer]:
    return {
        OURS: Synthesizer.load(model, device=device),
        OURS_FLOAT32: Synthesizer.load(model, device=device, precision="float32"),
    }


def _ratios(times: Times, differences: Sequence[Figure], device: torch.device) -> list[Ratio]:
    peer = walls(times[monai_peer.NAME])
    (largest_suv,) = next(figure.values for figure in differences if (figure.of, figure.name) == (OURS, LARGEST))
    targets = {OURS: FASTER if has_bfloat16(device.type) else FASTER_FLOAT32, OURS_FLOAT32: FASTER_FLOAT32}
    speeds = [
        Ratio(f"{NETWORK}: {monai_peer.NAME} / {name}", divide(peer, walls(times[name])), at_least=target)
        for name, target in targets.items()
    ]
    return [*speeds, Ratio(f"{LARGEST} / {MAX_DIFFERENCE_SUV:g} SUV", (largest_suv / MAX_DIFFERENCE_SUV,), at_most=1)]


def _differences(case: Case, peer: monai_peer.MonaiPeer, device: str) -> list[Figure]:
    """Return the differences of the PETs from the peer's inside the body."""
    expected = peer.apply(case.ct)[case.body]
    figures = [Figure("mean inside the body", "SUV", (float(expected.mean()),), of=monai_peer.NAME)]
    for name, synthesizer in _synthesizers(case.model, device).items():
        difference = np.abs(synthesizer.apply(case.ct, grid="network").array[case.body] - expected)
        figures.append(Figure(LARGEST, "SUV", (float(difference.max()),), of=name))
        figures.append(Figure("mean difference inside the body", "SUV", (float(difference.mean()),), of=name))
    return figures
