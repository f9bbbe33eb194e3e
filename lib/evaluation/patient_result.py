"""The metrics of one pair, by method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.evaluation.calibration_check import Trust
from lib.evaluation.clinical_metrics import Reading
from lib.evaluation.slice_metrics import Comparison
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import METHODS
from lib.metrics.volume import VolumeMetrics
from lib.pairing.quality_checks.alignment import Shift
from lib.pairing.split import Side


@dataclass(frozen=True)
class PatientResult:
    """One pair.

    Attributes:
        side: What the model used the patient for.
        comparison, reading, in_3d: The figures by method.
        absent_peers: By peer, why nothing of it can be compared here.
        trust: How well the errors the model's card expects hold; None where it expects none.
        pictures: File names beside the report: slices, and projections.
        shift: Where the real PET lies against the CT.
    """

    patient_id: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    side: Side
    comparison: Comparison
    reading: Reading
    in_3d: Mapping[str, VolumeMetrics]
    absent_peers: Mapping[str, str] = field(default_factory=dict)
    trust: Trust | None = None
    pictures: tuple[str, ...] = ()
    shift: Shift = field(default_factory=Shift)

    @property
    def seen(self) -> str:
        """The side as files and the report name it: `train`, `validation`, or `no` for every other one."""
        return self.side.value if self.side.shaped_weights else "no"

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the other programs whose PET of this CT was compared."""
        return tuple(name for name in self.comparison.figures if name not in METHODS)

    def figures(self, method: str) -> dict[str, float]:
        """Return all figures of a method by name; NaN where not defined."""
        metrics = self.comparison.figures[method]
        return {**vars(metrics), **vars(self.in_3d[method]), **self.reading.figures(method)}

    def as_json(self) -> dict[str, Any]:
        """Return one entry of the contract's `patients`."""
        return {
            "patient_id": self.patient_id,
            "ct_series_instance_uid": self.ct_series_instance_uid,
            "pet_series_instance_uid": self.pet_series_instance_uid,
            "seen": self.seen,
            **self.comparison.figures["model"].as_json(),
            "baselines": {name: self.comparison.figures[name].as_json() for name in BASELINE_NAMES},
            **self.reading.as_json(),
            "in_3d": {name: metrics.as_json() for name, metrics in self.in_3d.items()},
            "peers": {name: self.comparison.figures[name].as_json() for name in self.external},
            "absent_peers": dict(self.absent_peers),
            "uncertainty": None if self.trust is None else self.trust.as_json(),
            "pictures": list(self.pictures),
            **self.shift.as_json(),
        }
