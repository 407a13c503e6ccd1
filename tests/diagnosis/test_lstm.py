import numpy as np
import pytest
import torch

from medseg.diagnosis.lstm import SequenceLSTM, Task
from medseg.diagnosis.sequence_dataset import UNKNOWN, Augmentation, Item, Windows, collate


def item(length, features=3, slices=0, seed=0):
    random = np.random.default_rng([seed, length])
    steps = random.standard_normal((length, slices, 2)) if slices else None
    return Item(random.standard_normal((length, features)), steps, random.integers(0, 2, length), np.zeros(length))


def network(**settings):
    torch.manual_seed(0)
    task = settings.pop("task", Task(features=3, classes=2))
    return SequenceLSTM(task, hidden=8, **settings).eval()


@pytest.mark.parametrize("per", ["frame", "sequence"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_does_not_change_a_result(per, bidirectional):
    net = network(task=Task(3, 2, step_features=2, per=per), bidirectional=bidirectional, layers=2)
    short, long = item(5, slices=4), item(11, slices=4)
    together = net(collate([short, long]))
    for row, one in enumerate((short, long)):
        alone, length = net(collate([one])), len(one.x)
        kept = length if per == "frame" else 1
        assert torch.allclose(together.logits[row, :kept], alone.logits[0], atol=1e-6)
        assert torch.allclose(together.signal[row, :length], alone.signal[0], atol=1e-6)


def test_what_stands_in_the_padding_does_not_matter():
    net = network()
    batch = collate([item(5), item(11)])
    spoilt = batch.x.clone()
    spoilt[0, 5:] = 1e6
    assert torch.equal(net(batch).logits[0, :5], net(batch._replace(x=spoilt)).logits[0, :5])


@pytest.mark.parametrize("bidirectional", [True, False])
def test_only_a_causal_network_does_not_see_the_future(bidirectional):
    net = network(bidirectional=bidirectional, layers=2)
    one = item(9)
    changed = one._replace(x=np.concatenate([one.x[:6], one.x[6:] + 5]))
    same = np.allclose(net.predict(one).probabilities[:6], net.predict(changed).probabilities[:6], atol=1e-6)
    assert same != bidirectional


def test_predictions_are_probabilities_without_dropout_and_leave_the_mode_as_it_was():
    net = network(dropout=0.5).train()
    one = item(7)
    first, second = net.predict(one), net.predict(one)
    assert np.array_equal(first.probabilities, second.probabilities)
    assert first.probabilities.sum(axis=1) == pytest.approx(1)
    assert first.probabilities.shape == (7, 2)
    assert first.signal.shape == (7,)
    assert net.training


def test_a_whole_sequence_gets_one_class_and_no_signal_where_none_is_asked_for():
    prediction = network(task=Task(3, 4, per="sequence", signal=False)).predict(item(7))
    assert prediction.probabilities.shape == (1, 4)
    assert prediction.signal is None


def test_a_network_with_slices_needs_slices_and_reads_their_order():
    net = network(task=Task(3, 2, step_features=2))
    with pytest.raises(ValueError, match="has no"):
        net.predict(item(4))
    one = item(4, slices=5)
    turned = one._replace(steps=one.steps[:, ::-1].copy())
    assert not np.allclose(net.predict(one).probabilities, net.predict(turned).probabilities)


def test_a_batch_is_padded_with_unknown():
    batch = collate([item(2), item(4)._replace(state=None, signal=None)])
    assert batch.lengths.tolist() == [2, 4]
    assert batch.state[0, 2:].tolist() == [UNKNOWN] * 2
    assert batch.state[1].tolist() == [UNKNOWN] * 4
    assert batch.signal[0].isnan().tolist() == [False, False, True, True]


def test_windows_are_pieces_of_the_sequences_with_their_states():
    one = Item(np.arange(50.0)[:, None], None, np.arange(50), np.arange(50.0))
    for window in Windows([one], length=8, count=20):
        assert len(window.x) == 8
        assert np.diff(window.x[:, 0]).tolist() == [1] * 7
        assert np.array_equal(window.state, window.x[:, 0])
        assert np.array_equal(window.signal, window.x[:, 0])


def test_a_stretched_window_runs_slower_or_faster_with_the_states_that_belong():
    one = Item(np.arange(99.0)[:, None], None, np.arange(99), np.arange(99.0))
    speeds = set()
    for window in Windows([one], length=8, count=40, augmentation=Augmentation(time_stretch=2)):
        assert len(window.x) == 8
        assert np.abs(window.state - window.x[:, 0]).max() <= 0.5 + 1e-6
        speeds.add(round(float(np.diff(window.x[:, 0]).mean()), 2))
    assert min(speeds) < 0.8
    assert max(speeds) > 1.3
    assert min(speeds) >= 0.5
    assert max(speeds) <= 2


def test_a_short_sequence_is_one_window_and_seeded_windows_repeat():
    windows = Windows(
        [item(3)], length=8, count=2, augmentation=Augmentation(noise=1.0, scale=1.5, feature_dropout=0.5)
    )
    torch.manual_seed(1)
    first = windows[0]
    torch.manual_seed(1)
    assert np.array_equal(first.x, windows[0].x)
    assert len(first.x) == 3


@pytest.mark.parametrize("per", ["frame", "sequence"])
def test_several_at_once_are_what_each_is_alone(per):
    model = network(task=Task(3, 2, 2, per))
    items = [item(length, slices=4) for length in (5, 2, 7)]
    for one, together in zip(items, model.predict_all(items), strict=True):
        alone = model.predict(one)
        assert together.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
        assert together.signal == pytest.approx(alone.signal, abs=1e-6)
        assert len(together.signal) == len(one.x)
