"""First-order statistics of the values inside each label, and their contrast to a ring around it.

After IBSI (Zwanenburg et al., Radiology 295, 2020; reference manual, sections 3.3 and 3.4). Values are the image's own;
of colour its luma (ITU-R BT.601). The ring is as wide as `ring` × the radius of the disc or ball of the label's size,
at least two voxels, and takes in whatever lies there, other labels too. Moments of one value are not defined and NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from medseg.features.radiomics.discretization import BINS, discretize
from medseg.features.radiomics.glcm import entropy
from medseg.features.regions import RING, crop_regions
from medseg.io.labels import Labels
from medseg.typing import FloatArray

UNITS: dict[str, str] = {
    "firstorder_mean": "image's unit (IBSI Q4LE)",
    "firstorder_sd": "image's unit: standard deviation, the root of the variance",
    "firstorder_variance": "image's unit²: mean squared difference to the mean (IBSI ECT3)",
    "firstorder_skewness": "third moment over sd³; NaN for one value (IBSI KE2A)",
    "firstorder_kurtosis": "fourth moment over variance², less 3; NaN for one value (IBSI IPH6)",
    "firstorder_median": "image's unit (IBSI Y12H)",
    "firstorder_minimum": "image's unit (IBSI 1GSF)",
    "firstorder_maximum": "image's unit (IBSI 84IY)",
    "firstorder_percentile_10": "image's unit (IBSI QG58)",
    "firstorder_percentile_90": "image's unit (IBSI 8DWT)",
    "firstorder_range": "image's unit: maximum − minimum (IBSI 2OJQ)",
    "firstorder_interquartile_range": "image's unit: 75th − 25th percentile (IBSI SALO)",
    "firstorder_mean_deviation": "image's unit: mean absolute difference to the mean (IBSI 4FUA)",
    "firstorder_robust_deviation": "image's unit: the same from the 10th to the 90th percentile (IBSI 1128)",
    "firstorder_energy": "image's unit²: sum of squared values (IBSI N8CA)",
    "firstorder_root_mean_square": "image's unit (IBSI 5ZWQ)",
    "firstorder_entropy": "bits: entropy of the grey levels (IBSI TLU2)",
    "firstorder_uniformity": "0..1: sum of squared shares of the grey levels (IBSI BJ5W)",
    "firstorder_ring_mean": "image's unit: mean in the ring; NaN where the label fills the image",
    "firstorder_contrast": "image's unit: mean inside − mean in the ring",
    "firstorder_contrast_to_noise": "contrast over the ring's standard deviation; NaN where the ring has one value",
}


def frame_features(
    image: sitk.Image,
    mask: sitk.Image,
    labels: Mapping[str, int] | Labels,
    bins: int = BINS,
    bin_width: float | None = None,
    ring: float = RING,
) -> dict[str, float]:
    """Features of each label; NaN for fewer than two voxels.

    Grey levels, for entropy and uniformity, are `bins` between the label's extremes, or as wide as `bin_width`.
    """
    features: dict[str, float] = {}
    for name, region in crop_regions(image, mask, labels, ring):
        values = dict.fromkeys(UNITS, np.nan)
        if np.count_nonzero(region.inside) > 1:
            grey = region.grey
            levels = discretize(grey, region.inside, bins, bin_width)
            shares = np.bincount(levels.array[region.inside]) / np.count_nonzero(region.inside)
            values |= statistics(grey[region.inside])
            values |= {"firstorder_entropy": entropy(shares), "firstorder_uniformity": float((shares**2).sum())}
            values |= _contrast(values["firstorder_mean"], grey[region.ring])
        features |= {f"{name}.{key}": value for key, value in values.items()}
    return features


def statistics(values: FloatArray) -> dict[str, float]:
    """Statistics of values (N,), N ≥ 1."""
    mean, low, high = float(values.mean()), float(values.min()), float(values.max())
    off = values - mean
    squares = off * off  # products: numpy's general power is ten times slower
    variance = float(squares.mean()) if high > low else 0.0
    tenth, quarter, median, three_quarters, ninetieth = (float(q) for q in np.percentile(values, (10, 25, 50, 75, 90)))
    robust = values[(values >= tenth) & (values <= ninetieth)]
    square = float((values * values).mean())
    features = {
        "mean": mean,
        "sd": variance**0.5,
        "variance": variance,
        "skewness": float((squares * off).mean()) / variance**1.5 if variance > 0 else np.nan,
        "kurtosis": float((squares * squares).mean()) / variance**2 - 3 if variance > 0 else np.nan,
        "median": median,
        "minimum": low,
        "maximum": high,
        "percentile_10": tenth,
        "percentile_90": ninetieth,
        "range": high - low,
        "interquartile_range": three_quarters - quarter,
        "mean_deviation": float(np.abs(off).mean()),
        "robust_deviation": float(np.abs(robust - robust.mean()).mean()) if robust.size else np.nan,
        "energy": square * values.size,
        "root_mean_square": square**0.5,
    }
    return {f"firstorder_{name}": value for name, value in features.items()}


def _contrast(mean: float, around: FloatArray) -> dict[str, float]:
    """Contrast of a label's mean to the values of its ring (N,)."""
    if not around.size:
        return {}
    contrast, noise = mean - float(around.mean()), float(around.std()) if np.ptp(around) > 0 else 0.0
    return {
        "firstorder_ring_mean": float(around.mean()),
        "firstorder_contrast": contrast,
        "firstorder_contrast_to_noise": contrast / noise if noise > 0 else np.nan,
    }
