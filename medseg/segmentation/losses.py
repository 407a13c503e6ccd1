"""Losses of exclusive labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiceCrossEntropy(nn.Module):
    """`dice` · (1 − soft Dice over the foreground) + `cross_entropy` · CE (Isensee et al. 2021).

    With `batch` the overlap is summed over the batch before the ratio is taken: steadier where a label is absent in
    many patches.
    """

    def __init__(self, dice: float = 1.0, cross_entropy: float = 1.0, batch: bool = True) -> None:
        super().__init__()
        self.dice, self.cross_entropy, self.batch = dice, cross_entropy, batch

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, K, *S) and labels (B, *S) → one number."""
        logits = logits.float()
        loss = self.cross_entropy * F.cross_entropy(logits, target)
        if self.dice:
            loss = loss + self.dice * (1 - self._soft_dice(logits.softmax(1), target))
        return loss

    def _soft_dice(self, probability: Tensor, target: Tensor) -> Tensor:
        truth = F.one_hot(target, probability.shape[1]).movedim(-1, 1)  # (B, K, *S)
        axes = tuple(range(2, probability.ndim))
        if self.batch:
            axes = (0, *axes)
        overlap = (probability * truth).sum(axes)[..., 1:]
        total = (probability.sum(axes) + truth.sum(axes))[..., 1:]
        return ((2 * overlap + 1) / (total + 1)).mean()


def supervised(loss: nn.Module, outputs: Tensor | list[Tensor], target: Tensor) -> Tensor:
    """The loss at full size, or over the levels of deep supervision with weights 1, ½, ¼ … that sum to 1."""
    if isinstance(outputs, Tensor):
        full: Tensor = loss(outputs, target)
        return full
    weights = [0.5**level for level in range(len(outputs))]
    total = torch.zeros((), device=target.device)
    for level, (logits, weight) in enumerate(zip(outputs, weights, strict=True)):
        smaller = target[(slice(None), *[slice(None, None, 2**level)] * (target.ndim - 1))]  # (B, *S/2^level)
        total = total + weight / sum(weights) * loss(logits, smaller)
    return total
