"""Breathing that repeats can be foretold; a recording that is too short cannot."""

import numpy as np
import pytest

from medseg.diagnosis.forecasting import Forecast, Horizon

Trace = tuple[np.ndarray, np.ndarray]


def breath(period: float, seconds: float = 60, rate: float = 5, seed: int = 0) -> Trace:
    """A raised cosine with a little noise: signal and times."""
    times = np.arange(0, seconds, 1 / rate)
    phase = 2 * np.pi * times / period + seed
    noise = np.random.default_rng(seed).normal(0, 0.02, len(times))
    return np.cos(phase) + 0.2 * np.cos(2 * phase) + noise, times


@pytest.fixture(scope="module")
def learnt() -> Forecast:
    made = Forecast.fit(
        [breath(p, seed=n) for n, p in enumerate((3.0, 3.5, 4.2, 5.0))], Horizon(), hidden=16, max_samples=12_800
    )
    assert made is not None
    return made


def until(signal: np.ndarray, times: np.ndarray) -> list[Trace]:
    """What has been read of a trace at each of its frames."""
    return [(signal[: last + 1], times[: last + 1]) for last in range(len(times))]


def error(said: np.ndarray, horizon: Horizon, trace: Trace) -> float:
    later = horizon.targets(*trace)
    known = np.isfinite(said) & np.isfinite(later)
    return float(np.sqrt(np.mean((said[known] - later[known]) ** 2)) / later[known].std())


def test_both_beat_holding_the_last_value_on_a_period_never_seen(learnt: Forecast) -> None:
    trace = breath(3.9, seed=9)
    forecasts = learnt(until(*trace))
    errors = {name: error(values, learnt.horizon, trace) for name, values in forecasts.items()}
    assert errors["linear"] < 0.3 * errors["hold"]
    assert errors["lstm"] < 0.4 * errors["hold"]


def test_nothing_is_said_before_the_past_is_known_and_time_need_not_be_even(learnt: Forecast) -> None:
    signal, times = breath(4.0)
    rows = np.sort(np.random.default_rng(1).permutation(len(times))[: len(times) * 2 // 3])
    forecast = learnt(until(signal[rows], times[rows]))["linear"]
    assert np.isnan(forecast[times[rows] < times[rows][0] + 3.9 - 1e-6]).all()
    assert np.isfinite(forecast[times[rows] > times[rows][0] + 4]).all()
    assert error(forecast, learnt.horizon, (signal[rows], times[rows])) < 0.35


def test_only_its_past_counts(learnt: Forecast) -> None:
    signal, times = breath(4.0)
    changed = signal.copy()
    changed[:100] += 5
    shorter = [(signal, times), (signal[150:], times[150:]), (changed, times)]
    for values in learnt(shorter).values():
        assert np.ptp(values) < 1e-12  # nothing further back than the horizon's past is read
    late = learnt.horizon.reaches(times)
    assert np.array_equal(late, np.isfinite(learnt(until(signal, times))["lstm"]))
    assert learnt([])["hold"].shape == (0,)


def test_kept_it_is_the_same(learnt: Forecast) -> None:
    trace = breath(4.4, seed=3)
    again = Forecast.from_arrays(learnt.horizon, learnt.arrays())
    for name, values in learnt(until(*trace)).items():
        assert np.array_equal(values, again(until(*trace))[name], equal_nan=True)


def test_what_is_too_short_or_without_times_gives_nothing(learnt: Forecast) -> None:
    assert Forecast.fit([breath(4.0, seconds=3)], Horizon()) is None
    assert Forecast.fit([], Horizon()) is None
    signal, times = breath(4.0)
    assert np.isnan(learnt([(signal, np.full(len(times), np.nan))])["lstm"]).all()
    assert not learnt.horizon.reaches(np.full(len(times), np.nan)).any()
