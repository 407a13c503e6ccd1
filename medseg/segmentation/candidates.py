"""Find candidate regions of a structure and compute their features, for a ranker to score.

For a structure among similar ones, position, depth and neighbours count as well as the region's own pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.typing import Float32Array, Int32Array

Box = tuple[slice, ...]
SKIN_LEVEL = 0.1  # of the 99th percentile: a column's first pixel above it is the skin
DOWN, ACROSS = -2, -1  # axes of (Z, Y, X): y is depth, x is lateral


@dataclass(frozen=True)
class Candidate:
    """A connected region: its number in the map of regions, and its features by name, all dimensionless."""

    number: int
    features: dict[str, float]
    score: float = 0.0  # the ranker's probability that it is the structure
    reasons: dict[str, float] = field(default_factory=dict)  # each feature's contribution to the log-odds
    kept: bool = False


@dataclass(frozen=True)
class Regions:
    """The map of regions (Z, Y, X), 0 for background, and a candidate for each region."""

    numbers: Int32Array
    candidates: list[Candidate]


class CandidateFinder:
    """Find connected components of a probability above a low `threshold`, and select which to keep.

    min_fraction: smaller regions, as a fraction of the image's pixels, are noise; max_candidates: per label, the most
    probable ones. keep: "best" (the highest score), "threshold" (every score of at least `min_score`) or "all";
    "best" also keeps no region whose score is below `min_score`.
    """

    def __init__(
        self,
        threshold: float = 0.2,
        min_fraction: float = 2e-4,
        max_candidates: int = 30,
        keep: str = "best",
        min_score: float = 0.05,
    ) -> None:
        if keep not in ("best", "all", "threshold"):
            raise ValueError(f"candidates.keep={keep!r}: must be best, all or threshold")
        if not 0 < threshold < 1:
            raise ValueError(f"candidates.threshold={threshold}: must be a probability between 0 and 1")
        self.threshold, self.min_fraction, self.max_candidates = threshold, min_fraction, max_candidates
        self.keep, self.min_score = keep, min_score

    def find(self, probability: Float32Array, image: Float32Array) -> Regions:
        """Candidates in a label's probability (Z, Y, X); `image` is the first channel on the same grid."""
        connected = np.ones((3,) * probability.ndim, bool)
        numbers, count = ndimage.label(probability >= self.threshold, connected)
        sizes = np.bincount(numbers.ravel(), minlength=count + 1)
        peaks = ndimage.maximum(probability, numbers, np.arange(1, count + 1)) if count else np.zeros(0)
        large = [n for n in range(1, count + 1) if sizes[n] >= self.min_fraction * probability.size]
        chosen = sorted(large, key=lambda n: (-peaks[n - 1], n))[: self.max_candidates]
        order = np.zeros(count + 1, np.int32)
        order[chosen] = np.arange(1, len(chosen) + 1)
        return Regions(order[numbers], measure_regions(order[numbers], probability, image))

    def choose(self, candidates: list[Candidate]) -> list[Candidate]:
        """Mark the scored candidates to keep."""
        best = max((c.score for c in candidates), default=0.0)
        first = next((c.number for c in candidates if c.score == best), 0)

        def stays(candidate: Candidate) -> bool:
            if self.keep == "all":
                return True
            return candidate.score >= self.min_score and (self.keep == "threshold" or candidate.number == first)

        return [replace(candidate, kept=stays(candidate)) for candidate in candidates]


def only_kept(probability: Float32Array, regions: Regions) -> Float32Array:
    """Return the probability (Z, Y, X) inside the kept regions, 0 elsewhere.

    A kept region with a peak below one half is rescaled, so that its core (at least half its peak) is in the mask.
    """
    factor = np.zeros(len(regions.candidates) + 1, np.float32)
    for candidate in regions.candidates:
        if candidate.kept:
            factor[candidate.number] = 1 if candidate.features["peak"] > 0.5 else 1 / candidate.features["peak"]
    return np.asarray(probability * factor[regions.numbers], np.float32)


def measure_regions(numbers: Int32Array, probability: Float32Array, image: Float32Array) -> list[Candidate]:
    """Compute the features of each region 1 … n of `numbers` (Z, Y, X).

    probability: peak, certainty (mean). shape: area (log fraction of the image), lengthening (log ratio of the
    principal standard deviations), irregularity (1 − area / area of the ellipse, or ellipsoid, of the same second
    moments), wider (log width / height). echo: brightness against the image, contrast against a ring, unevenness,
    margin (gradient on the border), below (brightness of the strip under the region, against both sides of that).
    position: depth and lateral of the centre (0 middle of the width, 1 its edge), surface (from the skin line to the
    upper edge), border (to the image's nearest edge), in fractions of the image's height or width. others: neighbours
    (log count), nearest (distance in own diameters), larger and surer (own area and peak against the largest of the
    others, log).
    """
    if numbers.shape[0] == 1:  # a 2D image has 2D features
        numbers, probability, image = numbers[0], probability[0], image[0]
    spread = max(float(image.std()), 1e-6)
    scene = _Scene(image, (image - np.median(image)) / spread, _surface(image), _gradient(image) / spread, probability)
    boxes = ndimage.find_objects(numbers)
    rows = [_own_features(numbers, number, box, scene) for number, box in enumerate(boxes, start=1)]
    return [
        Candidate(number, row | _relative_features(rows, number - 1, scene.image.shape))
        for number, row in enumerate(rows, start=1)
    ]


