"""Expected Dice, entropy and disagreement of known probabilities."""

import numpy as np
import pytest

from medseg.io.labels import Labels
from medseg.segmentation.resampling import OutputLabels
from medseg.segmentation.uncertainty import (
    MIN_CASES,
    Confidence,
    ConfidenceMeter,
    Curve,
    DiceCalibration,
    binary_entropy,
    cross_validated,
    entropy_plane,
    pairwise_disagreement,
)
from medseg.typing import Float32Array

ONE = OutputLabels(Labels({"lesion": 1}), 0.5)


def confidence_of(foreground: Float32Array, target: OutputLabels = ONE) -> Confidence:
    """The confidence in a lesion of planes (Z, Y, X) of its probability."""
    meter = ConfidenceMeter(target)
    list(meter.watch(np.stack([1 - plane, plane]) for plane in foreground))
    return meter.result()["lesion"]


def test_meter_gives_soft_dice_and_entropy_inside_the_mask() -> None:
    probability = np.array([[[0.9, 0.6]], [[0.2, 0.0]]], np.float32)  # two planes of 1 × 2
    confidence = confidence_of(probability)
    assert confidence.raw == pytest.approx(2 * (0.9 + 0.6) / (0.9 + 0.6 + 0.2 + 2))
    assert confidence.entropy == pytest.approx(binary_entropy([0.9, 0.6]).mean(), abs=1e-5)
    assert not confidence.empty


def test_meter_of_empty_mask_gives_the_probability_that_nothing_was_missed() -> None:
    confidence = confidence_of(np.array([[[0.1, 0.3]], [[0.2, 0.0]]], np.float32))
    assert confidence.empty
    assert confidence.raw == pytest.approx(0.7)


def test_meter_passes_planes_on_unchanged_and_counts_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = np.random.default_rng(0).random((3, 2, 7, 5)).astype(np.float32)  # (Z, K, Y, X)
    target = OutputLabels(Labels({"a": 1, "b": 2}, exclusive=False), 0.5)
    whole, blocks = ConfidenceMeter(target), ConfidenceMeter(target)
    assert (np.stack(list(whole.watch(planes))) == planes).all()
    monkeypatch.setattr("medseg.segmentation.resampling.BLOCK", 6)  # a row at a time
    list(blocks.watch(planes))
    for name in ("a", "b"):
        assert blocks.result()[name].raw == pytest.approx(whole.result()[name].raw)
        p = planes[:, ["a", "b"].index(name)]
        assert whole.result()[name].raw == pytest.approx(2 * p[p >= 0.5].sum() / (p.sum() + (p >= 0.5).sum()), rel=1e-5)


def test_expected_dice_of_calibrated_probabilities_is_the_mean_true_dice() -> None:
    random = np.random.default_rng(1)
    y, x = np.mgrid[:64, :64]
    probability = (1 / (1 + np.exp((np.hypot(y - 32, x - 32) - 16) / 3))).astype(np.float32)
    mask = probability > 0.5
    # truths drawn pixel by pixel from the probabilities: the map is calibrated by construction
    truths = random.random((200, 64, 64)) < probability
    true = np.mean([2 * (truth & mask).sum() / (truth.sum() + mask.sum()) for truth in truths])
    assert confidence_of(probability[None]).raw == pytest.approx(true, abs=0.005)


def test_entropy_plane_is_1_for_even_and_0_for_certain_classes() -> None:
    thirds = np.array([1 / 3, 1.0, 0.0], np.float32)
    other = np.array([1 / 3, 0.0, 0.0], np.float32)
    assert entropy_plane([thirds, other], exclusive=True) == pytest.approx([1, 0, 0], abs=1e-5)
    assert entropy_plane([np.array([0.5, 0.25], np.float32)], exclusive=True) == pytest.approx(
        [1, 0.25 * 2 + 0.75 * np.log2(4 / 3)], abs=1e-5
    )
    overlapping = entropy_plane([np.array([0.5], np.float32), np.array([0.9], np.float32)], exclusive=False)
    assert overlapping == pytest.approx([1.0], abs=1e-5)


def test_disagreement_is_pooled_over_all_pairs() -> None:
    p = np.random.default_rng(0).random((3, 50))
    products = sum((p[i] * p[j]).sum() for i in range(3) for j in range(3) if i != j)
    squares = sum(((p[i] ** 2).sum() + (p[j] ** 2).sum()) / 2 for i in range(3) for j in range(3) if i != j)
    value = pairwise_disagreement(float((p.mean(0) ** 2).sum()), float((p**2).sum()), 3)
    assert value == pytest.approx(1 - products / squares)
    assert pairwise_disagreement(5.0, 10.0, 2) == 0  # two equal maps of Σp² = 5
    assert pairwise_disagreement(2.5, 10.0, 2) == 1  # two apart


def test_curve_is_isotonic_and_survives_json() -> None:
    random = np.random.default_rng(0)
    raw = random.random(100)
    dice = np.clip(raw**2 + random.normal(0, 0.05, 100), 0, 1)
    empty = np.arange(100) < 40
    calibration = DiceCalibration.fit(raw, dice, empty)
    assert calibration.mask.fitted
    values = calibration.mask(np.linspace(0, 1, 50))
    assert (np.diff(values) >= 0).all()
    assert float(calibration.mask(0.7)) == pytest.approx(0.49, abs=0.08)
    again = DiceCalibration.from_state(calibration.state())
    assert again == calibration
    assert again.expected(Confidence(0.7, 0, empty=False)) == float(calibration.mask(0.7))
    assert again.expected(Confidence(0.7, 0, empty=True)) == float(calibration.empty(0.7))


def test_curve_of_too_few_cases_is_the_identity() -> None:
    few = np.linspace(0, 1, MIN_CASES - 1)
    curve = Curve.fit(few, np.zeros(len(few)))
    assert not curve.fitted
    assert float(curve(0.37)) == 0.37


def test_calibration_that_is_no_curve_is_refused() -> None:
    state = DiceCalibration(Curve((0.1, 0.5), (0.2, 0.4), 10), Curve((), (), 0)).state()
    state["mask"]["raw"] = [0.5, 0.1]
    with pytest.raises(ValueError, match="not a curve"):
        DiceCalibration.from_state(state)


def test_cross_validated_value_ignores_the_own_patient() -> None:
    raw = np.linspace(0.1, 0.9, 40)
    dice, empty = raw**2, np.zeros(40, bool)
    patients = [f"p{number // 2}" for number in range(40)]
    before = cross_validated(raw, dice, empty, patients)
    assert before == pytest.approx(dice, abs=0.08)
    changed = dice.copy()
    changed[20:22] = 1.0  # one patient
    after = cross_validated(raw, changed, empty, patients)
    assert (after[20:22] == before[20:22]).all()
    assert (after != before).any()
