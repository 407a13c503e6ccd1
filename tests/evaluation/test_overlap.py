from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from medseg.errors import ImageError
from medseg.evaluation.overlap import SCORES, compare_masks, dice, iou, summarise
from medseg.evaluation.predictions import from_table
from medseg.evaluation.states import (
    accuracy,
    balanced_accuracy,
    confusion,
    correlation,
    fast_auc,
    never_predicted,
    nrmse,
    summarise_predictions,
)

LABELS = {"right": 1, "left": 2}


def label_image(boxes: dict[int, tuple[slice, ...]], shape: tuple[int, ...] = (10, 12, 14)) -> sitk.Image:
    array = np.zeros(shape, dtype=np.uint8)
    for value, box in boxes.items():
        array[box] = value
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 5.0)[: len(shape)])
    return image


def box(*starts: int, size: int = 4) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start in starts)


def test_shifted_cubes_have_the_dice_of_their_overlap() -> None:
    pred, truth = label_image({1: box(2, 2, 2)}), label_image({1: box(2, 2, 3)})
    (row,) = compare_masks(pred, truth, {"right": 1}, tolerance_mm=1.0)
    assert row["status"] == "ok"
    assert row["dice"] == pytest.approx(3 / 4)  # three of four columns shared
    assert row["iou"] == pytest.approx(3 / 5)
    assert row["hd95_mm"] == pytest.approx(1.0)
    assert row["nsd"] == 1.0
    assert row["volume_ml"] == row["volume_truth_ml"] == pytest.approx(64 * 10 / 1000)


def test_overlap_agrees_with_simpleitk() -> None:
    random = np.random.default_rng(0)
    pred, truth = (sitk.GetImageFromArray(random.integers(0, 3, (6, 7, 8)).astype(np.uint8)) for _ in range(2))
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(pred, truth)
    for row in compare_masks(pred, truth, LABELS, 1.0):
        assert row["dice"] == pytest.approx(overlap.GetDiceCoefficient(LABELS[row["label"]]))
        assert row["iou"] == pytest.approx(overlap.GetJaccardCoefficient(LABELS[row["label"]]))


def test_missed_invented_and_empty_structures_are_told_apart() -> None:
    pred = label_image({1: box(2, 2, 2)})
    truth = label_image({2: box(2, 2, 2)})
    rows = {row["label"]: row for row in compare_masks(pred, truth, {**LABELS, "third": 3}, 1.0)}
    diagonal = np.linalg.norm(np.array([10, 12, 14]) * [5.0, 2.0, 1.0])
    assert {name: row["status"] for name, row in rows.items()} == {
        "right": "false_positive",
        "left": "missed",
        "third": "empty_both",
    }
    for name in ("right", "left"):
        assert [rows[name][score] for score in SCORES] == [0.0, 0.0, pytest.approx(diagonal), 0.0]
    assert [rows["third"][score] for score in SCORES] == [None] * 4
    assert np.isnan(dice(np.zeros(3, bool), np.zeros(3, bool)))
    assert np.isnan(iou(np.zeros(3, bool), np.zeros(3, bool)))


def test_2d_masks_have_no_volume_and_other_sizes_are_an_error() -> None:
    flat = label_image({1: box(2, 2)}, shape=(10, 12))
    assert compare_masks(flat, flat, {"right": 1}, 1.0)[0]["volume_ml"] is None
    with pytest.raises(ImageError, match=r"\(12, 10\).*\(14, 12, 10\)"):
        compare_masks(flat, label_image({}), LABELS, 1.0)
    four = sitk.JoinSeries([label_image({}), label_image({})])
    with pytest.raises(ImageError, match="frames"):
        compare_masks(four, four, LABELS, 1.0)


def rows_of(*scores: tuple[str, str, str, str, float | None]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"case": case, "patient": patient, "label": label, "status": status}
            | dict.fromkeys(SCORES, value)
            | {"volume_ml": 1.0, "volume_truth_ml": 1.0}
            for case, patient, label, status, value in scores
        ]
    )


