"""Forecast a respiratory signal half a second ahead: ridge regression on its past, and a small LSTM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from medseg.typing import BoolArray, FloatArray

KINDS = ("lstm", "linear", "hold")
BATCH_SIZE, MAX_LEARNING_RATE = 64, 0.005  # windows per training step of the LSTM; peak of its one-cycle schedule


@dataclass(frozen=True)
class Horizon:
    """horizon_s: s to the forecast; the past is sampled at `n_lags` points, `lag_step_s` s apart, the last one now."""

    horizon_s: float = 0.5
    n_lags: int = 40
    lag_step_s: float = 0.1

    @property
    def past(self) -> float:
        """Length of the past that a forecast reads, in s."""
        return self.lag_step_s * (self.n_lags - 1)

    def reaches(self, times: FloatArray) -> BoolArray:
        """Which of `times` (T,) in s have a complete past (T,)."""
        known = np.isfinite(times)
        first = times[known][0] if known.any() else np.nan
        return np.asarray(known & (times - self.past >= first - 1e-9))

    def windows(self, signal: FloatArray, times: FloatArray) -> tuple[FloatArray, BoolArray]:
        """The past of each frame (T, L), oldest first, interpolated linearly; which frames have a complete one (T,)."""
        known = np.isfinite(signal) & np.isfinite(times)
        if known.sum() < 2:
            return np.zeros((len(signal), self.n_lags)), np.zeros(len(signal), bool)
        at = times[:, None] - self.lag_step_s * np.arange(self.n_lags - 1, -1, -1)  # (T, L)
        past = np.interp(at, times[known], signal[known])
        whole = np.isfinite(times) & (at[:, 0] >= times[known][0] - 1e-9)
        return np.where(whole[:, None], past, 0.0), whole

    def targets(self, signal: FloatArray, times: FloatArray) -> FloatArray:
        """The signal `horizon_s` after each frame (T,); NaN if the recording ends before."""
        known = np.isfinite(signal) & np.isfinite(times)
        if known.sum() < 2:
            return np.full(len(signal), np.nan)
        later = times + self.horizon_s
        inside = np.isfinite(later) & (later <= times[known][-1] + 1e-9)
        return np.where(inside, np.interp(later, times[known], signal[known]), np.nan)


class Recurrent(nn.Module):
    """LSTM over the past (B, L) → the change of the signal (B,)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.read = nn.LSTM(1, hidden, batch_first=True)
        self.tell = nn.Linear(hidden, 1)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        """(B, L) → (B,)."""
        states, _ = self.read((past - past[:, -1:]).unsqueeze(2))  # (B, L, H)
        change: torch.Tensor = self.tell(states[:, -1]).squeeze(1)  # (B,)
        return change


class Forecast:
    """Both forecasters; weights (L + 1,) of the ridge regression, the last one the constant."""

    def __init__(self, horizon: Horizon, weights: FloatArray, network: Recurrent) -> None:
        self.horizon, self.weights, self.network = horizon, weights, network

    @classmethod
    def fit(
        cls,
        signals: Sequence[tuple[FloatArray, FloatArray]],
        horizon: Horizon,
        hidden: int = 32,
        max_samples: int = 20_000,
        seed: int = 0,
    ) -> Forecast | None:
        """Fit on (signal, times in s) of training sequences; None if none is long enough."""
        from sklearn.linear_model import Ridge

        pasts, laters = [], []
        for signal, times in signals:
            past, whole = horizon.windows(signal, times)
            later = horizon.targets(signal, times)
            use = whole & np.isfinite(later)
            pasts.append(past[use])
            laters.append(later[use])
        x = np.concatenate(pasts) if pasts else np.zeros((0, horizon.n_lags))  # (N, L)
        if len(x) < horizon.n_lags:
            return None
        y = np.concatenate(laters)
        ridge = Ridge(alpha=1.0).fit(x, y)
        return cls(horizon, np.append(ridge.coef_, ridge.intercept_), _trained(x, y, hidden, max_samples, seed))

    @classmethod
    def from_arrays(cls, horizon: Horizon, arrays: Mapping[str, torch.Tensor]) -> Forecast:
        """Restore the forecast whose `arrays` these are."""
        state = {k.removeprefix("lstm."): v for k, v in arrays.items() if k.startswith("lstm.")}
        network = Recurrent(state["tell.weight"].shape[1])
        network.load_state_dict(state)
        return cls(horizon, arrays["linear"].numpy(), network.eval())

    @torch.inference_mode()
    def __call__(self, readings: Iterable[tuple[FloatArray, FloatArray]]) -> dict[str, FloatArray]:
        """Forecast the signal `horizon_s` after the last frame of each of N readings: {"lstm", "linear", "hold"}, (N,)
        each, NaN if the past is too short.

        A reading is a signal (T,) and its times (T,) in s, both up to the moment of the forecast, so no later frame
        can leak in. "hold" predicts no change: the baseline for any forecast.
        """
        last_windows = [
            (past[-1], whole[-1]) for past, whole in (self.horizon.windows(*reading) for reading in readings)
        ]
        past = np.array([row for row, _ in last_windows]).reshape(-1, self.horizon.n_lags)  # (N, L)
        whole = np.array([has_past for _, has_past in last_windows], bool)
        change = self.network(torch.as_tensor(past, dtype=torch.float32)).double().numpy()
        linear = np.concatenate([past, np.ones((len(past), 1))], axis=1) @ self.weights
        forecasts = {"lstm": past[:, -1] + change, "linear": linear, "hold": past[:, -1]}
        return {name: np.where(whole, values, np.nan) for name, values in forecasts.items()}

    def arrays(self) -> dict[str, torch.Tensor]:
        """The parameters as tensors for safetensors."""
        tensors = {f"lstm.{name}": value for name, value in self.network.state_dict().items()}
        return {**tensors, "linear": torch.from_numpy(self.weights)}


def _trained(x: FloatArray, y: FloatArray, hidden: int, max_samples: int, seed: int) -> Recurrent:
    """Train the LSTM on `max_samples` random windows, each scaled by a random gain."""
    steps = max(1, max_samples // BATCH_SIZE)
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Recurrent(hidden)
        optimizer = torch.optim.AdamW(network.parameters(), lr=MAX_LEARNING_RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LEARNING_RATE, total_steps=steps)
        for _ in range(steps):
            rows = random.integers(len(x), size=BATCH_SIZE)
            gain = random.uniform(0.7, 1.4, (BATCH_SIZE, 1))
            past = torch.as_tensor(x[rows] * gain, dtype=torch.float32)
            change = torch.as_tensor((y[rows] - x[rows, -1]) * gain[:, 0], dtype=torch.float32)
            loss = nn.functional.smooth_l1_loss(network(past), change)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()
