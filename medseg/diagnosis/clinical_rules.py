"""Clinical rules without training: score thresholds, grades from lesion counts, the slope of a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medseg.errors import DataError
from medseg.typing import BoolArray, FloatArray

ScoreBreakdown = list[dict[str, Any]]


@dataclass(frozen=True)
class ScoreThreshold:
    """Weighted sum of features, compared with limits between classes in rising order.

    The ABCD rule of dermoscopy is TDS = 1.3·A + 0.1·B + 0.5·C + 0.5·D, above 5.45 highly suspicious of melanoma, from
    4.75 to 5.45 suspicious (Stolz, Eur J Dermatol 4, 1994; Nachbar, J Am Acad Dermatol 30, 1994).

    weights: points per unit of each feature; limits (K − 1,); doubtful: range of the sum that needs review.
    """

    weights: Mapping[str, float]
    limits: tuple[float, ...]
    doubtful: tuple[float, float] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(self.weights)

    def margins(self, features: pd.DataFrame) -> FloatArray:
        """Features, one row per case (R rows) → logits (R, K), NaN if a feature is undefined."""
        total = self._total(features)
        over = total[:, None] - np.asarray(self.limits)  # (R, K − 1)
        return np.concatenate([np.zeros((len(over), 1)), np.cumsum(over, axis=1)], axis=1)

    def review_reasons(self, features: pd.DataFrame) -> list[str]:
        """Reason for a review of each case; empty without one."""
        low, high = self.doubtful or (np.inf, -np.inf)
        text = f"points: between {low:g} and {high:g}"
        totals = self._total(features)
        notes = [f"{total:.2f} {text}" if low <= total <= high else "" for total in totals]
        return _unless_undefined(notes, np.isnan(totals), features[list(self.reads)])

    def sheet(self, features: Mapping[str, float]) -> ScoreBreakdown:
        """One case's points by feature, and their sum."""
        _require(self.reads, features)
        rows: ScoreBreakdown = [
            {"what": name, "value": features[name], "weight": weight, "points": weight * features[name]}
            for name, weight in self.weights.items()
        ]
        total = float(sum(row["points"] for row in rows))
        limits = ", ".join(f"{limit:g}" for limit in self.limits)
        return [*rows, {"what": f"sum (limit {limits})", "value": None, "weight": None, "points": total}]

    def _total(self, features: pd.DataFrame) -> FloatArray:
        _require(self.reads, features)
        total = sum(features[name].to_numpy(np.float64) * weight for name, weight in self.weights.items())
        return np.asarray(total)


