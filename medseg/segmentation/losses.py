"""Losses of exclusive labels (softmax) and overlapping labels (sigmoid); labels without annotation are ignored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiceCrossEntropy(nn.Module):
    """`dice` · (1 − soft Dice over the foreground) + `cross_entropy` · CE (Isensee et al. 2021).

    With `batch` the overlap is summed over the batch before the ratio is taken, which is more stable if a label is
    absent in many patches. `weights` of the labels 1..K scale both terms. Exclusive labels: logits (B, K+1, *S),
    channel 0 background; a label that was not annotated counts as background on both sides (marginal loss, Shi et al.
    2021). Otherwise logits (B, K, *S) against the bits of the mask; channels without annotation are left out.
    """

    def __init__(
        self,
        dice: float = 1.0,
        cross_entropy: float = 1.0,
        batch: bool = True,
        exclusive: bool = True,
        weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.dice, self.cross_entropy, self.batch, self.exclusive = dice, cross_entropy, batch, exclusive
        self.weights = weights

    def forward(self, logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        """Logits, coded mask (B, *S) and annotated labels (B, K) → one number."""
        logits = logits.float()
        count = logits.shape[1] - self.exclusive
        if known is None:
            known = torch.ones(len(logits), count, dtype=torch.bool, device=logits.device)
        if self.exclusive:
            return self._exclusive(logits, target, known)
        return self._overlapping(logits, target, known)

    def _exclusive(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        if not bool(known.all()):
            logits = _unknown_to_background(logits, known)
        weights = None if self.weights is None else logits.new_tensor([1.0, *self.weights])
        loss = self.cross_entropy * F.cross_entropy(logits, target, weights)
        if self.dice:
            reference = F.one_hot(target, logits.shape[1]).movedim(-1, 1)  # (B, K+1, *S)
            loss = loss + self.dice * self._dice_loss(logits.softmax(1)[:, 1:], reference[:, 1:], known)
        return loss

    def _overlapping(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        bits = 1 << torch.arange(logits.shape[1], device=target.device)
        reference = ((target[:, None] & bits.reshape(1, -1, *[1] * (target.ndim - 1))) > 0).float()  # (B, K, *S)
        weights = logits.new_tensor(self.weights or [1.0] * logits.shape[1])
        counted = (known * weights).reshape(*known.shape, *[1] * (target.ndim - 1))  # (B, K, 1…)
        entropy = F.binary_cross_entropy_with_logits(logits, reference, reduction="none") * counted
        loss = self.cross_entropy * entropy.sum() / (counted.sum() * target[0].numel()).clamp(min=1)
        if self.dice:
            loss = loss + self.dice * self._dice_loss(logits.sigmoid(), reference, known)
        return loss

    def _dice_loss(self, probability: Tensor, reference: Tensor, known: Tensor) -> Tensor:
        """1 − soft Dice, mean over known labels, of (B, K, *S)."""
        axes = tuple(range(2, probability.ndim))
        counted = known.reshape(*known.shape, *[1] * len(axes))  # (B, K, 1…)
        overlap = (probability * reference * counted).sum(axes)  # (B, K)
        total = ((probability + reference) * counted).sum(axes)
        valid = known.float() * probability.new_tensor(self.weights or [1.0] * probability.shape[1])
        if self.batch:
            overlap, total, valid = overlap.sum(0), total.sum(0), valid.amax(0)  # (K,)
        score = (2 * overlap + 1) / (total + 1)
        return ((1 - score) * valid).sum() / valid.sum().clamp(min=1e-6)


def _unknown_to_background(logits: Tensor, known: Tensor) -> Tensor:
    """Add the probability of labels without annotation to the background's logit."""
    shape = (*known.shape, *[1] * (logits.ndim - 2))
    unknown = ~known.reshape(shape)  # (B, K, 1…)
    hidden = logits[:, 1:].masked_fill(~unknown, -torch.inf)
    background = torch.logsumexp(torch.cat([logits[:, :1], hidden], dim=1), dim=1, keepdim=True)
    return torch.cat([background, logits[:, 1:].masked_fill(unknown, -1e4)], dim=1)


def supervised(loss: nn.Module, outputs: Tensor | list[Tensor], target: Tensor, known: Tensor | None = None) -> Tensor:
    """The loss at full size, or over the levels of deep supervision with weights 1, ½, ¼ … that sum to 1."""
    if isinstance(outputs, Tensor):
        full: Tensor = loss(outputs, target, known)
        return full
    weights = [0.5**level for level in range(len(outputs))]
    total = torch.zeros((), device=target.device)
    for level, (logits, weight) in enumerate(zip(outputs, weights, strict=True)):
        smaller = target[(slice(None), *[slice(None, None, 2**level)] * (target.ndim - 1))]  # (B, *S/2^level)
        total = total + weight / sum(weights) * loss(logits, smaller, known)
    return total
