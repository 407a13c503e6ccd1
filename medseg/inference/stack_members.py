"""The models that a stack joins: three on measured features, one on deep features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from medseg.config.settings import Settings
from medseg.diagnosis.deep_logistic import DeepLogistic
from medseg.diagnosis.lstm import SequenceLSTM
from medseg.diagnosis.sequence_dataset import Item, collate
from medseg.diagnosis.voting_ensemble import VotingEnsemble
from medseg.errors import ModelError
from medseg.inference.attribution import FeatureRef, occlude
from medseg.inference.feature_inputs import FeatureSchema
from medseg.inference.feature_rows import Rows
from medseg.runs.run import Run
from medseg.typing import FloatArray
from medseg.utils.files import atomic_write_bytes

MEASURED, DEEP = ("logistic", "ensemble", "lstm"), "deep"
MAX_BATCH = 256  # sequences in one pass of the LSTM


def member_names(rows: Rows) -> tuple[str, ...]:
    """The members that such rows have features for."""
    return (*(MEASURED if rows.columns else ()), *([DEEP] if rows.deep_names else []))


@dataclass(frozen=True)
class MeasuredMembers:
    """Models fitted to the same measured features of training rows, and their `selected` columns."""

    selected: tuple[int, ...]
    weights: FloatArray  # (K, len(selected) + 1), logistic regression
    ensemble: VotingEnsemble
    network: SequenceLSTM

    def of_table(self, x: FloatArray) -> dict[str, FloatArray]:
        """Probabilities (R, K) of the members that read rows (R, F)."""
        x_selected = x[:, self.selected]
        with_intercept = np.concatenate([x_selected, np.ones((len(x_selected), 1))], axis=1)
        return {
            "logistic": softmax(with_intercept @ self.weights.T, axis=1),
            "ensemble": self.ensemble.predict(x_selected),
        }

    @torch.inference_mode()
    def of_sequences(self, items: Sequence[Item]) -> FloatArray:
        """Probabilities (R, K) of the LSTM, the rows of all sequences concatenated."""
        self.network.eval()
        rows = []
        for start in range(0, len(items), MAX_BATCH):
            batch = collate(items[start : start + MAX_BATCH])
            probabilities = self.network(batch).logits.softmax(dim=2)  # (B, T or 1, K)
            rows += [
                sequence[: length if len(sequence) > 1 else 1]
                for sequence, length in zip(probabilities, batch.lengths, strict=True)
            ]
        return np.asarray(torch.cat(rows).double().numpy())  # (R, K)


@dataclass(frozen=True)
class StackMembers:
    """Models fitted to the same training rows; None without measured or without deep features."""

    measured: MeasuredMembers | None
    deep: DeepLogistic | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return (*(MEASURED if self.measured else ()), *([DEEP] if self.deep else []))

    @property
    def selected(self) -> tuple[int, ...]:
        """Columns of a table of measured features that the members read."""
        return self.measured.selected if self.measured else ()

    def predict(self, rows: Rows) -> dict[str, FloatArray]:
        """Probabilities (R, K) by member."""
        probabilities: dict[str, FloatArray] = {}
        if self.measured is not None:
            probabilities |= {**self.measured.of_table(rows.x), "lstm": self.measured.of_sequences(rows.items)}
        return probabilities | self._of_deep(rows)

    def predict_without(self, rows: Rows, refs: Sequence[FeatureRef], network: bool) -> dict[str, FloatArray]:
        """Probabilities (R, K) of the members that change with features set to the mean of the training cases.

        network: whether the LSTM is wanted.
        """
        if deep := [ref.index for ref in refs if ref.kind == "deep"]:
            values = rows.deep.copy()
            values[:, deep] = np.nan
            return self._of_deep(replace(rows, deep=values))
        changed: dict[str, FloatArray] = {}
        if self.measured is None:
            return changed
        if columns := [rows.columns.index(ref) for ref in refs if ref in rows.columns]:
            x = rows.x.copy()
            x[:, columns] = 0
            changed |= self.measured.of_table(x)
        if network:
            changed["lstm"] = self.measured.of_sequences([occlude(item, refs) for item in rows.items])
        return changed

    def _of_deep(self, rows: Rows) -> dict[str, FloatArray]:
        return {} if self.deep is None else {DEEP: self.deep.predict(rows.deep)}

    def save(self, run: Run) -> dict[str, Any]:
        """Write ensemble.skops and model.safetensors; nothing is pickled. Returns plain values for `load`."""
        weights: dict[str, torch.Tensor] = {}
        if self.measured is not None:
            atomic_write_bytes(run.file("ensemble.skops"), self.measured.ensemble.dump())
            weights |= {f"lstm.{name}": value for name, value in self.measured.network.state_dict().items()}
            weights["logistic"] = torch.from_numpy(self.measured.weights)
        if self.deep is not None:
            weights |= {name: torch.from_numpy(values) for name, values in self.deep.arrays().items()}
        run.save_weights(weights)
        return {"selected": list(self.selected)}

    @classmethod
    def load(cls, run: Run, config: Settings, schema: FeatureSchema, state: dict[str, Any]) -> StackMembers:
        """The members that `save` wrote; `ModelError` if a file is missing or broken."""
        weights = run.load_weights()
        deep = {name: value.numpy() for name, value in weights.items() if name.partition(".")[0] == DEEP}
        measured = None
        if "logistic" in weights:
            measured = _load_measured(run, config, schema, tuple(state["selected"]), weights)
        return cls(measured, DeepLogistic.from_arrays(deep) if deep else None)


def _load_measured(
    run: Run, config: Settings, schema: FeatureSchema, selected: tuple[int, ...], weights: dict[str, torch.Tensor]
) -> MeasuredMembers:
    network = SequenceLSTM(schema.task(), **config.classifier.network.model_dump())
    network.load_state_dict({k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")})
    file = run.file("ensemble.skops")
    if not file.is_file():
        raise ModelError(f"{file}: missing; copy the whole run folder")
    voting = VotingEnsemble.load(file.read_bytes(), str(file))
    return MeasuredMembers(selected, weights["logistic"].numpy(), voting, network)
