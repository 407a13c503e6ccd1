"""Rules of the clinic, which learn nothing: points against limits, grades from lesion counts, the slope of a volume."""

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
    """Weighted points of measures, cut at limits between classes in rising order.

    The ABCD rule of dermoscopy is TDS = 1.3·A + 0.1·B + 0.5·C + 0.5·D, above 5.45 highly suspicious of melanoma, from
    4.75 to 5.45 suspicious (Stolz, Eur J Dermatol 4, 1994; Nachbar, J Am Acad Dermatol 30, 1994).

    weights: points of each measure; limits (K − 1,); doubtful: range of the sum that a person should look at.
    """

    weights: Mapping[str, float]
    limits: tuple[float, ...]
    doubtful: tuple[float, float] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the measures."""
        return tuple(self.weights)

    def margins(self, measures: pd.DataFrame) -> FloatArray:
        """Measures, a row a case (R rows) → logits (R, K), NaN where a measure is undefined."""
        total = self._total(measures)
        over = total[:, None] - np.asarray(self.limits)  # (R, K − 1)
        return np.concatenate([np.zeros((len(over), 1)), np.cumsum(over, axis=1)], axis=1)

    def doubts(self, measures: pd.DataFrame) -> list[str]:
        """Why a person should look at each case; blank where nothing speaks for it."""
        low, high = self.doubtful or (np.inf, -np.inf)
        text = f"points: between {low:g} and {high:g}"
        totals = self._total(measures)
        notes = [f"{total:.2f} {text}" if low <= total <= high else "" for total in totals]
        return _unless_undefined(notes, np.isnan(totals), measures[list(self.reads)])

    def sheet(self, measures: Mapping[str, float]) -> ScoreBreakdown:
        """One case's points line by line, and their sum."""
        _require(self.reads, measures)
        rows: ScoreBreakdown = [
            {"what": name, "value": measures[name], "weight": weight, "points": weight * measures[name]}
            for name, weight in self.weights.items()
        ]
        total = float(sum(row["points"] for row in rows))
        limits = ", ".join(f"{limit:g}" for limit in self.limits)
        return [*rows, {"what": f"sum (limit {limits})", "value": None, "weight": None, "points": total}]

    def _total(self, measures: pd.DataFrame) -> FloatArray:
        _require(self.reads, measures)
        total = sum(measures[name].to_numpy(np.float64) * weight for name, weight in self.weights.items())
        return np.asarray(total)


