"""Each voxel against its direct neighbours within the label: tone differences and dependences.

Neighbourhood grey tone difference (Amadasun and King 1989; IBSI IPET) and neighbouring grey level dependence
(Sun and Wee 1983; IBSI REK0), Chebyshev distance 1; dependent are neighbours of the very same level.
"""

from __future__ import annotations

import numpy as np

from medseg.features.radiomics.discretization import GrayLevels, directions, pairs
from medseg.features.radiomics.emphasis import Elements, emphasis, table, units
from medseg.typing import AnyArray, FloatArray

UNITS: dict[str, str] = {
    "ngtdm_coarseness": "1/levels: one over the mean difference to the neighbours; NaN where all are alike (IBSI QCDE)",
    "ngtdm_contrast": "levels³: spread of the levels × mean difference; NaN for one level (IBSI 65HE)",
    "ngtdm_busyness": "mean difference over the differences of weighted levels; NaN for one level (IBSI NQ30)",
    "ngtdm_complexity": "levels²: differences weighted by how rare their levels are (IBSI HDEZ)",
    "ngtdm_strength": "levels: differences of levels over those to the neighbours; NaN where all are alike (IBSI 1X9X)",
    **units(
        "ngldm",
        "number of like neighbours and 1",
        "SODN IMOQ TL9H OAE7 EQ3F JA6D NBZI 9QMG FP8K 5SPA Z87G OKJI 6XV8 1PFV DNX2 FCBV",
    ),
    "ngldm_energy": "0..1: sum of squared shares of level and number of like neighbours (IBSI CAS9)",
}
ALWAYS_1 = "ngldm_percentage"  # constant: every voxel is an element
del UNITS[ALWAYS_1]


def ngtdm_features(levels: GrayLevels) -> dict[str, float]:
    """Features of tone differences and of dependences; NaN if the label is absent."""
    if not levels.array.any():
        return dict.fromkeys(UNITS, np.nan)
    elements = dependences(levels.array)
    features = emphasis("ngldm", elements)
    del features[ALWAYS_1]
    _, _, number = table(elements)
    features["ngldm_energy"] = float(((number / number.sum()) ** 2).sum())
    return _tones(levels) | features


def dependences(levels: AnyArray) -> Elements:
    """Level of each voxel of the label, and the number of its neighbours of that level, itself included."""
    like = np.ones(levels.shape, np.uint8)
    for step in directions(levels.ndim):
        voxels, neighbours = pairs(levels, step)
        same = voxels == neighbours
        for view in pairs(like, step):
            view += same
    inside = levels > 0
    return Elements(levels[inside], like[inside], int(np.count_nonzero(inside)))


def differences(levels: GrayLevels) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Levels of voxels that have neighbours in the label, their numbers of voxels, their sums of differences, (K,)."""
    array = levels.array.astype(np.int32)
    inside = array > 0
    around, total = _box_sum(inside.astype(np.int32)) - inside, _box_sum(array) - array
    known = inside & (around > 0)
    level = array[known]
    difference = np.abs(level - total[known] / around[known])
    number = np.bincount(level, minlength=1)
    used = np.flatnonzero(number)
    total_difference = np.asarray(np.bincount(level, difference, 1), np.float64)
    return used.astype(np.float64), number[used].astype(np.float64), total_difference[used]


def _tones(levels: GrayLevels) -> dict[str, float]:
    i, n, s = differences(levels)
    total, count = n.sum(), len(i)
    names = ("coarseness", "contrast", "busyness", "complexity", "strength")
    if not count:
        return {f"ngtdm_{name}": np.nan for name in names}
    p = n / total
    gap = i[:, None] - i[None, :]  # (K, K)
    pair = p[:, None] + p[None, :]
    worth = p * s
    spread = float((np.outer(p, p) * gap**2).sum())
    weighted = float(np.abs((i * p)[:, None] - (i * p)[None, :]).sum())
    values = (
        _ratio(1.0, worth.sum()),
        _ratio(spread * s.sum(), count * (count - 1) * total),
        _ratio(worth.sum(), weighted),
        float((np.abs(gap) * (worth[:, None] + worth[None, :]) / pair).sum() / total),
        _ratio((pair * gap**2).sum(), s.sum()),
    )
    return {f"ngtdm_{name}": value for name, value in zip(names, values, strict=True)}


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else np.nan


def _box_sum(array: AnyArray) -> AnyArray:
    """Sum over each voxel and its direct neighbours."""
    for axis in range(array.ndim):
        padded = np.pad(array, [(int(n == axis),) * 2 for n in range(array.ndim)])
        shifted = (np.take(padded, range(k, k + array.shape[axis]), axis) for k in range(3))
        array = np.asarray(sum(shifted))
    return array
