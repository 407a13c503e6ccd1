"""Probabilities that mean what they say: temperature scaling, and sets that hold the true class 1 − α often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from medseg.typing import BoolArray, FloatArray, IntArray

EXCLUDE_ALL = -1.0  # limit of a class that is in no set
LEAST = 1e-6  # of a probability, before its logarithm is taken


class Calibration(NamedTuple):
    """temperature: logits are divided by it; limits (K,): a class is in the set where 1 − its probability is below;
    bias (K,): added to the logits, or none.
    """

    temperature: float
    limits: tuple[float, ...]
    bias: tuple[float, ...] = ()

    def probabilities(self, probabilities: FloatArray) -> FloatArray:
        """Calibrated (N, K) of a model's own (N, K)."""
        return np.asarray(softmax(logits(probabilities) / self.temperature + np.asarray(self.bias or 0.0), axis=1))

    def sets(self, calibrated: FloatArray, silent: BoolArray | None = None) -> BoolArray:
        """Which classes are in each case's set (N, K), from calibrated probabilities; the best is always in it.

        Where none fits, as happens to a case between the classes of a model that is nearly always sure, none is ruled
        out: all that were learnt are in it. In the cases (N,) that are `silent`, of which nothing was measured that
        could rule one out, all are.
        """
        limits = np.asarray(self.limits)
        inside = 1 - calibrated <= limits
        inside[~inside.any(axis=1)] = limits != EXCLUDE_ALL
        inside[np.arange(len(inside)), calibrated.argmax(axis=1)] = True
        return np.asarray(inside if silent is None else inside | silent[:, None])


def logits(probabilities: FloatArray) -> FloatArray:
    """Logarithms (N, K), no lower than that of one in a million."""
    return np.asarray(np.log(np.clip(probabilities, LEAST, 1.0)))


def log_odds(probabilities: FloatArray) -> FloatArray:
    """Of each class against the rest (N, K), from −log(10⁶) to log(10⁶)."""
    return np.asarray(logits(probabilities) - logits(1 - probabilities))


def fit_temperature(probabilities: FloatArray, y: IntArray) -> float:
    """The temperature in 0.05 … 20 with the least negative log-likelihood of `truth` (N,) (Guo et al., ICML 2017).

    Where it is below 1, and makes surer, it is that for Platt's targets instead, and at most 1: where nearly all cases
    are right the likelihood alone would make it as small as it may be. `probabilities` (N, K) must come from models
    that did not see these cases.
    """
    values = logits(probabilities)

    def best(targets: FloatArray) -> float:
        def loss(log_temperature: float) -> float:
            return float(-(targets * log_softmax(values / np.exp(log_temperature), axis=1)).sum(axis=1).mean())

        return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))

    plain = best(np.eye(values.shape[1])[y])
    return plain if plain >= 1 else min(1.0, best(platt_targets(y, values.shape[1])))


def platt_targets(y: IntArray, classes: int) -> FloatArray:
    """What n cases of a class let one believe: (n + 1)/(n + 2) of it, the others share the rest (N, K) (Platt 1999)."""
    sure = (np.bincount(y, minlength=classes) + 1) / (np.bincount(y, minlength=classes) + 2)
    targets = np.repeat(((1 - sure[y]) / max(classes - 1, 1))[:, None], classes, axis=1)
    targets[np.arange(len(y)), y] = sure[y]
    return np.asarray(targets)


def fit_bias(probabilities: FloatArray, y: IntArray) -> tuple[float, tuple[float, ...]]:
    """As `fit_temperature`, with a bias (K,) for each class (bias-corrected temperature scaling; Alexandari, Kundaje &
    Shrikumar, ICML 2020): it takes back what weights of classes in a loss put in. 0 for a class that no case shows.
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

    For each class the ⌈(n + 1)(1 − α)⌉-th smallest 1 − p(true) of its n cases; with so few that there is none (n <
    1/α − 1) the class is in every set. One that no case shows was not learnt either, and is in none. `calibrated`
    (N, K) must come from models that did not see these cases.
    """
    limits = []
    for k in range(calibrated.shape[1]):
        scores = np.sort(1 - calibrated[y == k, k])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        limits.append(EXCLUDE_ALL if not len(scores) else float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return tuple(limits)


def calibrate(probabilities: FloatArray, y: IntArray, alpha: float, biased: bool = False) -> Calibration:
    """Temperature, limits and with `biased` a bias, from out-of-fold probabilities (N, K) and class numbers (N,)."""
    temperature, bias = fit_bias(probabilities, y) if biased else (fit_temperature(probabilities, y), ())
    scaled = Calibration(temperature, (), bias).probabilities(probabilities)
    return Calibration(temperature, conformal_limits(scaled, y, alpha), bias)


def from_json(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Calibration]:
    """Calibrations by model from plain values of JSON, as `Calibration._asdict` gives them."""
    return {
        name: Calibration(values["temperature"], tuple(values["limits"]), tuple(values.get("bias", ())))
        for name, values in state.items()
    }
