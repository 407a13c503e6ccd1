import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from medseg.diagnosis.lightning_module import SequenceModule, class_weights
from medseg.diagnosis.lstm import SequenceLSTM, Task
from medseg.diagnosis.sequence_dataset import UNKNOWN, Augmentation, Item, Windows, collate


def breaths(seed):
    """A breathing curve with noise: the state is whether it rises, the signal the curve itself."""
    random = np.random.default_rng(seed)
    phase = np.arange(80) * 2 * np.pi / random.uniform(10, 20) + random.uniform(0, 6)
    curve = np.sin(phase)
    x = (curve + 0.1 * random.standard_normal(80))[:, None]
    return Item(x, None, (np.cos(phase) > 0).astype(np.int64), curve)


def module(**settings):
    torch.manual_seed(0)
    return SequenceModule(SequenceLSTM(Task(1, 2), hidden=16), **settings)


# Lightning itself uses a deprecated torch class
@pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:.*does not have many workers", "ignore:.*number of training batches"
)
def test_breathing_is_learnt_and_losses_are_logged():
    torch.manual_seed(0)
    windows = Windows([breaths(s) for s in range(4)], 40, 32, Augmentation(time_stretch=1.2, noise=0.05))
    train = DataLoader(windows, 16, collate_fn=collate)
    valid = DataLoader([breaths(9)], 1, collate_fn=collate)
    lit = module(lr=1e-2)
    trainer = pl.Trainer(
        max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(lit, train, valid)
    assert {"train_loss", "valid_loss"} <= set(trainer.callback_metrics)
    unseen = breaths(10)
    prediction = lit.model.predict(unseen)
    assert (prediction.probabilities.argmax(axis=1) == unseen.state).mean() > 0.85
    assert np.corrcoef(prediction.signal, unseen.signal)[0, 1] > 0.95


def test_what_is_unknown_adds_nothing_to_the_loss():
    lit = module().eval()
    full = breaths(0)
    half = full._replace(state=np.where(np.arange(80) < 40, full.state, UNKNOWN), signal=np.full(80, np.nan))
    states_only = module(signal_weight=0.0).eval()
    expected = torch.nn.functional.cross_entropy(
        lit.model(collate([full])).logits[0, :40], torch.tensor(full.state[:40])
    )
    assert lit.loss(collate([half])).item() == pytest.approx(expected.item())
    assert states_only.loss(collate([half])).item() == pytest.approx(expected.item())
    nothing = full._replace(state=None, signal=None)
    assert lit.loss(collate([nothing])).item() == 0


def test_rare_classes_weigh_more_and_unseen_ones_nothing():
    items = [Item(np.zeros((4, 1)), None, np.array([0, 0, 0, 1])), Item(np.zeros((1, 1)), None, np.array([UNKNOWN]))]
    assert class_weights(items, 3) == pytest.approx([4 / (2 * 3), 4 / (2 * 1), 0])