def test_summary_means_counts_and_says_what_is_missing() -> None:
    rows = rows_of(
        ("a", "p1", "right", "ok", 0.9),
        ("a", "p1", "left", "missed", 0.0),
        ("b", "p2", "right", "ok", 0.7),
        ("b", "p2", "left", "empty_both", None),
    )
    summary = summarise(rows, {**LABELS, "third": 3}, 2.0)
    assert (summary["n_cases"], summary["n_patients"]) == (2, 2)
    right, left = summary["labels"]["right"], summary["labels"]["left"]
    assert (right["dice"]["mean"], right["dice"]["n"], right["missed"]) == (pytest.approx(0.8), 2, 0)
    assert right["dice"]["ci95"] == [pytest.approx(0.7), pytest.approx(0.9)]
    assert (left["dice"]["mean"], left["dice"]["n"], left["missed"], left["empty_both"]) == (0.0, 1, 1, 1)
    assert left["dice"]["ci95"] is None
    assert "one patient" in left["dice"]["reason"]
    third = summary["labels"]["third"]["dice"]
    assert third["mean"] is None
    assert "empty in prediction and ground truth" in third["reason"]
    assert summary["macro"]["dice"]["mean"] == pytest.approx((0.8 + 0.0) / 2)
    assert summary["never_predicted"] == ["left"]
    json.dumps(summary, allow_nan=False)


def test_state_scores_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(1)
    classes = ["in", "hold", "out"]
    truth = [classes[k] for k in random.integers(0, 3, 60)]
    table = random.dirichlet(np.ones(3), 60).round(1)  # rounded: ties occur
    predicted = [classes[k] for k in table.argmax(axis=1)]
    assert accuracy(truth, predicted) == pytest.approx(np.mean(np.array(truth) == predicted))
    assert balanced_accuracy(truth, predicted) == pytest.approx(balanced_accuracy_score(truth, predicted))
    one_hot = np.array(truth)[:, None] == classes
    expected = np.mean([roc_auc_score(one_hot[:, k], table[:, k]) for k in range(3)])
    assert fast_auc(truth, table, classes) == pytest.approx(expected)
    assert np.isnan(fast_auc(["in", "in"], table[:2], classes))


def test_signals_that_do_not_move() -> None:
    time = np.linspace(0, 12, 100)
    wave = np.sin(time)
    assert correlation(wave, 3 * wave + 1) == pytest.approx(1.0)
    assert correlation(wave, -wave) == pytest.approx(-1.0)
    assert correlation(wave, np.full(100, 0.3)) == 0.0
    assert np.isnan(correlation(np.full(100, 0.3), wave))
    assert correlation(wave * 1e-12, wave) == pytest.approx(1.0)
    assert nrmse(wave, np.full(100, wave.mean())) == pytest.approx(1.0)
    assert np.isnan(nrmse(np.ones(100), wave))


def test_a_class_that_is_never_predicted_is_named() -> None:
    assert never_predicted(["in", "out"], ["in", "in"]) == ["out"]
    assert never_predicted(["0", "1"], [0, 1]) == []


def test_confusion_agrees_with_an_independent_library() -> None:
    random = np.random.default_rng(0)
    classes = ["0", "1", "2", "3"]  # of the last nothing is there
    truth, predicted = random.integers(0, 3, 60), random.integers(0, 2, 60)
    found = confusion(truth.tolist(), [str(name) for name in predicted], classes)
    table = confusion_matrix(truth, predicted, labels=range(4))
    assert [[cell["n"] for cell in row["predicted"].values()] for row in found.values()] == table.tolist()
    precision, recall, _, n = precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=np.nan)
    for k, name in enumerate(classes):
        assert found[name]["n"] == n[k]
        for key, value in (("precision", precision[k]), ("sensitivity", recall[k])):
            assert found[name][key] == (None if np.isnan(value) else pytest.approx(value))
    assert found["3"]["predicted"]["0"] == {"n": 0, "share": None}
    assert found["0"]["predicted"]["1"]["share"] == pytest.approx(table[0, 1] / table[0].sum())


