"""An LSTM over frames, with an inner LSTM over the slices of each frame if there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from medseg.diagnosis.sequence_dataset import Item, SequenceBatch, collate
from medseg.typing import Float32Array


class Task(NamedTuple):
    """Inputs and outputs of the network.

    features: F, per frame; classes: K; step_features: G, per slice, 0 without slices; per: one class per frame or for
    the whole sequence; signal: whether a signal value per frame is predicted too.
    """

    features: int
    classes: int
    step_features: int = 0
    per: Literal["frame", "sequence"] = "frame"
    signal: bool = True


class Output(NamedTuple):
    """logits: (B, T, K), or (B, 1, K) for whole sequences; signal: (B, T) or None. Meaningless in the padding."""

    logits: Tensor
    signal: Tensor | None


class Prediction(NamedTuple):
    """Of one sequence. probabilities: (T, K), or (1, K) for the whole, rows sum to 1; signal: (T,) or None."""

    probabilities: Float32Array
    signal: Float32Array | None


class SequenceLSTM(nn.Module):
    """slices (S, G) → inner LSTM → vector, beside the frame's features (F) → outer LSTM over frames → logits, signal.

    hidden: units of the outer LSTM in each direction; the inner one has half of them. dropout acts on the input of
    the heads and between layers. bidirectional: sees the whole sequence; otherwise the network is causal: frame t
    depends on frames ≤ t alone.
    """

    def __init__(
        self, task: Task, hidden: int = 64, layers: int = 1, dropout: float = 0.2, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.task = task
        inner = hidden // 2 if task.step_features else 0
        self.slices = nn.LSTM(task.step_features, inner, batch_first=True) if inner else None
        self.frames = nn.LSTM(
            task.features + inner,
            hidden,
            num_layers=layers,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=bidirectional,
            batch_first=True,
        )
        self.dropout = nn.Dropout(dropout)
        width = hidden * (2 if bidirectional else 1)
        self.classify = nn.Linear(width, task.classes)
        self.regress = nn.Linear(width, 1) if task.signal else None

    def forward(self, batch: SequenceBatch) -> Output:
        """Logits and signal of a padded batch; values in the padding have no effect."""
        x = batch.x  # (B, T, F)
        if self.slices is not None:
            x = torch.cat([x, self._read_slices(batch.steps)], dim=2)  # (B, T, F + H/2)
        packed = pack_padded_sequence(x, batch.lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.frames(packed)[0], batch_first=True, total_length=x.shape[1])
        states = self.dropout(states)  # (B, T, D)
        signal = None if self.regress is None else self.regress(states).squeeze(2)  # (B, T)
        if self.task.per == "sequence":
            lengths = batch.lengths.to(states.device)[:, None, None]  # (B, 1, 1)
            states = states.sum(dim=1, keepdim=True) / lengths  # (B, 1, D): the padding of `states` is 0
        return Output(self.classify(states), signal)

    def _read_slices(self, steps: Tensor | None) -> Tensor:
        """(B, T, S, G) → the inner LSTM's last state for every frame (B, T, H/2)."""
        if self.slices is None or steps is None:
            raise ValueError(
                f"the network reads {self.task.step_features} features per slice, but the batch has no slices"
            )
        _, (last, _) = self.slices(steps.flatten(0, 1))  # (1, B·T, H/2)
        vectors: Tensor = last[-1].unflatten(0, steps.shape[:2])  # (B, T, H/2)
        return vectors

    def predict(self, item: Item) -> Prediction:
        """Softmax probabilities and signal of one whole sequence, without dropout; the training mode is restored."""
        return self.predict_all([item])[0]

    @torch.inference_mode()
    def predict_all(self, items: Sequence[Item]) -> list[Prediction]:
        """As `predict`, for several sequences in one pass."""
        training = self.training
        self.eval()
        try:
            device = self.classify.weight.device
            batch = collate(items)
            steps = None if batch.steps is None else batch.steps.to(device)
            output = self(batch._replace(x=batch.x.to(device), steps=steps))
        finally:
            self.train(training)
        probabilities = output.logits.float().softmax(dim=2).cpu().numpy()  # (B, T or 1, K)
        signals = None if output.signal is None else output.signal.float().cpu().numpy()  # (B, T)
        return [
            Prediction(probabilities[b, : len(item.x)], None if signals is None else signals[b, : len(item.x)])
            for b, item in enumerate(items)
        ]
