import numpy as np
import pytest
import torch

from medseg.diagnosis.sequence_dataset import UNKNOWN, Augmentation, Item, Windows, collate


def item(length: int, slices: int = 0) -> Item:
    """x and signal count the frames, a state changes in the middle."""
    frames = np.arange(length, dtype=float)
    steps = np.arange(length * slices * 2, dtype=float).reshape(length, slices, 2) if slices else None
    return Item(frames[:, None], steps, (frames >= length / 2).astype(np.int64), frames)


def test_sequences_are_padded_behind_their_end_and_say_so() -> None:
    batch = collate([item(2, 3), item(4, 3)])
    assert batch.x.shape == (2, 4, 1)
    assert batch.steps is not None
    assert batch.steps.shape == (2, 4, 3, 2)
    assert batch.lengths.tolist() == [2, 4]
    assert batch.x[0, :, 0].tolist() == [0, 1, 0, 0]
    assert batch.state.tolist() == [[0, 1, UNKNOWN, UNKNOWN], [0, 0, 1, 1]]
    assert batch.signal[0, :2].tolist() == [0, 1]
    assert batch.signal[0, 2:].isnan().all()


def test_what_is_unknown_is_unknown_throughout() -> None:
    batch = collate([Item(np.zeros((3, 1))), item(2)])
    assert batch.steps is None
    assert batch.state[0].tolist() == [UNKNOWN] * 3
    assert batch.signal[0].isnan().all()


def test_one_class_for_the_whole_stays_one() -> None:
    whole = [Item(np.zeros((n, 1)), None, np.array([n % 2])) for n in (3, 4)]
    assert collate(whole).state.tolist() == [[1], [0]]
    windows = Windows(whole, 2, 5)
    assert all(windows[k].state.tolist() == whole[k % 2].state.tolist() or len(windows[k].x) == 2 for k in range(5))


def test_a_plain_window_is_a_piece_of_the_sequence() -> None:
    torch.manual_seed(0)
    windows = Windows([item(10, 2)], 4, 120)
    starts = set()
    for number in range(120):
        window = windows[number]
        first = int(window.x[0, 0])
        starts.add(first)
        assert window.x[:, 0].tolist() == [first + k for k in range(4)] == window.signal.tolist()
        assert window.state.tolist() == [int(first + k >= 5) for k in range(4)]
        assert window.steps[0].tolist() == item(10, 2).steps[first].tolist()
    assert starts == set(range(7))  # every place comes up
    with pytest.raises(IndexError):
        windows[120]


def test_a_short_sequence_is_shown_whole() -> None:
    assert Windows([item(3)], 8, 1)[0].x[:, 0].tolist() == [0, 1, 2]


def test_stretched_windows_read_between_frames_and_keep_states_whole() -> None:
    torch.manual_seed(1)
    windows, speeds = Windows([item(40)], 8, 60, Augmentation(time_stretch=2.0)), []
    for number in range(60):
        window = windows[number]
        steps = np.diff(window.signal)
        assert steps == pytest.approx(np.full(len(steps), steps[0]))
        assert window.signal == pytest.approx(window.x[:, 0])
        assert set(window.state.tolist()) <= {0, 1}
        speeds.append(float(steps[0]))
    assert 0.5 <= min(speeds) < 0.75 < 1.4 < max(speeds) <= 2.0


def test_a_gap_stays_a_gap_and_no_larger() -> None:
    signal = np.array([0.0, 1.0, np.nan, 3.0, 4.0])
    window = Windows([Item(np.zeros((5, 1)), None, None, signal)], 5, 1)[0]
    assert np.isnan(window.signal).tolist() == [False, False, True, False, False]


def test_gain_noise_and_blanks_are_as_asked() -> None:
    torch.manual_seed(2)
    ones = Item(np.ones((30, 400)))
    gained = Windows([ones], 30, 1, Augmentation(scale=1.5))[0].x
    assert (gained == gained[:1]).all()  # one gain a feature
    assert 1 / 1.5 <= gained.min() < 0.8 < 1.2 < gained.max() <= 1.5
    noisy = Windows([ones], 30, 1, Augmentation(noise=0.2))[0].x
    assert noisy.std() == pytest.approx(0.2, rel=0.05)
    blanked = Windows([ones], 30, 1, Augmentation(feature_dropout=0.25))[0].x
    assert (blanked == 0).all(axis=0).mean() == pytest.approx(0.25, abs=0.08)
    assert ((blanked == 0) | (blanked == 1)).all()


def test_longer_sequences_are_drawn_more_often() -> None:
    torch.manual_seed(3)
    windows = Windows([Item(np.zeros((10, 1))), Item(np.ones((30, 1)))], 5, 400)
    drawn = [float(windows[k].x[0, 0]) for k in range(400)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.07)