@dataclass(frozen=True)
class _Scene:
    """Arrays that features are computed from, of one shape, except `surface` (a row index per column)."""

    image: Float32Array
    relative: Float32Array  # standard deviations above the image's median
    surface: npt.NDArray[np.float64]
    gradient: Float32Array
    probability: Float32Array


def _own_features(numbers: Int32Array, number: int, box: Box, scene: _Scene) -> dict[str, float]:
    """Features of a region by itself."""
    shape = numbers.shape
    reach = [max(2, round(0.3 * (s.stop - s.start))) for s in box]
    wide = tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in zip(box, reach, shape, strict=True))
    inside = numbers[wide] == number
    probability, relative = scene.probability[wide], scene.relative[wide]
    near = ndimage.distance_transform_edt(~inside)
    ring = (near > 0) & (near <= max(2.0, 0.15 * inside.sum() ** (1 / inside.ndim))) & (numbers[wide] == 0)
    border = (near <= 1) & ndimage.binary_dilation(~inside)
    around = float(relative[ring].mean()) if ring.any() else 0.0
    centre = [m + s.start for m, s in zip(ndimage.center_of_mass(inside), wide, strict=True)]
    width, height = box[ACROSS].stop - box[ACROSS].start, box[DOWN].stop - box[DOWN].start
    edges = [min(s.start, n - s.stop) / n for s, n in zip(box, shape, strict=True)][DOWN:]
    surface = float(np.median(scene.surface[..., box[ACROSS]]))
    return {
        "peak": float(probability[inside].max()),
        "certainty": float(probability[inside].mean()),
        "area": float(np.log(inside.sum() / numbers.size)),
        **_form(inside),
        "wider": float(np.log(width / height)),
        "brightness": float(relative[inside].mean()),
        "contrast": float(relative[inside].mean()) - around,
        "unevenness": float(relative[inside].std()),
        "margin": float(scene.gradient[wide][border].mean()) if border.any() else 0.0,
        "below": _below(scene.relative, box),
        "depth": (centre[DOWN] + 0.5) / shape[DOWN],
        "lateral": abs((centre[ACROSS] + 0.5) / shape[ACROSS] - 0.5) * 2,
        "surface": (box[DOWN].start - surface) / shape[DOWN],
        "border": float(min(edges)),
        **{f"centre_{axis}": float(c) for axis, c in zip("zyx"[-len(centre) :], centre, strict=True)},
    }


def _form(inside: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Lengthening and irregularity from second moments."""
    points = np.argwhere(inside).astype(np.float64)  # (n, D)
    dimension = points.shape[1]
    spread = np.cov(points.T, bias=True) + np.eye(dimension) / 12  # a pixel has a width
    axes = np.sqrt(np.linalg.eigvalsh(spread).clip(1e-9))  # (D,)
    ball = {2: np.pi, 3: 4 / 3 * np.pi}[dimension]
    # a uniform ellipsoid of semi-axes a has the variance a²/(D + 2) along each
    full = ball * np.prod(axes * np.sqrt(dimension + 2))
    return {"lengthening": float(np.log(axes[-1] / axes[0])), "irregularity": float(1 - inside.sum() / full)}


def _below(relative: Float32Array, box: Box) -> float:
    """Brightness of the strip below the region, as high as the region, minus that of the strips on both sides."""
    down, across = box[DOWN], box[ACROSS]
    height, width = down.stop - down.start, across.stop - across.start
    rows = slice(down.stop, down.stop + height)
    strip = relative[(*box[:DOWN], rows, across)]
    sides = [slice(max(0, across.start - width), across.start), slice(across.stop, across.stop + width)]
    beside = np.concatenate([relative[(*box[:DOWN], rows, side)].ravel() for side in sides])
    return float(strip.mean() - beside.mean()) if strip.size and beside.size else 0.0


def _relative_features(rows: Sequence[dict[str, float]], index: int, shape: tuple[int, ...]) -> dict[str, float]:
    """Features of a region relative to the others; a single region counts as distant and ten times larger and surer."""
    region, others = rows[index], [row for number, row in enumerate(rows) if number != index]
    if not others:
        return {
            "neighbours": 0.0,
            "nearest": float(np.log(10)),
            "larger": float(np.log(10)),
            "surer": float(np.log(10)),
        }
    names = [name for name in region if name.startswith("centre_")]
    centre = np.array([region[name] for name in names])
    distance = min(float(np.linalg.norm(centre - [row[name] for name in names])) for row in others)
    diameter = float(np.exp(region["area"]) * np.prod(shape)) ** (1 / len(names))
    ten = float(np.log(10))
    return {
        "neighbours": float(np.log1p(len(others))),
        "nearest": min(ten, float(np.log(distance / diameter))),
        "larger": float(np.clip(region["area"] - max(row["area"] for row in others), -ten, ten)),
        "surer": float(np.clip(np.log(region["peak"] / max(row["peak"] for row in others)), -ten, ten)),
    }


def _surface(image: Float32Array) -> npt.NDArray[np.float64]:
    """The first bright row of each column ([Z,] X); 0 if there is none."""
    lit = image > SKIN_LEVEL * np.percentile(image, 99)
    return np.asarray(np.argmax(lit, axis=DOWN), np.float64)


def _gradient(image: Float32Array) -> Float32Array:
    steps = np.gradient(ndimage.gaussian_filter(image, 1.0))
    return np.asarray(np.sqrt(sum(step**2 for step in steps)), np.float32)