@dataclass(frozen=True)
class RetinopathyGrade:
    """Grade 0 to 4 of diabetic retinopathy from counts of lesions (ICDR; Wilkinson, Ophthalmology 110, 2003).

    0: no lesion. 1: only red lesions that are too small for haemorrhages (microaneurysms). 3: more than `severe`
    haemorrhages in each quadrant. 2: anything between. New vessels, venous beading and IRMA are not measured, so no eye
    gets grade 4, and every grade from 1 on carries a note.

    red, bright: names of the labels of haemorrhages and of hard exudates; false_positives_per_image: by label, the
    mean number of false-positive lesions of the segmenter (on its held-out images); so many lesions are subtracted, a
    quarter of them in each quadrant.
    """

    red: str = "haemorrhages"
    bright: str = "hard_exudates"
    false_positives_per_image: Mapping[str, float] = field(default_factory=dict)
    severe: int = 20
    note: str = "cannot exclude proliferative retinopathy: new vessels, IRMA and venous beading are not measured"
    macula: str = "hard exudate within a disc diameter of the fovea: possible macular oedema"

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the features."""
        reds = (f"{self.red}.{name}" for name in ("count", "count_large", "fewest_large_in_quadrant"))
        return (*reds, f"{self.bright}.count")

    def grades(self, features: pd.DataFrame) -> FloatArray:
        """Features, one row per eye (R rows) → grade (R,), NaN if counts are undefined."""
        _require(self.reads, features)
        red, large, fewest, bright = (features[name].to_numpy(np.float64) for name in self.reads)
        false_red = self.false_positives_per_image.get(self.red, 0)
        no_exudates = bright <= self.false_positives_per_image.get(self.bright, 0)
        no_lesions = (red <= false_red) & no_exudates
        severe = fewest - false_red / 4 > self.severe
        grade = np.select([no_lesions, severe, (large <= false_red) & no_exudates], [0.0, 3.0, 1.0], 2.0)
        sized = np.isfinite(large) | no_lesions  # without a disc sizes are unknown; grade 0 needs none
        return np.where(np.isfinite(red + bright) & sized, grade, np.nan)

    def margins(self, features: pd.DataFrame) -> FloatArray:
        """Logits (R, 5), decreasing by one per grade of difference."""
        return -np.abs(self.grades(features)[:, None] - np.arange(5.0))

    def review_reasons(self, features: pd.DataFrame) -> list[str]:
        """Notes on each eye: the rule's limits for grades from 1 on, possible macular oedema (ETDRS), or the undefined
        features that prevent a grade.
        """
        grades, near = self.grades(features), f"{self.bright}.count_macula"
        count = features[near].to_numpy(np.float64) if near in features else np.zeros(len(features))
        macula = (count > 0) & (
            features[f"{self.bright}.count"] > self.false_positives_per_image.get(self.bright, 0)
        ).to_numpy()
        notes = [
            "; ".join([self.note, *([self.macula] if edge else [])]) if grade >= 1 else ""
            for grade, edge in zip(grades, macula, strict=True)
        ]
        return _unless_undefined(notes, np.isnan(grades), features[list(self.reads)])

    def sheet(self, features: Mapping[str, float]) -> ScoreBreakdown:
        """Lesion counts by label, in total and by quadrant."""
        return [
            {"what": name, "value": value, "weight": None, "points": None}
            for label in (self.red, self.bright)
            for name, value in features.items()
            if name.startswith(f"{label}.count")
        ]


def slope_states(volume: FloatArray, times: FloatArray, half_width: float = 0.25) -> FloatArray:
    """Rate of change (T,) per s of a volume (T,) at times (T,) s: the slope of a line through the frames within
    `half_width` s, at least one on each side; positive during inhalation. NaN with fewer than two known frames.
    """
    slopes = np.full(len(volume), np.nan)
    known = np.flatnonzero(np.isfinite(volume))
    for t in range(len(volume)):
        near = known[(np.abs(times[known] - times[t]) <= half_width) | (np.abs(known - t) <= 1)]
        if len(near) >= 2 and np.ptp(times[near]) > 0:
            slopes[t] = np.polyfit(times[near] - times[t], volume[near], 1)[0]
    return slopes


@dataclass(frozen=True)
class VolumeSlope:
    """State of each frame from the slope of a feature: class 1 of two if it rises (inhale), class 0 if it falls.

    features: names of features that are summed, such as both lungs' volumes; NaN in one makes the sum NaN.
    """

    features: Sequence[str]
    half_width: float = 0.25  # s

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(self.features)

    def margins_over_time(self, sequence: pd.DataFrame, times: FloatArray) -> FloatArray:
        """Features of one sequence, one row per frame (T rows), at times (T,) s or frame numbers → logits (T, 2)."""
        _require(self.reads, sequence)
        volume = sequence[list(self.features)].sum(axis=1, skipna=False).to_numpy(np.float64)
        slope = slope_states(volume, times, self.half_width)
        scale = np.nanstd(slope) if np.isfinite(slope).any() and np.nanstd(slope) > 0 else 1.0
        return np.stack([np.zeros(len(slope)), slope / scale], axis=1)


def _unless_undefined(notes: list[str], undefined: BoolArray, features: pd.DataFrame) -> list[str]:
    """Return each row's note; if the rule is undefined there (R,), list the undefined features that it reads."""
    missing = features.isna().to_numpy()  # (R, features)
    names = [", ".join(features.columns[row]) for row in missing]
    return [
        f"the rule says nothing, undefined: {name}" if gap else text
        for text, gap, name in zip(notes, undefined, names, strict=True)
    ]


def _require(names: Sequence[str], features: Mapping[str, Any] | pd.DataFrame) -> None:
    missing = [name for name in names if name not in features]
    if missing:
        raise DataError(
            f"the clinical rule reads {', '.join(missing)}, which the features lack; use the features of the "
            "organ's recipe, or disable the rule with organ.clinical_rule=null",
            code="clinical-rule",
        )
