"""The result of one CT and PET pair: its metrics by method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.evaluation.calibration_check import CalibrationCheck
from lib.evaluation.clinical_metrics import ClinicalMetrics
from lib.evaluation.interval_coverage import Shares
from lib.evaluation.lesions.patient import MethodLesions
from lib.evaluation.organ_metrics import PairOrgans
from lib.evaluation.slice_metrics import Comparison
from lib.metrics.appearance import AppearanceMetrics
from lib.metrics.baselines import ORGAN_MEDIAN
from lib.metrics.criteria import METHODS
from lib.metrics.volume import VolumeMetrics
from lib.pairing.quality_checks.alignment import Shift
from lib.pairing.split import Side
from lib.types import finite_or_none


@dataclass(frozen=True)
class PatientResult:
    """The result of one CT and PET pair.

    Attributes:
        side: The side of the model's split that the patient is on.
        comparison, clinical, in_3d: Metrics by method.
        missing_external: By external program, why its prediction is missing.
        appearance: What a reader sees at once, by method.
        lesions: Lesions found, missed and fabricated, by method.
        calibration_check: Expected against observed errors; None where the model card has no calibration.
        interval_shares: Share of its voxels, regions and lesions in the model's intervals; None without intervals.
        pictures: File names next to the report: slices and projections.
        shift: Shift of the real PET from the CT.
        organs: Mean SUV of each segmented organ by method.
    """

    patient_id: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    side: Side
    comparison: Comparison
    clinical: ClinicalMetrics
    in_3d: Mapping[str, VolumeMetrics]
    appearance: Mapping[str, AppearanceMetrics]
    lesions: Mapping[str, MethodLesions]
    missing_external: Mapping[str, str] = field(default_factory=dict)
    calibration_check: CalibrationCheck | None = None
    interval_shares: Shares | None = None
    pictures: tuple[str, ...] = ()
    shift: Shift = field(default_factory=Shift)
    organs: PairOrgans = field(default_factory=PairOrgans)

    @property
    def seen(self) -> str:
        """The side as written to files and the report: `train`, `validation`, or `no` for unseen patients."""
        return self.side.value if self.side.shaped_weights else "no"

    @property
    def methods(self) -> tuple[str, ...]:
        """The model and its baselines, `organ_median` among them where it is available."""
        return (*METHODS, ORGAN_MEDIAN) if ORGAN_MEDIAN in self.comparison.metrics else METHODS

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the external programs whose PET of this CT was compared."""
        return tuple(name for name in self.comparison.metrics if name not in self.methods)

    def metrics(self, method: str) -> dict[str, float]:
        """Return all metrics of a method by name; NaN where undefined."""
        return {
            **vars(self.comparison.metrics[method]),
            **vars(self.in_3d[method]),
            **self.clinical.metrics(method),
            **vars(self.appearance[method]),
            **self.lesions[method].metrics(),
        }

    def as_json(self) -> dict[str, Any]:
        """Return one entry of the contract's `patients`."""
        return {
            "patient_id": self.patient_id,
            "ct_series_instance_uid": self.ct_series_instance_uid,
            "pet_series_instance_uid": self.pet_series_instance_uid,
            "seen": self.seen,
            **self.comparison.metrics["model"].as_json(),
            "baselines": {name: self.comparison.metrics[name].as_json() for name in self.methods[1:]},
            **self.clinical.as_json(),
            "in_3d": {name: metrics.as_json() for name, metrics in self.in_3d.items()},
            "appearance": {name: metrics.as_json() for name, metrics in self.appearance.items()},
            "lesions": {
                name: lesions.as_json()
                if name == "model" or name in self.external
                else finite_or_none(lesions.metrics())
                for name, lesions in self.lesions.items()
            },
            "peers": {name: self.comparison.metrics[name].as_json() for name in self.external},
            "absent_peers": dict(self.missing_external),
            "uncertainty": None if self.calibration_check is None else self.calibration_check.as_json(),
            "pictures": list(self.pictures),
            **self.shift.as_json(),
            "organs": self.organs.as_json(),
        }
