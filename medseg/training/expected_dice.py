"""Calibrate the expected Dice of a segmenter on held-out cases, and measure how well it ranks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medseg.evaluation.selective import ranking_quality
from medseg.segmentation.uncertainty import Confidence, DiceCalibration, cross_validated

EMPTY_BOTH = "empty_both"


class ExpectedDice:
    """Raw expected Dice and true Dice of held-out cases, by label.

    The true Dice is that of the final mask, after post-processing. An empty mask is right, 1, where the label is
    absent. The ranking leaves such cases out, because they have no Dice.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def add(
        self, case: Mapping[str, Any], confidence: Mapping[str, Confidence], scores: Sequence[dict[str, Any]]
    ) -> None:
        """Add a case: its evaluation rows, of annotated labels, and the confidence in each label."""
        for score in scores:
            if (label_confidence := confidence.get(score["label"])) is not None:
                right = score["status"] == EMPTY_BOTH
                row = {"raw": label_confidence.raw, "empty": label_confidence.empty, "absent": right}
                row |= {"dice": 1.0 if right else score["dice"], "patient": case["patient"], "score": score}
                self._rows.setdefault(score["label"], []).append(row)

    def write_columns(self) -> None:
        """Set expected_dice in the evaluation rows: calibrated on other patients' cases, five-fold."""
        for table in self._tables().values():
            values = cross_validated(*_columns(table), list(table["patient"]))
            for row, value in zip(table["score"], values, strict=True):
                row["expected_dice"] = float(value)

    def calibrations(self) -> dict[str, dict[str, Any]]:
        """The content of expected_dice.json: a calibration of each label on all cases."""
        return {name: DiceCalibration.fit(*_columns(table)).state() for name, table in self._tables().items()}

    def summary(self) -> dict[str, dict[str, Any]]:
        """How well the raw value of each label, to which nothing was fitted, ranks the cases by their true Dice."""
        result = {}
        for name, table in self._tables().items():
            scored = table[~table["absent"]]
            raw, dice, _ = _columns(scored)
            result[name] = ranking_quality(raw, dice, list(scored["patient"]))
        return result

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {name: pd.DataFrame(rows) for name, rows in self._rows.items()}


def _columns(table: pd.DataFrame) -> tuple[Any, Any, Any]:
    """Raw value, true Dice, and whether the mask is empty, each (N,)."""
    return tuple(table[name].to_numpy(kind) for name, kind in (("raw", float), ("dice", float), ("empty", bool)))  # type: ignore[return-value]


def ranking_line(summary: Mapping[str, Any]) -> str:
    """A sentence on the ranking for the console and the model card; "" if no label has one."""
    texts = []
    for name, score in summary["labels"].items():
        ranking = score.get("expected_dice", {})
        if ranking.get("spearman") is not None:
            texts.append(
                f"{name} {ranking['spearman']:.2f} (n {ranking['n']}; the 80 % of cases with the highest have Dice "
                f"{ranking['dice_of_kept_80']:.3f}, all {ranking['dice_of_all']:.3f})"
            )
    return f"Expected Dice, Spearman's correlation with the true one: {'; '.join(texts)}." if texts else ""
