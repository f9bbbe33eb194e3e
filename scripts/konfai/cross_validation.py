"""KonfAI's U-Net under our outer folds: equal operations, equal CPU time, the same patients and measures."""

from __future__ import annotations

import csv
import json
import math
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.errors import PreparedDataError
from lib.experiments.nested.measure import MEASURED, mean_of_pairs, measure_pair
from lib.experiments.nested.table import comparison_table
from lib.files import write_text
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.normalize import denormalize_pet
from lib.imaging.volume import Unit
from lib.learning.cross_validation.folds import assign_folds
from lib.learning.cross_validation.out_of_fold import all_slices
from lib.learning.recipe import Recipe
from lib.learning.validation import fit_prepared_baselines
from lib.metrics.baselines import BASELINE_NAMES
from lib.networks.cascade import NetworkConfig, forward_flops
from lib.networks.precision import choose_device
from lib.pairing.prepared import PreparedPair, PreparedSet
from scripts.konfai.cases import images_with_pet, images_without_pet
from scripts.konfai.program import Konfai, write_configuration

CONTEXT = 5  # slices, in the templates
PACE_EPOCHS = 2  # of one patient: what two epochs take more than none is their time without start-up
PLANNED_SHARE = 0.95  # of the time, for epochs; the rest is start-up and caching
Measured = dict[str, dict[str, dict[str, float]]]  # by patient, method and metric


@dataclass(frozen=True)
class Settings:
    """How the patients are divided, and what each training may use.

    Attributes:
        folds: Outer folds, as of `main.py ablate`.
        together: Folds that a network leaves out at once; the networks of `ablate` leave out two.
        minutes: CPU time of each training.
        threads: Of KonfAI.
    """

    folds: int
    together: int
    minutes: float
    threads: int

    def groups(self) -> list[range]:
        """Return the folds that each network leaves out."""
        return [range(first, min(first + self.together, self.folds)) for first in range(0, self.folds, self.together)]


