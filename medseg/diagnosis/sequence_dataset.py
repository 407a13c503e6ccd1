"""Sequences of unequal length as one padded batch, and windows of them for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from medseg.typing import AnyArray, IntArray

UNKNOWN = -100
"""Class index of a frame without a state, and of padding: cross-entropy's own default to leave out."""


class Item(NamedTuple):
    """One sequence. x: (T, F); steps: (T, S, G) or None; signal: (T,) with NaN where there is none, or None.

    state: class index a frame (T,), or one for the whole (1,); `UNKNOWN` where there is none, or None.
    """

    x: AnyArray
    steps: AnyArray | None = None
    state: IntArray | None = None
    signal: AnyArray | None = None


class SequenceBatch(NamedTuple):
    """B sequences padded to the longest, T. x: (B, T, F); steps: (B, T, S, G) or None; lengths: (B,).

    state: (B, T) or (B, 1), padded with `UNKNOWN`; signal: (B, T), padded with NaN.
    """

    x: Tensor
    steps: Tensor | None
    lengths: Tensor
    state: Tensor
    signal: Tensor


def collate(items: Sequence[Item]) -> SequenceBatch:
    """Pad the sequences at their end."""
    steps = [torch.as_tensor(item.steps, dtype=torch.float32) for item in items if item.steps is not None]
    state = [torch.full((len(i.x),), UNKNOWN) if i.state is None else torch.as_tensor(i.state) for i in items]
    signal = [torch.full((len(i.x),), torch.nan) if i.signal is None else torch.as_tensor(i.signal) for i in items]
    return SequenceBatch(
        x=pad_sequence([torch.as_tensor(item.x, dtype=torch.float32) for item in items], batch_first=True),
        steps=pad_sequence(steps, batch_first=True) if steps else None,
        lengths=torch.tensor([len(item.x) for item in items]),
        state=pad_sequence([s.long() for s in state], batch_first=True, padding_value=UNKNOWN),
        signal=pad_sequence([s.float() for s in signal], batch_first=True, padding_value=torch.nan),
    )


class Augmentation(NamedTuple):
    """Augmentation of a training window, in units of the normalised features.

    time_stretch: up to this factor slower or faster, so that breathing rate and frame rate do not matter; scale: up to
    this factor smaller or larger; noise: standard deviation; feature_dropout: probability that a feature is set to
    0, so that the model does not rely on a single one.
    """

    time_stretch: float = 1.0
    scale: float = 1.0
    noise: float = 0.0
    feature_dropout: float = 0.0


class Windows(Dataset[Item]):
    """`count` windows of at most `length` frames, cut at random positions of the sequences.

    A sequence is drawn with a probability in proportion to its frames. Window i depends only on the seed and i, so a
    resumed training sees the same windows.
    """

    def __init__(
        self,
        items: Sequence[Item],
        length: int,
        count: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.items = list(items)
        self.length = length
        self.count, self.seed = count, seed
        self.augmentation = augmentation or Augmentation()
        frames = np.array([len(item.x) for item in self.items], dtype=float)
        self.probabilities = frames / frames.sum()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.count:
            raise IndexError(index)
        random = np.random.default_rng([self.seed, index])
        item = self.items[self._drawn(random)]
        window = _window(item, self.length, self.augmentation.time_stretch, random)
        x = _varied(window.x, self.augmentation, random)
        steps = None if window.steps is None else _varied(window.steps, self.augmentation, random)
        return window._replace(x=x, steps=steps)

    def drawn(self, numbers: range) -> list[int]:
        """Indices in `items` of the sequences that windows are cut from."""
        return [self._drawn(np.random.default_rng([self.seed, number])) for number in numbers]

    def _drawn(self, random: np.random.Generator) -> int:
        return int(random.choice(len(self.items), p=self.probabilities))


def _varied(x: AnyArray, augmentation: Augmentation, random: np.random.Generator) -> AnyArray:
    """Features (..., F) with random gain, noise and dropout."""
    features = x.shape[-1]
    gain = augmentation.scale ** random.uniform(-1, 1, features)
    keep_mask = random.random(features) >= augmentation.feature_dropout
    return np.asarray(
        (x * gain + augmentation.noise * random.standard_normal(x.shape)) * (keep_mask if np.any(keep_mask) else 1)
    )


def _window(item: Item, length: int, time_stretch: float, random: np.random.Generator) -> Item:
    """`length` frames, or all there are, from a random frame on, up to `time_stretch` times faster or slower."""
    total = len(item.x)
    speed = time_stretch ** random.uniform(-1, 1)
    span = min((length - 1) * speed, total - 1)
    steps = np.arange(int(span / speed + 1e-6) + 1) * speed
    start = random.uniform(0, total - 1 - span)
    at = ((start if speed != 1 else round(start)) + steps).clip(0, total - 1)  # (L,)
    nearest = np.round(at).astype(int)
    return Item(
        x=_read(item.x, at),
        steps=None if item.steps is None else _read(item.steps, at),
        state=item.state[nearest] if item.state is not None and len(item.state) == total else item.state,
        signal=None if item.signal is None else _read(item.signal, at),
    )


def _read(values: AnyArray, at: AnyArray) -> AnyArray:
    """Values (T, ...) at fractional frames (L,), linearly between neighbours."""
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    fraction = (at - low).reshape(-1, *[1] * (values.ndim - 1))
    # a NaN neighbour with weight 0 must not make the result NaN
    return np.asarray(np.where(fraction == 0, values[low], values[low] * (1 - fraction) + values[high] * fraction))
