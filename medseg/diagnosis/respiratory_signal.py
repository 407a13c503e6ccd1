"""Respiratory signals: normalisation, period, and description of breaths."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import signal as scipy_signal

from medseg.typing import FloatArray


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
    if correlation[0] <= 1e-12 * float(np.mean(signal[known] ** 2)):  # only rounding errors
        return float("nan")
    correlation = correlation[: max(2, 2 * count // 3)] / correlation[0]
    peaks, _ = scipy_signal.find_peaks(correlation, height=0.2)
    if not len(peaks):
        return float("nan")
    # a smaller peak before the main one is a ripple inside one breath
    best = next(p for p in peaks if correlation[p] >= 0.7 * correlation[peaks].max())
    left, peak, right = correlation[best - 1 : best + 2]
    shift = (left - right) / (2 * (left - 2 * peak + right))
    return float((best + shift) * (clock[1] - clock[0]))


def describe(signal: FloatArray, times: FloatArray) -> dict[str, float]:
    """period_s (as `period`), breaths, breaths_per_minute, amplitude and irregularity of a signal (T,) at times (T,) s.

    A breath runs from peak to peak, peaks being at least half a period apart and a standard deviation above the trough
    between. amplitude: mean of peak less the trough after it, in the signal's unit; irregularity: standard deviation
    over mean of the breaths' lengths. NaN where there are too few.
    """
    length = period(signal, times)
    features = {"period_s": length, "breaths": 0.0, "breaths_per_minute": 60 / length if length > 0 else float("nan")}
    features |= {"amplitude": float("nan"), "irregularity": float("nan")}
    known = np.isfinite(signal) & np.isfinite(times)
    if not np.isfinite(length) or known.sum() < 4:
        return features
    values, clock = signal[known], times[known]
    frame = float(np.median(np.diff(clock)))
    min_distance = max(1, round(0.5 * length / frame))
    peaks, _ = scipy_signal.find_peaks(values, distance=min_distance, prominence=float(values.std()))
    if len(peaks) < 2:
        return features
    lengths = np.diff(clock[peaks])
    troughs = [values[start:stop].min() for start, stop in pairwise(peaks)]
    features |= {"breaths": float(len(lengths)), "amplitude": float(np.mean(values[peaks[:-1]] - troughs))}
    if len(lengths) > 1:
        features["irregularity"] = float(lengths.std() / lengths.mean())
    return features
