"""KonfAI's own U-Net with as many operations as our networks, on the same volume, file to file, as a process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from lib.errors import InputError
from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import read_card
from lib.networks.cascade import NetworkConfig
from lib.types import BoolArray
from scripts.benchmarks.measure import Duration, Figure, Ratio, Result, Work, divide, subtract, walls
from scripts.benchmarks.network import gflop
from scripts.benchmarks.programs import ROOT, run_quietly, synthesize_command
from scripts.konfai.program import Konfai, write_configuration

NAME = "KonfAI"
CONTEXT = 5  # slices, in its templates
MAX_WIDTH = 128
MIRRORED = re.compile(r"^    augmentations:\n(?:      .*\n)+", re.MULTILINE)
START_SLICES = 8  # of its smallest CT: more than the context
OURS_WHOLE, OURS_START = "ct2pet, file to file", "ct2pet, file to file, few slices"
PEER_WHOLE, PEER_START = f"{NAME}, file to file", f"{NAME}, file to file, few slices"
NOT_INSTALLED = (
    "{environment}: KonfAI is not installed there; install it with `python3 -m venv .venv-konfai && "
    ".venv-konfai/bin/pip install -r scripts/konfai/requirements.txt`, or leave out --peer konfai"
)


@dataclass(frozen=True, eq=False)
class KonfaiPeer:
    """Both programs on the same MetaImage files, which are on the network's grid: neither of them resamples.

    KonfAI's weights are those after one step of training, since only the time is measured.

    Attributes:
        ct: On the network's grid.
        body: Its mask, which KonfAI multiplies with.
        model: Our checkpoint.
        folder: Working folder, of this benchmark alone.
        device: Our device; KonfAI runs on the CPU.
    """

    ct: Volume
    body: BoolArray
    model: Path
    folder: Path
    device: str

    def rivals(self) -> dict[str, Work]:
        """Return both programs, on the whole CT and on a few slices of it; trains KonfAI's network first.

        Raises:
            InputError: KonfAI is not installed.
        """
        konfai, checkpoint = self._konfai(), self._train()
        few = slice(0, START_SLICES)
        cases = {"whole": slice(None), "start": few}
        files = {}
        for name, slices in cases.items():
            part = Volume(self.ct.array[slices], self.ct.geometry.slab(slices), Unit.HU)
            files[name] = write_volume_file(part, self.folder / "cases" / name / "case" / "CT.mha")
            body = replace(part, array=self.body[slices].astype(np.float32), unit=Unit.UNIT_RANGE)
            write_volume_file(body, self.folder / "cases" / name / "case" / "BODY.mha")
            self._configure("predict.yml", name)

        def theirs(name: str) -> None:
            konfai.run("PREDICTION", "-y", "--config", f"{name}.yml", "--models", checkpoint, log=f"{name}.log")

        def ours(name: str) -> None:
            out = self.folder / f"pet-{name}.mha"
            run_quietly(synthesize_command(files[name], self.model, out, device=self.device))

        return {
            PEER_WHOLE: lambda: theirs("whole"),
            OURS_WHOLE: lambda: ours("whole"),
            PEER_START: lambda: theirs("start"),
            OURS_START: lambda: ours("start"),
        }

    def result(self, times: Mapping[str, tuple[Duration, ...]]) -> Result:
        """Return figures and ratios; empty if KonfAI was not measured."""
        if PEER_WHOLE not in times:
            return Result({}, ())
        figures = []
        for of, start in ((OURS_WHOLE, OURS_START), (PEER_WHOLE, PEER_START)):
            figures.append(Figure("start-up", "s", walls(times[start]), of=of))
            figures.append(Figure("all steps", "s", subtract(walls(times[of]), walls(times[start])), of=of))
        working = {figure.of: figure.values for figure in figures if figure.name == "all steps"}
        whole = divide(walls(times[PEER_WHOLE]), walls(times[OURS_WHOLE]))
        ratios = [
            Ratio("file to file: KonfAI / ct2pet", whole, at_least=1),
            Ratio("the same without start-up", divide(working[PEER_WHOLE], working[OURS_WHOLE]), at_least=1),
        ]
        _, rows, columns = self.ct.geometry.shape
        return Result({"konfai_gflop_per_slice": gflop(self._network, rows=rows, columns=columns)}, figures, ratios)

    @cached_property
    def _network(self) -> NetworkConfig:
        """One network with the input and the depth of KonfAI's, of the width whose FLOP are nearest to ours."""
        ours, (_, rows, columns) = read_card(self.model).network, self.ct.geometry.shape
        wanted = gflop(ours, rows=rows, columns=columns)
        one = replace(ours, stages=1, members=1, context_slices=CONTEXT, detail_low=0.0, detail_high=0.0)
        candidates = (replace(one, base_channels=width) for width in range(1, MAX_WIDTH + 1))
        return min(candidates, key=lambda network: abs(gflop(network, rows=rows, columns=columns) - wanted))

    def _konfai(self) -> Konfai:
        environment = Path(os.environ.get("CT2PET_KONFAI") or ROOT / ".venv-konfai")
        program = environment / "bin" / "konfai"
        if not program.is_file():
            raise InputError(NOT_INSTALLED.format(environment=environment))
        self.folder.mkdir(parents=True, exist_ok=True)
        return Konfai(program, self.folder, threads=torch.get_num_threads(), report=_ignore)

    def _train(self) -> str:
        """Train for one epoch of a few slices; return the checkpoint, relative to the folder."""
        few = slice(0, START_SLICES)
        part = Volume(self.ct.array[few], self.ct.geometry.slab(few), Unit.HU)
        mask = replace(part, array=np.ones_like(part.array), unit=Unit.UNIT_RANGE)
        for case in ("train", "validation"):
            folder = self.folder / "cases" / "learn" / case
            write_volume_file(part, folder / "CT.mha")
            write_volume_file(mask, folder / "PET.mha")
            write_volume_file(mask, folder / "MASK.mha")
        (self.folder / "cases" / "validation.txt").write_text("validation\n")
        self._configure("train.yml", "train")
        self._konfai().run("TRAIN", "-y", "--config", "train.yml", log="train.log")
        checkpoints = sorted((self.folder / "Checkpoints" / "CT2PET").glob("*.pt"))
        return str(checkpoints[-1].relative_to(self.folder))

    def _configure(self, template: str, name: str) -> None:
        windows, step = read_card(self.model).recipe.windows, 2**self._network.depth
        rows, columns = (-(-size // step) * step for size in self.ct.geometry.shape[1:])
        widths = [CONTEXT, *(self._network.base_channels * 2**level for level in range(self._network.depth + 1))]
        path = write_configuration(
            template, self.folder / f"{name}.yml", name="CT2PET", epochs=1, subset="None", channels=widths,
            validation="cases/validation.txt", rows=rows, columns=columns, ct_low_hu=windows.ct_low_hu,
            ct_high_hu=windows.ct_high_hu, ct_span_hu=windows.ct_high_hu - windows.ct_low_hu,
        )  # fmt: skip
        text = MIRRORED.sub("    augmentations: None\n", path.read_text())  # every slice is drawn once
        path.write_text(text.replace("cases/test:", f"cases/{name}:"))


def _ignore(message: str) -> None:
    """Drop KonfAI's progress; its log has the same."""