@dataclass(frozen=True)
class RetinopathyGrade:
    """Grade 0 to 4 of diabetic retinopathy from counts of lesions (ICDR; Wilkinson, Ophthalmology 110, 2003).

    No lesion: 0. Red ones alone, each too small for a haemorrhage, so that they are microaneurysms: 1. More than
    `severe` haemorrhages in each quadrant: 3. Anything between: 2. New vessels, venous beading and IRMA are not
    measured, so no eye is graded 4, and every grade from 1 on says so.

    red, bright: names of the labels of haemorrhages and of hard exudates; false_positives_per_image: of each
    label, how many lesions the segmenter finds in an image that are none (measured on its own held-out images); as
    many are ignored, a quarter of them in each quadrant.
    """

    red: str = "haemorrhages"
    bright: str = "hard_exudates"
    false_positives_per_image: Mapping[str, float] = field(default_factory=dict)
    severe: int = 20
    note: str = "cannot exclude proliferative retinopathy: new vessels, IRMA and venous beading are not measured"
    macula: str = "hard exudate within a disc diameter of the fovea: possible macular oedema"

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the measures."""
        reds = (f"{self.red}.{name}" for name in ("count", "count_large", "fewest_large_in_quadrant"))
        return (*reds, f"{self.bright}.count")

    def grades(self, measures: pd.DataFrame) -> FloatArray:
        """Measures, a row an eye (R rows) → grade (R,), NaN where counts are undefined."""
        _require(self.reads, measures)
        red, large, fewest, bright = (measures[name].to_numpy(np.float64) for name in self.reads)
        none = self.false_positives_per_image.get(self.red, 0)
        few, faint, small = red <= none, bright <= self.false_positives_per_image.get(self.bright, 0), large <= none
        many = fewest - none / 4 > self.severe
        grade = np.select([few & faint, many, small & faint], [0.0, 3.0, 1.0], 2.0)
        sized = np.isfinite(large) | (few & faint)  # without a disc, no size is known: none is needed of no lesion
        return np.where(np.isfinite(red + bright) & sized, grade, np.nan)

    def margins(self, measures: pd.DataFrame) -> FloatArray:
        """Logits (R, 5): falling by one for each grade away."""
        return -np.abs(self.grades(measures)[:, None] - np.arange(5.0))

    def doubts(self, measures: pd.DataFrame) -> list[str]:
        """The note, for every eye that is not without lesions, and what exudate in the macula may mean (ETDRS); that
        there is no grade, where that is so.
        """
        grades, near = self.grades(measures), f"{self.bright}.count_macula"
        count = measures[near].to_numpy(np.float64) if near in measures else np.zeros(len(measures))
        macula = (count > 0) & (
            measures[f"{self.bright}.count"] > self.false_positives_per_image.get(self.bright, 0)
        ).to_numpy()
        notes = [
            "; ".join([self.note, *([self.macula] if edge else [])]) if grade >= 1 else ""
            for grade, edge in zip(grades, macula, strict=True)
        ]
        return _unless_undefined(notes, np.isnan(grades), measures[list(self.reads)])

    def sheet(self, measures: Mapping[str, float]) -> ScoreBreakdown:
        """Lesions of each kind, in all and by quadrant."""
        return [
            {"what": name, "value": value, "weight": None, "points": None}
            for label in (self.red, self.bright)
            for name, value in measures.items()
            if name.startswith(f"{label}.count")
        ]


def slope_states(volume: FloatArray, times: FloatArray, half_width: float = 0.25) -> FloatArray:
    """Rate of change (T,) per s of a volume (T,) at times (T,) s: the slope of a line through the frames within
    `half_width` s, at least one on each side: above 0 while breathing in. NaN where fewer than two frames are known.
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
    """State of each frame from the slope of a measure: class 1 of two where it rises (inhale), class 0 where it falls.

    measures: names that are added up, such as the volumes of both lungs; a gap in one is a gap in the sum.
    """

    measures: Sequence[str]
    half_width: float = 0.25  # s

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the measures."""
        return tuple(self.measures)

    def margins_over_time(self, sequence: pd.DataFrame, times: FloatArray) -> FloatArray:
        """Measures of one sequence, a row a frame (T rows), at times (T,) s or frame numbers → logits (T, 2)."""
        _require(self.reads, sequence)
        volume = sequence[list(self.measures)].sum(axis=1, skipna=False).to_numpy(np.float64)
        slope = slope_states(volume, times, self.half_width)
        scale = np.nanstd(slope) if np.isfinite(slope).any() and np.nanstd(slope) > 0 else 1.0
        return np.stack([np.zeros(len(slope)), slope / scale], axis=1)


def _unless_undefined(notes: list[str], undefined: BoolArray, measures: pd.DataFrame) -> list[str]:
    """What is said of each row; where the rule is undefined (R,), which of the measures it reads have no value."""
    missing = measures.isna().to_numpy()  # (R, measures)
    names = [", ".join(measures.columns[row]) for row in missing]
    return [
        f"the rule says nothing, undefined: {name}" if gap else text
        for text, gap, name in zip(notes, undefined, names, strict=True)
    ]


def _require(names: Sequence[str], measures: Mapping[str, Any] | pd.DataFrame) -> None:
    missing = [name for name in names if name not in measures]
    if missing:
        raise DataError(
            f"the rule reads {', '.join(missing)}, which the features do not hold; choose those that the organ's "
            "recipe names, or leave the rule out with organ.clinical_rule=null",
            code="clinical-rule",
        )
