"""Statistics of the training CTs' profiles that show no single patient: means, covariances, and distances to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.learning.familiarity.profile import TEMPLATE, CTProfile
from lib.types import FloatArray

SHRINKAGE = 0.3  # of the histogram's covariance towards its diagonal mean: 14 numbers from some dozen patients
MIN_SD_SHARE = 0.1  # of the mean standard deviation: a channel that was constant in training must not dominate
HIGH_QUANTILE = 0.75  # of the slices' distances: a body region that training lacks may be part of the CT only
LEFT_RIGHT = 2
AXES = {"head_feet_likeness": 0, "front_back_likeness": 1, "left_right_likeness": LEFT_RIGHT}
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of profiles.

    Attributes:
        histogram_mean, histogram_precision: Of the histogram: mean (bins,), inverse of its shrunk covariance.
        template: Mean template, shape `TEMPLATE`.
        feature_mean, feature_sd: Of each channel's features over slices; empty without a network.
    """

    histogram_mean: Array
    histogram_precision: Array
    template: Array
    feature_mean: Array
    feature_sd: Array


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over profiles, from which one patient's can be subtracted."""

    count: int
    histogram: Array
    histogram_outer: Array
    template: Array
    slices: int
    features: Array
    features_squared: Array

    @classmethod
    def of(cls, profiles: Sequence[CTProfile]) -> Sums:
        """Return the sums over profiles."""
        histograms = np.stack([profile.histogram for profile in profiles]).astype(np.float64)
        features = np.concatenate([profile.features for profile in profiles]).astype(np.float64)
        return cls(
            count=len(profiles),
            histogram=histograms.sum(0),
            histogram_outer=histograms.T @ histograms,
            template=np.sum([profile.template for profile in profiles], axis=0, dtype=np.float64),
            slices=len(features),
            features=features.sum(0),
            features_squared=(features**2).sum(0),
        )

    def without(self, other: Sums) -> Sums:
        """Return the sums over the other profiles."""
        return Sums(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))

    def statistics(self) -> Statistics:
        """Return means and (co)variances."""
        mean = self.histogram / self.count
        covariance = self.histogram_outer / self.count - np.outer(mean, mean)
        level = max(float(np.trace(covariance)) / len(mean), 1e-6)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(mean))
        slices = max(1, self.slices)
        feature_mean = self.features / slices
        variance = np.maximum(self.features_squared / slices - feature_mean**2, 0)
        floor = MIN_SD_SHARE * float(np.sqrt(variance).mean()) if variance.size else 0.0
        return Statistics(
            histogram_mean=mean,
            histogram_precision=np.linalg.inv(shrunk),
            template=self.template / self.count,
            feature_mean=feature_mean,
            feature_sd=np.sqrt(variance + floor**2 + 1e-12),
        )


def distances(profile: CTProfile, statistics: Statistics) -> dict[str, float]:
    """Return a profile's distances to the statistics, and the likeness of its asymmetries (-1 to 1), by name."""
    off = profile.histogram - statistics.histogram_mean
    found = {"histogram_distance": float(np.sqrt(off @ statistics.histogram_precision @ off))}
    if profile.features.size and profile.features.shape[1] == statistics.feature_mean.size:
        z = (profile.features - statistics.feature_mean) / statistics.feature_sd
        found["network_distance"] = float(np.quantile(np.sqrt((z**2).mean(axis=1)), HIGH_QUANTILE))
    for name, axis in AXES.items():
        likeness = _likeness(_asymmetry(profile.template, axis), _asymmetry(statistics.template, axis))
        if likeness is not None:
            found[name] = likeness
    return found


def template_of(flat: Sequence[float]) -> Array:
    """Return a template from its values in a card."""
    return np.asarray(flat, np.float64).reshape(TEMPLATE)


def _asymmetry(template: FloatArray | Array, axis: int) -> Array:
    """Return the part of a template that changes its sign in a mirror; only the left-right one depends on the side."""
    if axis != LEFT_RIGHT:
        template = (template + np.flip(template, LEFT_RIGHT)) / 2
    return np.asarray((template - np.flip(template, axis)) / 2, np.float64)


def _likeness(of_ct: Array, of_training: Array) -> float | None:
    """Return the cosine of two asymmetries; None if there is none."""
    norm = float(np.linalg.norm(of_ct) * np.linalg.norm(of_training))
    return float((of_ct * of_training).sum() / norm) if norm > 1e-9 else None
