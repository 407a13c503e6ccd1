"""Which grey levels lie side by side: the co-occurrence matrix (Haralick et al. 1973; IBSI LFYI).

Symmetric, Chebyshev distance 1, all directions merged into one matrix before it is measured.
"""

from __future__ import annotations

import numpy as np

from medseg.features.radiomics.discretization import GrayLevels, directions, pairs
from medseg.typing import FloatArray

UNITS: dict[str, str] = {
    "glcm_joint_maximum": "0..1: share of the commonest pair of levels (IBSI GYBY)",
    "glcm_joint_average": "levels: mean level of the pairs; half of IBSI's sum average (IBSI 60VM, ZGXS)",
    "glcm_joint_variance": "levels²: variance of the level over the pairs (IBSI UR99)",
    "glcm_joint_entropy": "bits: entropy of the pairs (IBSI TU9B)",
    "glcm_dissimilarity": "levels: mean |i − j|, also called difference average (IBSI 8S9J, TF7R)",
    "glcm_difference_variance": "levels²: variance of |i − j| (IBSI D3YU)",
    "glcm_difference_entropy": "bits: entropy of |i − j| (IBSI NTRS)",
    "glcm_sum_entropy": "bits: entropy of i + j (IBSI P6QZ)",
    "glcm_energy": "0..1: sum of squared shares, the angular second moment (IBSI 8ZQL)",
    "glcm_contrast": "levels²: mean (i − j)² (IBSI ACUI)",
    "glcm_inverse_difference": "0..1: mean 1 / (1 + |i − j|), homogeneity (IBSI IB1Z)",
    "glcm_inverse_difference_normalised": "0..1: mean 1 / (1 + |i − j| / levels) (IBSI NDRX)",
    "glcm_inverse_difference_moment": "0..1: mean 1 / (1 + (i − j)²) (IBSI WF0Z)",
    "glcm_inverse_difference_moment_normalised": "0..1: mean 1 / (1 + (i − j)² / levels²) (IBSI 1QCO)",
    "glcm_inverse_variance": "0..1: mean 1 / (i − j)², pairs of one level left out (IBSI E8JP)",
    "glcm_correlation": "−1..1: of i and j over the pairs; NaN for one level (IBSI NI2N)",
    "glcm_autocorrelation": "levels²: mean i · j (IBSI QWB0)",
    "glcm_cluster_tendency": "levels²: mean (i + j − 2μ)², also called sum variance (IBSI DG8W, OEEB)",
    "glcm_cluster_shade": "levels³: mean (i + j − 2μ)³ (IBSI 7NFM)",
    "glcm_cluster_prominence": "levels⁴: mean (i + j − 2μ)⁴ (IBSI AE86)",
    "glcm_information_correlation_1": "−1..0: (H(i,j) − H₁) / H(i); NaN for one level (IBSI R8DG)",
    "glcm_information_correlation_2": "0..1: √(1 − exp(−2 (H₂ − H(i,j)))) (IBSI JN9H)",
}


def glcm_features(levels: GrayLevels) -> dict[str, float]:
    """Features of the pairs of neighbours within the label; NaN without any pair."""
    counts = matrix(levels)
    if not counts.any():
        return dict.fromkeys(UNITS, np.nan)
    return _measures(counts / counts.sum(), levels.number)


def matrix(levels: GrayLevels) -> FloatArray:
    """Symmetric co-occurrence matrix (K, K): number of neighbours of levels i and j in any direction."""
    side = levels.number + 1
    total = np.zeros(side * side)
    for step in directions(levels.array.ndim):
        voxels, neighbours = pairs(levels.array, step)
        total += np.bincount((voxels.astype(np.intp) * side + neighbours).ravel(), minlength=side * side)
    counts = total.reshape(side, side)[1:, 1:]
    return np.asarray(counts + counts.T, np.float64)


def entropy(shares: FloatArray) -> float:
    """Entropy of a distribution in bits."""
    used = shares[shares > 0]
    return float(-(used * np.log2(used)).sum())


def _measures(p: FloatArray, count: int) -> dict[str, float]:
    """Features of the symmetric probabilities `p` of pairs (K, K) of `count` levels."""
    level = np.arange(1.0, count + 1)
    i, j = level[:, None], level[None, :]
    gap = np.abs(i - j)
    average = float((i * p).sum())
    off = i + j - 2 * average
    variance = float(((i - average) ** 2 * p).sum())
    differences = _shares(gap, p)  # (K,) of |i − j| = 0, 1 …
    dissimilarity = float((gap * p).sum())
    different = gap > 0
    joint = float((i * j * p).sum())
    features = {
        "joint_maximum": float(p.max()),
        "joint_average": average,
        "joint_variance": variance,
        "joint_entropy": entropy(p),
        "dissimilarity": dissimilarity,
        "difference_variance": float(((np.arange(count) - dissimilarity) ** 2 * differences).sum()),
        "difference_entropy": entropy(differences),
        "sum_entropy": entropy(_shares(i + j, p)),
        "energy": float((p**2).sum()),
        "contrast": float((gap**2 * p).sum()),
        "inverse_difference": float((p / (1 + gap)).sum()),
        "inverse_difference_normalised": float((p / (1 + gap / count)).sum()),
        "inverse_difference_moment": float((p / (1 + gap**2)).sum()),
        "inverse_difference_moment_normalised": float((p / (1 + (gap / count) ** 2)).sum()),
        "inverse_variance": float((p[different] / gap[different] ** 2).sum()),
        "correlation": (joint - average**2) / variance if variance > 0 else np.nan,
        "autocorrelation": joint,
        **{f"cluster_{n}": float((off**k * p).sum()) for n, k in (("tendency", 2), ("shade", 3), ("prominence", 4))},
    }
    return {f"glcm_{name}": value for name, value in (features | _information(p)).items()}


def _shares(values: FloatArray, p: FloatArray) -> FloatArray:
    """Probability of the pairs whose integer in `values` is 0, 1, 2 …"""
    return np.asarray(np.bincount(values.astype(np.intp).ravel(), p.ravel()), np.float64)


def _information(p: FloatArray) -> dict[str, float]:
    """Information correlations of the two levels of a pair."""
    marginal = p.sum(axis=1)
    independent = np.outer(marginal, marginal)
    used = independent > 0
    both, alone = entropy(p), entropy(marginal)
    first = float(-(p[used] * np.log2(independent[used])).sum())
    gained = max(0.0, entropy(independent) - both)
    return {
        "information_correlation_1": (both - first) / alone if alone > 0 else np.nan,
        "information_correlation_2": float(np.sqrt(1 - np.exp(-2 * gained))),
    }
