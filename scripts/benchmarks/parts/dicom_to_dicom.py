"""The way of a CT around the network, step by step and as a process: read, resample, write; and KonfAI's."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.dicom.scan.open_ct import find_ct, read_ct_series
from lib.dicom.write.files import write_series
from lib.imaging.body import body_mask
from lib.imaging.orientation import to_canonical
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Volume
from lib.learning.checkpoint import read_card
from lib.synthesis.dicom_out import plan_pet_series
from lib.synthesis.synthesizer import Synthesizer
from lib.types import BoolArray, Series
from scripts.benchmarks.measure import Duration, Figure, Ratio, Result, Work, cpus, subtract, walls
from scripts.benchmarks.peers.konfai import KonfaiPeer
from scripts.benchmarks.programs import phantom_ct, run_quietly, synthesize_command

STEPS = ("scan and plan", "read", "write")
VOLUME, WHOLE, START = "network and resampling", "DICOM to DICOM", "DICOM to DICOM, two slices"
BY_STEP, BY_PROCESS = "ct2pet by step", "ct2pet, DICOM to DICOM"
AROUND_SHARE = 0.25  # of the time from DICOM to DICOM, at most, for all that is not the network
START_SLICES = 2


@dataclass(frozen=True, eq=False)
class DicomCase:
    """A CT as DICOM, the same CT of two slices, and a model.

    Attributes:
        ct: Folder of the CT.
        start_ct: Folder of a CT of two slices and the same matrix, for the start-up.
        series: The CT's series.
        volume: Its voxels, HU.
        on_network_grid: The same on the network's grid, in canonical order.
        body: Mask of the body on that grid.
        model: The checkpoint.
        folder: For what is written.
        device: Name of the device.
    """

    ct: Path
    start_ct: Path
    series: Series
    volume: Volume
    on_network_grid: Volume
    body: BoolArray
    model: Path
    folder: Path
    device: str

    @classmethod
    def make(cls, args: argparse.Namespace, folder: Path, model: Path) -> DicomCase:
        """Return the case of the command line: the CT of a folder, or a phantom's."""
        ct = args.ct or phantom_ct(folder / "phantom", slices=args.slices, matrix=args.matrix)
        start_ct = phantom_ct(folder / "start", slices=START_SLICES, matrix=args.matrix)
        series = find_ct(ct)
        volume = read_ct_series(series)
        canonical = to_canonical(volume)
        grid = read_card(model).recipe.grid.on(canonical.geometry)
        on_grid = Volume(resample_in_plane(canonical.array, *grid.shape[1:]), grid, volume.unit)
        return cls(ct, start_ct, series, volume, on_grid, body_mask(on_grid), model, folder, args.device)

    def rivals(self, peers: Collection[str]) -> dict[str, Work]:
        """Return what is measured around the network, by name."""
        synthesizer = Synthesizer.load(self.model, device=self.device)
        planned = plan_pet_series(synthesizer, self.series)
        pet = synthesizer.apply(self.volume)
        numbers = itertools.count()

        def write() -> None:
            write_series(planned.fill(pet), self.folder / f"written-{next(numbers)}")

        def process(ct: Path) -> None:
            run_quietly(synthesize_command(ct, self.model, self.folder / f"pet-{next(numbers)}", device=self.device))

        works: dict[str, Work] = {
            VOLUME: lambda: synthesizer.apply(self.volume),
            STEPS[0]: lambda: plan_pet_series(synthesizer, find_ct(self.ct)),
            STEPS[1]: lambda: read_ct_series(self.series),
            STEPS[2]: write,
            WHOLE: lambda: process(self.ct),
            START: lambda: process(self.start_ct),
        }
        return works | (self._konfai().rivals() if "konfai" in peers else {})

    def result(self, times: dict[str, tuple[Duration, ...]], *, network: Sequence[float]) -> Result:
        """Return the figures and ratios of all that is not the network alone.

        Args:
            times: Durations by name; with those of KonfAI, if it was measured.
            network: The network's wall-clock time, s.
        """
        start, whole = walls(times[START]), walls(times[WHOLE])
        working = subtract(whole, start)
        working_cpu = subtract(cpus(times[WHOLE]), cpus(times[START]))
        figures = [Figure(name, "s", walls(times[name]), of=BY_STEP) for name in STEPS[:2]]
        figures += [
            Figure("network", "s", tuple(network), of=BY_STEP),
            Figure("resample", "s", tuple(max(0.0, s) for s in subtract(walls(times[VOLUME]), network)), of=BY_STEP),
            Figure(STEPS[2], "s", walls(times[STEPS[2]]), of=BY_STEP),
            Figure("start-up", "s", start, of=BY_PROCESS),
            Figure("all steps", "s", working, of=BY_PROCESS),
            Figure("all steps, CPU", "CPU s", working_cpu, of=BY_PROCESS),
        ]
        share = tuple(1 - part / all_s for part, all_s in zip(network, working, strict=True))
        ratios = [Ratio("share of DICOM to DICOM that is not network", share, at_most=AROUND_SHARE)]
        konfai = self._konfai().result(times)
        run = {"matrix": self.volume.geometry.shape[1:], **konfai.run}
        return Result(run, [*figures, *konfai.figures], [*ratios, *konfai.ratios])

    def _konfai(self) -> KonfaiPeer:
        return KonfaiPeer(self.on_network_grid, self.body, self.model, self.folder / "konfai", device=self.device)
