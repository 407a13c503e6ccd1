import numpy as np
import pytest

from medseg.diagnosis import respiratory_signal

TIMES = np.arange(0, 40, 0.2)


def sine(period, times=TIMES):
    return np.sin(2 * np.pi * times / period)


@pytest.mark.parametrize("period", [2.3, 4.0, 6.1])
def test_a_sine_has_its_period(period):
    assert respiratory_signal.period(5 + 3 * sine(period), TIMES) == pytest.approx(period, rel=0.01)


def test_drift_noise_ripples_and_gaps_do_not_hide_the_period():
    random = np.random.default_rng(0)
    curve = sine(4.0) + 0.25 * sine(0.9) + 0.05 * TIMES + 0.2 * random.standard_normal(len(TIMES))
    curve[30:34] = np.nan
    assert respiratory_signal.period(curve, TIMES) == pytest.approx(4.0, rel=0.03)


def test_no_breath_has_no_period():
    assert np.isnan(respiratory_signal.period(np.ones(50), TIMES[:50]))
    assert np.isnan(respiratory_signal.period(TIMES[:50], TIMES[:50]))
    assert np.isnan(respiratory_signal.period(sine(4.0)[:3], TIMES[:3]))


def test_normalised_signals_have_mean_0_and_deviation_1():
    done = respiratory_signal.normalise(np.array([1.0, np.nan, 3.0]))
    assert done[[0, 2]].tolist() == [-1, 1]
    assert np.isnan(done[1])
    assert (respiratory_signal.normalise(np.full(5, 7.0)) == 0).all()


def test_a_signal_is_described_in_breaths() -> None:
    times = np.arange(0, 60, 0.2)
    lengths = np.random.default_rng(0).uniform(3, 5, 40)
    phase = np.interp(times, np.concatenate([[0], np.cumsum(lengths)]), np.arange(41))
    features = respiratory_signal.describe(3 * np.cos(2 * np.pi * phase), times)
    assert features["amplitude"] == pytest.approx(6, rel=0.05)
    within = lengths[1 : np.searchsorted(np.cumsum(lengths), 60)]  # from the first peak to the last
    assert features["irregularity"] == pytest.approx(within.std() / within.mean(), abs=0.03)
    assert features["breaths"] == pytest.approx(len(within), abs=1)
    even = respiratory_signal.describe(np.cos(2 * np.pi * times / 4), times)
    assert even["irregularity"] == pytest.approx(0, abs=0.03)
    assert even["breaths_per_minute"] == pytest.approx(15, rel=0.02)
    assert np.isnan(respiratory_signal.describe(np.ones(50), np.arange(50.0))["amplitude"])