class CrossValidation:
    """Trains one network of KonfAI for each group of folds, and measures the patients it was trained without.

    Args:
        prepared: Arrays of all patients.
        recipe: Ours, whose ensemble sets the operations.
        settings: Folds and time.
        program: KonfAI's program.
        out: Output folder; finished groups in it are not repeated.
        report: Called with messages.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        recipe: Recipe,
        settings: Settings,
        *,
        program: Path,
        out: Path,
        report: Callable[[str], None],
    ) -> None:
        if prepared.preparation != recipe.preparation:
            raise PreparedDataError("the arrays were prepared with another recipe; prepare them again with this one")
        self._prepared, self._recipe, self._settings = prepared, recipe, settings
        self._out, self._work, self._report = out, out / "work", report
        self._konfai = Konfai(program, self._work, threads=settings.threads, report=report)
        self._fold_of = assign_folds(prepared, settings.folds)

    @property
    def title(self) -> str:
        """One line about what was compared."""
        members, settings = self._settings.folds - 1, self._settings
        return (
            f"KonfAI under the {settings.folds} outer folds, {settings.together} left out at once: a U-Net of "
            f"{self.channels[1]} channels ({self._gflop(self._network(self.channels[1])):.1f} GFLOP a slice; "
            f"our {members} networks {members * self._gflop(self._recipe.network):.1f}), "
            f"{settings.minutes:g} minutes of CPU time each"
        )

    @cached_property
    def channels(self) -> list[int]:
        """KonfAI's channels, of the width with the operations nearest to those of our ensemble."""
        wanted = (self._settings.folds - 1) * self._gflop(self._recipe.network)
        width = min(range(1, 129), key=lambda width: abs(self._gflop(self._network(width)) - wanted))
        return [CONTEXT, *(width * 2**level for level in range(self._recipe.network.depth + 1))]

    def measure(self) -> Measured:
        """Return the metrics of KonfAI and of the baselines for every patient, out of fold."""
        measured: Measured = {}
        for number in range(1, len(self._settings.groups()) + 1):
            measured |= self.measure_group(number)
        return dict(sorted(measured.items()))

    def measure_group(self, number: int) -> Measured:
        """Return the metrics for the patients of one group of folds, counted from 1; trains if they are not known."""
        done, name = self._out / f"group-{number}.json", f"GROUP{number}"
        if not done.is_file():
            self._export()
            group = self._settings.groups()[number - 1]
            patients = [patient for patient, fold in self._fold_of.items() if fold in group]
            self._report(f"Group {number}: without {len(patients)} patients")
            checkpoint, training = self._train(name, without=patients)
            self._predict(name, checkpoint, patients)
            document = {"training": training, "patients": self._measure(name, patients)}
            write_text(done, json.dumps(document, indent=1))
        patients_metrics: Measured = json.loads(done.read_text())["patients"]
        return patients_metrics

    def _network(self, width: int) -> NetworkConfig:
        """KonfAI's network in our words."""
        return NetworkConfig(
            stages=1, base_channels=width, depth=self._recipe.network.depth, context_slices=CONTEXT,
            normalization="batch",
        )  # fmt: skip

    def _gflop(self, network: NetworkConfig) -> float:
        rows, columns = self._patch
        return forward_flops(network, rows=rows, columns=columns) / 1e9

    @cached_property
    def _patch(self) -> tuple[int, int]:
        """Rows and columns that hold any slice, in multiples of what the network's poolings need."""
        step = 2**self._recipe.network.depth
        rows, columns = (
            math.ceil(max(pair.shape[axis] for pair in self._prepared.pairs) / step) * step for axis in (1, 2)
        )
        return rows, columns

    @cached_property
    def _values(self) -> dict[str, object]:
        """Values of the templates that do not depend on the group."""
        windows = self._recipe.windows
        rows, columns = self._patch
        return {
            "channels": self.channels, "rows": rows, "columns": columns, "validation": "None",
            "ct_low_hu": windows.ct_low_hu, "ct_high_hu": windows.ct_high_hu,
            "ct_span_hu": windows.ct_high_hu - windows.ct_low_hu,
        }  # fmt: skip

    def _export(self) -> None:
        """Write every pair for learning, and without its PET for prediction."""
        cases = self._work / "cases"
        for pair in self._prepared.pairs:
            arrays = self._prepared.arrays(pair)
            for folder, images in (("learn", images_with_pet(arrays)), ("test", images_without_pet(arrays))):
                for name, volume in images.items():
                    path = cases / folder / pair.id / f"{name}.mha"
                    if not path.is_file():
                        write_volume_file(volume, path)

    def _pairs(self, patients: Sequence[str]) -> list[PreparedPair]:
        return [pair for pair in self._prepared.pairs if pair.patient_id in patients]

    def _train(self, name: str, *, without: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return the checkpoint of the last epoch, relative to KonfAI's folder, and what the training took."""
        names = [pair.id for pair in self._prepared.pairs if pair.patient_id not in without]
        epoch_s = self._epoch_cpu_s(f"{name}-PACE", names)
        epochs = max(1, int(PLANNED_SHARE * self._settings.minutes * 60 / epoch_s))
        self._report(f"{epochs} epochs of {epoch_s:.0f} s on {len(names)} cases")
        cpu_s = self._run_training(name, names, epochs)
        checkpoint = max(
            (
                path
                for path in (self._work / "Checkpoints" / name).glob("*.pt")
                if not path.name.startswith(("crash_", "resume_"))
            ),
            key=lambda path: path.stat().st_mtime,
        )
        return str(checkpoint.relative_to(self._work)), {
            "epochs": epochs, "cpu_minutes": round(cpu_s / 60, 2), "cases": len(names)
        }  # fmt: skip

    def _epoch_cpu_s(self, name: str, names: Sequence[str]) -> float:
        """Return the CPU time of an epoch, from a short training on the first case."""
        slices = {pair.id: pair.shape[0] for pair in self._prepared.pairs}
        first = names[:1]
        one = self._run_training(name, first, 1)
        more = self._run_training(name, first, 1 + PACE_EPOCHS)
        return (more - one) / PACE_EPOCHS / slices[first[0]] * sum(slices[name] for name in names)

    def _run_training(self, name: str, names: Sequence[str], epochs: int) -> float:
        """Train on some cases, and return the CPU time, s."""
        path = write_configuration(
            "train.yml", self._work / f"{name}.yml", name=name, epochs=epochs, subset=list(names),
            **self._values,
        )  # fmt: skip
        before = _child_cpu_s()
        self._konfai.run("TRAIN", "-y", "--config", path.name, log=f"{name}.log")
        return _child_cpu_s() - before

    def _predict(self, name: str, checkpoint: str, patients: Sequence[str]) -> None:
        names = [pair.id for pair in self._pairs(patients)]
        path = write_configuration(
            "predict.yml", self._work / f"{name}-predict.yml", name=name, subset=names, **self._values
        )
        self._konfai.run("PREDICTION", "-y", "--config", path.name, "--models", checkpoint, log=f"{name}-predict.log")

    def _measure(self, name: str, patients: Sequence[str]) -> Measured:
        """Return the metrics of KonfAI's PETs and of baselines that were fitted to the other patients."""
        training = self._prepared.only([patient for patient in self._fold_of if patient not in patients])
        baselines = fit_prepared_baselines(training, all_slices(training))
        predictions = self._work / "Predictions" / name / "Dataset"
        by_patient: dict[str, list[dict[str, dict[str, float]]]] = {}
        for pair in self._pairs(patients):
            arrays = self._prepared.arrays(pair)
            volume = read_volume_file(predictions / pair.id / "PET.mha", unit=Unit.UNIT_RANGE)
            if not volume.geometry.same_grid_as(pair.geometry()):
                raise PreparedDataError(f"{pair.id}: KonfAI's PET is not on the grid of the arrays")
            suv_bw = denormalize_pet(volume.array, self._recipe.windows)
            methods = {"KonfAI": suv_bw} | {
                baseline: baselines.predict(baseline, arrays.ct_hu(), arrays.body()) for baseline in BASELINE_NAMES
            }
            device = choose_device("cpu")
            by_patient.setdefault(pair.patient_id, []).append(
                {method: measure_pair(np.asarray(suv), arrays, device=device) for method, suv in methods.items()}
            )
        return {patient: mean_of_pairs(pairs) for patient, pairs in by_patient.items()}


def write_table(measured: Measured, out: Path, *, ours: Path | None, title: str) -> Path:
    """Write `konfai.md` and `patients.csv`, and return the former.

    Args:
        measured: Metrics by patient and method.
        out: Output folder.
        ours: `patients.csv` of `main.py ablate` with the same patients, or None.
        title: Of the table.

    Raises:
        PreparedDataError: `ours` has other patients.
    """
    methods = {
        method: {patient: of[method] for patient, of in measured.items()} for method in ("KonfAI", *BASELINE_NAMES)
    }
    if ours is not None:
        methods = {"ct2pet": _read_ours(ours, set(measured))} | methods
    with (out / "patients.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "method", *MEASURED])
        for patient in measured:
            for method, values in methods.items():
                writer.writerow([patient, method, *(values[patient].get(metric, "") for metric in MEASURED)])
    against = (
        ""
        if ours is None
        else "\n\nDifference from KonfAI:\n\n"
        + comparison_table({name: methods[name] for name in ("ct2pet", "KonfAI")}, list(measured), reference="KonfAI")
    )
    text = f"{title}.\n\n{comparison_table(methods, list(measured))}{against}\n"
    write_text(out / "konfai.md", text)
    return out / "konfai.md"


def _read_ours(path: Path, patients: set[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of the first method in a `patients.csv`, by patient."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = rows[0]["method"] if rows else ""
    values = {
        row["patient_id"]: {metric: float(row[metric]) for metric in MEASURED if row.get(metric)}
        for row in rows
        if row["method"] == first
    }
    if set(values) != patients:
        raise PreparedDataError(
            f"{path}: other patients than the arrays; expected the result of `main.py ablate` on them"
        )
    return values


def _child_cpu_s() -> float:
    """Return the CPU time of all finished child processes, s."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime
