import numpy as np
import pytest

from medseg.diagnosis.linear_baseline import LinearBaseline
from medseg.diagnosis.sequence_dataset import UNKNOWN, Item
from medseg.errors import DataError


def breaths(seed, classes=2):
    random = np.random.default_rng(seed)
    phase = np.arange(120) * 2 * np.pi / 15 + random.uniform(0, 6)
    x = np.stack([np.sin(phase), random.standard_normal(120)], axis=1)
    state = (np.cos(phase) > 0).astype(np.int64) if classes == 2 else np.digitize(np.sin(phase), [-0.4, 0.4])
    return Item(x, None, state, 3 * np.sin(phase) + 1)


def test_state_and_signal_are_read_from_the_neighbouring_frames():
    unseen = breaths(9)
    prediction = LinearBaseline.fit([breaths(0), breaths(1)], classes=2).predict(unseen)
    assert prediction.probabilities.shape == (120, 2)
    assert prediction.probabilities.sum(axis=1) == pytest.approx(1)
    assert (prediction.probabilities.argmax(axis=1) == unseen.state).mean() > 0.9
    assert prediction.signal == pytest.approx(unseen.signal, abs=0.3)


def test_three_classes_of_which_one_was_never_seen():
    prediction = LinearBaseline.fit([breaths(0, classes=3)], classes=4, frames_before=1, frames_after=0).predict(
        breaths(1, classes=3)
    )
    assert prediction.probabilities.shape == (120, 4)
    assert (prediction.probabilities[:, 3] < 1e-6).all()
    assert set(prediction.probabilities.argmax(axis=1)) == {0, 1, 2} or set(
        prediction.probabilities.argmax(axis=1)
    ) == {0, 2}


def test_without_frames_ahead_the_future_is_not_seen():
    model = LinearBaseline.fit([breaths(0)], classes=2, frames_after=0)
    item = breaths(1)
    changed = item._replace(x=np.concatenate([item.x[:60], item.x[60:] + 9]))
    assert np.array_equal(model.predict(item).probabilities[:60], model.predict(changed).probabilities[:60])


def test_a_model_survives_as_plain_arrays():
    model = LinearBaseline.fit([breaths(0)], classes=2, frames_before=3, frames_after=1)
    arrays = model.arrays()
    assert all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in arrays.values())
    again = LinearBaseline.from_arrays(arrays)
    assert np.array_equal(again.predict(breaths(1)).probabilities, model.predict(breaths(1)).probabilities)
    assert np.array_equal(again.predict(breaths(1)).signal, model.predict(breaths(1)).signal)


def test_whole_sequences_are_judged_from_their_mean():
    items = [Item(np.full((5 + k, 1), float(k % 2)), None, np.array([k % 2])) for k in range(8)]
    prediction = LinearBaseline.fit(items, classes=2, frames_before=0, frames_after=0, c=100).predict(items[3])
    assert prediction.probabilities.shape == (1, 2)
    assert prediction.probabilities[0, 1] > 0.5
    assert prediction.signal is None


def test_one_class_is_not_enough():
    item = breaths(0)
    with pytest.raises(DataError, match="at least two classes"):
        LinearBaseline.fit([item._replace(state=np.where(item.state == 1, UNKNOWN, 0))], classes=2)
