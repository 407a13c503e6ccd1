"""Measures of a respiratory signal: period, amplitude, agreement with a reference, states from its slope."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import signal as scipy_signal

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def normalise(signal: FloatArray) -> FloatArray:
    """The signal (T,) with mean 0 and standard deviation 1 over its known values; a constant one becomes 0."""
    deviation = float(np.nanstd(signal))
    centred = signal - np.nanmean(signal)
    return centred / deviation if deviation > 1e-9 * max(1.0, float(np.nanmax(np.abs(signal)))) else centred * 0


def period(signal: FloatArray, times: FloatArray) -> float:
    """Mean period in the unit of `times` (T,): the lag of the first peak of the autocorrelation, refined by a parabola.

    The signal is resampled evenly first, then its straight trend is taken off. NaN where no lag below 2/3 of the
    recording repeats the signal (a peak of at least 0.2), or with fewer than four known values.
    """
    known = np.isfinite(signal) & np.isfinite(times)
    if known.sum() < 4:
        return float("nan")
    clock = np.linspace(times[known][0], times[known][-1], int(known.sum()))
    even = scipy_signal.detrend(np.interp(clock, times[known], signal[known]))
    count = len(even)
    overlap = np.arange(count, 0, -1)
    correlation = np.correlate(even, even, mode="full")[count - 1 :] / overlap
    if correlation[0] <= 1e-12 * float(np.mean(signal[known] ** 2)):  # nothing is left but rounding
        return float("nan")
    correlation = correlation[: max(2, 2 * count // 3)] / correlation[0]
    peaks, _ = scipy_signal.find_peaks(correlation, height=0.2)
    if not len(peaks):
        return float("nan")
    # a smaller peak before the main one is a ripple inside one breath
    best = next(p for p in peaks if correlation[p] >= 0.7 * correlation[peaks].max())
    before, peak, after = correlation[best - 1 : best + 2]
    shift = (before - after) / (2 * (before - 2 * peak + after))
    return float((best + shift) * (clock[1] - clock[0]))


def period_error(truth: FloatArray, predicted: FloatArray, times: FloatArray) -> float:
    """Absolute difference of the two periods, in the unit of `times`; NaN where either has none."""
    return abs(period(truth, times) - period(predicted, times))


def amplitude(signal: FloatArray) -> float:
    """Distance from the 5th to the 95th percentile, in the signal's unit: single outliers do not count."""
    low, high = np.nanpercentile(signal, [5, 95])
    return float(high - low)


def correlation(truth: FloatArray, predicted: FloatArray) -> float:
    """Pearson's r over the frames where both are known; NaN where either is constant."""
    known = np.isfinite(truth) & np.isfinite(predicted)
    if known.sum() < 2 or np.std(truth[known]) == 0 or np.std(predicted[known]) == 0:
        return float("nan")
    return float(np.corrcoef(truth[known], predicted[known])[0, 1])


def nrmse(truth: FloatArray, predicted: FloatArray) -> float:
    """Root mean square error over the standard deviation of the truth: 0 is perfect, 1 is as good as its mean."""
    known = np.isfinite(truth) & np.isfinite(predicted)
    deviation = np.std(truth[known]) if known.any() else 0.0
    if deviation == 0:
        return float("nan")
    return float(np.sqrt(np.mean((truth[known] - predicted[known]) ** 2)) / deviation)


def states(signal: FloatArray, rising: str = "inhale", falling: str = "exhale") -> list[str]:
    """The state of each frame from the sign of the signal's central difference."""
    return [rising if slope > 0 else falling for slope in np.gradient(signal)]
