"""Calibrate probabilities by temperature scaling; conformal prediction sets that cover the true class with 1 − α."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from medseg.typing import BoolArray, FloatArray, IntArray

EXCLUDE_ALL = -1.0  # limit of a class that is in no prediction set
MIN_PROBABILITY = 1e-6  # probabilities are clipped to it before taking the logarithm


class Calibration(NamedTuple):
    """temperature: logits are divided by it; limits (K,): a class is in the set if 1 − its probability is at most
    its limit; bias (K,): added to the logits, or empty.
    """

    temperature: float
    limits: tuple[float, ...]
    bias: tuple[float, ...] = ()

    def probabilities(self, probabilities: FloatArray) -> FloatArray:
        """Calibrate a model's probabilities (N, K)."""
        return np.asarray(softmax(logits(probabilities) / self.temperature + np.asarray(self.bias or 0.0), axis=1))

    def sets(self, calibrated: FloatArray, silent: BoolArray | None = None) -> BoolArray:
        """Prediction set of each case (N, K) from calibrated probabilities; the most probable class is always in it.

        An empty set, as happens to a case between the classes of a very confident model, becomes the set of all trained
        classes. For cases (N,) that are `silent`, which have too few defined features, the set has all classes.
        """
        limits = np.asarray(self.limits)
        inside = 1 - calibrated <= limits
        inside[~inside.any(axis=1)] = limits != EXCLUDE_ALL
        inside[np.arange(len(inside)), calibrated.argmax(axis=1)] = True
        return np.asarray(inside if silent is None else inside | silent[:, None])


def logits(probabilities: FloatArray) -> FloatArray:
    """Logarithms of probabilities (N, K), clipped at one in a million."""
    return np.asarray(np.log(np.clip(probabilities, MIN_PROBABILITY, 1.0)))


def log_odds(probabilities: FloatArray) -> FloatArray:
    """Log-odds of each class against the rest (N, K), from −log(10⁶) to log(10⁶)."""
    return np.asarray(logits(probabilities) - logits(1 - probabilities))


def fit_temperature(probabilities: FloatArray, y: IntArray) -> float:
    """Fit the temperature in 0.05 … 20 that minimises the negative log-likelihood of `y` (N,) (Guo et al., ICML 2017).

    A temperature below 1, which raises confidence, is refitted to Platt's smoothed targets and is at most 1: if nearly
    all cases are correct, the likelihood alone would choose the smallest temperature. `probabilities` (N, K) must come
    from models that were not trained on these cases.
    """
    values = logits(probabilities)

    def best(targets: FloatArray) -> float:
        def loss(log_temperature: float) -> float:
            return float(-(targets * log_softmax(values / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

        return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))

    temperature = best(np.eye(values.shape[1])[y])
    return temperature if temperature >= 1 else min(1.0, best(platt_targets(y, values.shape[1])))


def platt_targets(y: IntArray, classes: int) -> FloatArray:
    """Smoothed targets (N, K) (Platt 1999): (n + 1)/(n + 2) for a class of n cases, the rest split over the others."""
    confidence = (np.bincount(y, minlength=classes) + 1) / (np.bincount(y, minlength=classes) + 2)
    targets = np.repeat(((1 - confidence[y]) / max(classes - 1, 1))[:, None], classes, axis=1)
    targets[np.arange(len(y)), y] = confidence[y]
    return np.asarray(targets)


def fit_bias(probabilities: FloatArray, y: IntArray) -> tuple[float, tuple[float, ...]]:
    """Fit a temperature and a bias (K,), 0 for a class without cases. The bias undoes the effect of class weights in a
    loss (bias-corrected temperature scaling; Alexandari, Kundaje & Shrikumar, ICML 2020).
    """
    values, seen = logits(probabilities), np.unique(y)

    def unpacked(parameters: FloatArray) -> tuple[float, FloatArray]:
        bias = np.zeros(values.shape[1])
        bias[seen] = parameters[1:]
        return float(np.exp(parameters[0])), bias

    def loss(parameters: FloatArray) -> float:
        temperature, bias = unpacked(parameters)
        return float(-(targets * log_softmax(values / temperature + bias, axis=1)).sum(axis=1).mean())

    targets = platt_targets(y, values.shape[1])
    start = np.append(np.log(fit_temperature(probabilities, y)), np.zeros(len(seen)))
    bounds = [(np.log(0.05), np.log(20)), *[(-10.0, 10.0)] * len(seen)]
    temperature, bias = unpacked(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
    bias[seen] -= bias[seen].mean()  # a common shift changes nothing
    return temperature, tuple(bias.tolist())


def conformal_limits(calibrated: FloatArray, y: IntArray, alpha: float) -> tuple[float, ...]:
    """Class-conditional limits (K,) of split-conformal sets (Vovk 2005; Angelopoulos & Bates 2023).

    For each class the ⌈(n + 1)(1 − α)⌉-th smallest 1 − p(true) of its n cases; with n < 1/α − 1 cases the class is in
    every set, without cases, and so without training, in none. `calibrated` (N, K) must come from models that were not
    trained on these cases.
    """
    limits = []
    for k in range(calibrated.shape[1]):
        scores = np.sort(1 - calibrated[y == k, k])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        limits.append(EXCLUDE_ALL if not len(scores) else float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return tuple(limits)


def calibrate(probabilities: FloatArray, y: IntArray, alpha: float, biased: bool = False) -> Calibration:
    """Fit temperature, limits, and a bias if `biased`, on cross-validated probabilities (N, K) and classes (N,)."""
    temperature, bias = fit_bias(probabilities, y) if biased else (fit_temperature(probabilities, y), ())
    scaled = Calibration(temperature, (), bias).probabilities(probabilities)
    return Calibration(temperature, conformal_limits(scaled, y, alpha), bias)


def from_json(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Calibration]:
    """Read calibrations by model from JSON values that `Calibration._asdict` made."""
    return {
        name: Calibration(values["temperature"], tuple(values["limits"]), tuple(values.get("bias", ())))
        for name, values in state.items()
    }