def breathing_frames() -> pd.DataFrame:
    parts = []
    for case, wrong in (("a", 0), ("b", 2), ("c", 4)):
        signal = np.cos(np.arange(20) * 2 * np.pi / 10)
        label = np.where(np.gradient(signal) > 0, "inhale", "exhale")
        predicted = label.copy()
        predicted[:wrong] = np.where(label[:wrong] == "inhale", "exhale", "inhale")
        parts.append(
            pd.DataFrame({"case": case, "patient": f"p{case}", "frame": range(20), "time": np.arange(20) * 0.4})
            .assign(label=label, signal=signal, predicted=predicted, probability=0.9)
            .assign(p_inhale=np.where(predicted == "inhale", 0.9, 0.1), signal_predicted=signal * 0.5)
            .assign(p_exhale=lambda table: 1 - table.p_inhale, predicted_linear="exhale", signal_linear=0.0)
        )
    return pd.concat(parts, ignore_index=True)


def test_states_are_scored_per_case_and_beside_the_baseline() -> None:
    def period(signal: np.ndarray, time: np.ndarray) -> float:
        return float(time[-1] * signal.max()) if signal.any() else np.nan

    rows = from_table(breathing_frames().sample(frac=1, random_state=0), ["exhale", "inhale"], ["lstm", "linear"])
    summary = summarise_predictions(rows, period)
    lstm, linear = summary["models"]["lstm"], summary["models"]["linear"]
    assert (summary["n_cases"], summary["n_patients"], summary["n_frames"]) == (3, 3, 60)
    assert lstm["accuracy"]["mean"] == pytest.approx((1 + 18 / 20 + 16 / 20) / 3)
    assert lstm["accuracy"]["ci95"] == [pytest.approx(0.8, abs=0.04), pytest.approx(1.0, abs=0.04)]
    assert lstm["signal_correlation"]["mean"] == pytest.approx(1.0)
    assert lstm["signal_nrmse"]["mean"] == pytest.approx(0.5)
    assert lstm["period_error_s"]["mean"] == pytest.approx(7.6 / 2)  # by the stand-in above
    assert linear["balanced_accuracy"]["mean"] == pytest.approx(0.5)
    assert linear["signal_correlation"]["mean"] == 0.0
    assert linear["auc"]["mean"] is None
    assert "no probabilities" in linear["auc"]["reason"]
    assert linear["period_error_s"]["mean"] == pytest.approx(7.6)  # a flat guess errs by the whole period
    assert summary["never_predicted"] == {"lstm": [], "linear": ["inhale"]}
    right = sum(row["predicted"][name]["n"] for name, row in summary["confusion"]["lstm"].items())
    assert right == 60 - 6
    assert summary["confusion"]["linear"]["exhale"]["sensitivity"] == 1
    assert summary["confusion"]["linear"]["inhale"]["precision"] is None
    json.dumps(summary, allow_nan=False)


def test_cases_of_one_frame_are_scored_together() -> None:
    random = np.random.default_rng(3)
    chance = random.random(40)
    frames = pd.DataFrame({"case": [f"c{k}" for k in range(40)], "frame": 0})
    frames["patient"] = frames["case"]
    frames["label"] = np.where(random.random(40) < chance, "ill", "well")
    frames["predicted"] = np.where(chance > 0.5, "ill", "well")
    frames["p_ill"], frames["p_well"] = chance, 1 - chance
    found = summarise_predictions(from_table(frames, ["well", "ill"], ["lstm"]))["models"]["lstm"]
    assert found["balanced_accuracy"]["mean"] == pytest.approx(
        balanced_accuracy_score(frames["label"], frames["predicted"])
    )
    assert found["auc"]["mean"] == pytest.approx(roc_auc_score(frames["label"] == "ill", chance))
    low, high = found["auc"]["ci95"]
    assert low < found["auc"]["mean"] < high
    assert found["signal_nrmse"]["mean"] is None
