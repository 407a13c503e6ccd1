"""Probabilities that mean what they say: temperature scaling, and sets that hold the true class 1 − α often."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NEVER = -1.0  # limit of a class that is in no set
LEAST = 1e-6  # of a probability, before its logarithm is taken


class Calibration(NamedTuple):
    """temperature: logits are divided by it; limits (K,): a class is in the set where 1 − its probability is below."""

    temperature: float
    limits: tuple[float, ...]

    def probabilities(self, probabilities: Floats) -> Floats:
        """Calibrated (N, K) of a model's own (N, K)."""
        return np.asarray(softmax(logits(probabilities) / self.temperature, axis=1))

    def sets(self, calibrated: Floats) -> Bools:
        """Which classes are in each case's set (N, K), from calibrated probabilities; the best is always in it.

        An empty set says that no class fits; the most probable one is then left in it, beside nothing.
        """
        inside = 1 - calibrated <= np.asarray(self.limits)
        inside[np.arange(len(inside)), calibrated.argmax(axis=1)] = True
        return np.asarray(inside)


def logits(probabilities: Floats) -> Floats:
    """Logarithms (N, K), no lower than that of one in a million."""
    return np.asarray(np.log(np.clip(probabilities, LEAST, 1.0)))


def fit_temperature(probabilities: Floats, truth: Ints) -> float:
    """The temperature in 0.05 … 20 with the least negative log-likelihood of `truth` (N,) (Guo et al., ICML 2017).

    `probabilities` (N, K) must come from models that did not see these cases.
    """
    values = logits(probabilities)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(values / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(truth)), truth].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def conformal_limits(calibrated: Floats, truth: Ints, alpha: float) -> tuple[float, ...]:
    """Class-conditional limits (K,) of split-conformal sets (Vovk 2005; Angelopoulos & Bates 2023).

    For each class the ⌈(n + 1)(1 − α)⌉-th smallest 1 − p(true) of its n cases; with so few that there is none (n <
    1/α − 1) the class is in every set. One that no case shows was not learnt either, and is in none. `calibrated`
    (N, K) must come from models that did not see these cases.
    """
    limits = []
    for k in range(calibrated.shape[1]):
        scores = np.sort(1 - calibrated[truth == k, k])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        limits.append(NEVER if not len(scores) else float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return tuple(limits)


def calibrate(probabilities: Floats, truth: Ints, alpha: float) -> Calibration:
    """Temperature and limits from out-of-fold probabilities (N, K) and true class numbers (N,)."""
    temperature = fit_temperature(probabilities, truth)
    scaled = Calibration(temperature, ()).probabilities(probabilities)
    return Calibration(temperature, conformal_limits(scaled, truth, alpha))
