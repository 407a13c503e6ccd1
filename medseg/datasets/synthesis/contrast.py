"""Random intensities of the structures of a head: T1-like, T2-like, FLAIR-like or in any order.

White matter, grey matter and CSF are drawn first, in units of the white matter of a T1. A structure of its own, such
as the thalamus, lies between two of them. Tissues outside the brain have ranges that depend on the contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.datasets.synthesis.label_maps import TISSUES, LabelTable, Structure

SHARES = {"t1": 0.6, "t2": 0.12, "flair": 0.13, "random": 0.15}  # how often each contrast is drawn
# (low, high) of the means. T1 of children has little contrast, T1 with an inversion pulse much.
MEANS: dict[str, dict[str, tuple[float, float]]] = {
    "t1": {"csf": (0.1, 0.42), "gm": (0.52, 0.82), "wm": (0.95, 1.05)},
    "t2": {"csf": (1.3, 2.2), "gm": (0.75, 1.1), "wm": (0.45, 0.7)},
    "flair": {"csf": (0.05, 0.35), "gm": (0.85, 1.1), "wm": (0.6, 0.85)},
    "random": {"csf": (0.05, 1.2), "gm": (0.05, 1.2), "wm": (0.05, 1.2)},
}
MIN_DIFFERENCE = 0.12  # between two tissues: without it nobody could tell them apart
# Structures that differ from their tissue: from which tissue to which, and how far (low, high).
BETWEEN: dict[str, tuple[str, str, tuple[float, float]]] = {
    "thalamus": ("gm", "wm", (0.2, 0.75)),
    "pallidum": ("gm", "wm", (0.4, 1.0)),
    "putamen": ("gm", "wm", (0.0, 0.4)),
    "caudate": ("gm", "wm", (-0.05, 0.3)),
    "accumbens": ("gm", "wm", (-0.05, 0.3)),
    "hippocampus": ("gm", "wm", (-0.1, 0.2)),
    "amygdala": ("gm", "wm", (-0.1, 0.15)),
    "cerebellum cortex": ("gm", "wm", (-0.1, 0.25)),
    "cerebellum white": ("wm", "gm", (-0.1, 0.2)),
    "brain-stem": ("wm", "gm", (0.0, 0.4)),
    "ventral dc": ("wm", "gm", (0.0, 0.5)),
    "optic": ("wm", "gm", (0.0, 0.5)),
    "spinal cord": ("wm", "gm", (0.0, 0.5)),
    "lesion": ("wm", "csf", (0.0, 0.7)),
    "perivascular": ("wm", "csf", (0.2, 0.8)),
    "second class": ("csf", "gm", (0.0, 0.7)),
}
OTHERS: dict[str, dict[str, tuple[float, float]]] = {  # outside the brain, by contrast; "": every other contrast
    "background": {"": (0.0, 0.06)},
    "artery": {"t1": (0.1, 1.4), "": (0.0, 1.2)},
    "vein": {"t1": (0.2, 1.1), "": (0.0, 1.2)},
    "eyeball": {"t1": (0.1, 0.45), "t2": (1.2, 2.2), "flair": (0.1, 0.5), "": (0.0, 1.2)},
    "other tissues": {"t1": (0.08, 1.5), "": (0.05, 1.3)},  # dark where fat is suppressed
    "rectus": {"t1": (0.4, 0.8), "": (0.2, 0.8)},
    "mucosa": {"t1": (0.3, 0.9), "": (0.4, 1.6)},
    "skin": {"t1": (0.08, 1.4), "": (0.05, 1.3)},
    "bone, cortical": {"": (0.02, 0.35)},
    "bone, cancellous": {"t1": (0.08, 1.3), "": (0.1, 1.0)},
    "": {"": (0.0, 1.2)},
}


@dataclass(frozen=True)
class Contrast:
    """means and sds: of each structure's intensities, (S,), white matter of a T1 being 1."""

    name: str
    means: NDArray[np.float32]
    sds: NDArray[np.float32]


def sample_contrast(labels: LabelTable, rng: np.random.Generator, name: str | None = None) -> Contrast:
    """A random contrast; `name` is one of `SHARES`, None draws it. Both sides of a structure get the same intensity."""
    name = name or str(rng.choice(list(SHARES), p=list(SHARES.values())))
    tissues = _tissue_means(name, rng)
    coarse = float(rng.uniform(0.01, 0.05))  # texture within a structure
    drawn: dict[str, tuple[float, float]] = {}
    for structure in labels.structures:
        if structure.name not in drawn:
            mean = _mean(structure, name, tissues, rng)
            drawn[structure.name] = (max(mean, 0.0), coarse * float(rng.uniform(0.6, 1.4)))
    pairs = np.array([drawn[structure.name] for structure in labels.structures], np.float32)
    return Contrast(name, pairs[:, 0], pairs[:, 1])


def _tissue_means(name: str, rng: np.random.Generator) -> dict[str, float]:
    """Means of CSF, grey and white matter, at least `MIN_DIFFERENCE` apart."""
    while True:
        means = {tissue: float(rng.uniform(*MEANS[name][tissue])) for tissue in TISSUES}
        if np.diff(sorted(means.values())).min() >= MIN_DIFFERENCE:
            return means


def _mean(structure: Structure, contrast: str, tissues: dict[str, float], rng: np.random.Generator) -> float:
    between = next((BETWEEN[word] for word in BETWEEN if word in structure.name), None)
    if between is not None:
        first, second, fraction = between
        return tissues[first] + float(rng.uniform(*fraction)) * (tissues[second] - tissues[first])
    if structure.tissue:
        tissue = list(TISSUES)[structure.tissue - 1]
        return tissues[tissue] * float(rng.uniform(0.96, 1.04))
    ranges = next(OTHERS[word] for word in OTHERS if word in structure.name)
    return float(rng.uniform(*ranges.get(contrast, ranges.get("", (0.0, 1.2)))))
