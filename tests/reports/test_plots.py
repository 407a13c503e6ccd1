from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from medseg.evaluation.predictions import from_table
from medseg.reports.plots import ORANGE, SKY, breathing, curves, overlay


def pixels(png: bytes) -> np.ndarray:
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)


def count(png: bytes, colour: str) -> int:
    """Pixels of exactly this colour."""
    rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int((pixels(png) == rgb).all(axis=-1).sum())


def square(shape: tuple[int, ...], filled: bool = True) -> sitk.Image:
    array = np.zeros(shape, dtype=np.uint8)
    if filled:
        array[tuple(slice(size // 4, size // 2) for size in shape)] = 1
    return sitk.GetImageFromArray(array)


@pytest.mark.parametrize("shape", [(30, 40), (12, 30, 40), (3, 30, 40)])
def test_overlay_draws_both_outlines(shape: tuple[int, ...]) -> None:
    image, mask, empty = square(shape), square(shape), square(shape, filled=False)
    nothing = overlay(image, empty, empty)
    for truth, pred, colour, other in ((mask, empty, SKY, ORANGE), (empty, mask, ORANGE, SKY)):
        drawn = overlay(image, truth, pred)
        assert count(drawn, colour) > 1.3 * count(nothing, colour)  # the legend's line alone is in both
        assert count(drawn, other) == count(nothing, other)


def test_overlay_draws_only_the_given_labels() -> None:
    mask, empty = square((30, 40)), square((30, 40), filled=False)
    assert overlay(mask, mask, mask, {"other": 2}) == overlay(mask, empty, empty)


def test_overlay_of_colour_and_very_large_images() -> None:
    colour = sitk.GetImageFromArray(
        np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8), isVector=True
    )
    assert pixels(overlay(colour, square((30, 40)), square((30, 40)))).std(axis=-1).max() > 50
    large = square((2500, 2600), filled=False)
    assert len(overlay(large, large, large)) < 500_000


def test_overlay_has_the_patients_right_on_the_left() -> None:
    array = np.zeros((4, 30, 40), dtype=np.int16)
    array[:, 5:25, 2:12] = 1000  # small x: the patient's right in LPS
    image = sitk.GetImageFromArray(array)
    mask = sitk.Cast(image > 0, sitk.sitkUInt8)
    flipped_image, flipped_mask = (sitk.DICOMOrient(volume, "RAS") for volume in (image, mask))
    assert overlay(image, mask, mask) == overlay(flipped_image, flipped_mask, flipped_mask)


def test_curves_writes_a_complete_file(tmp_path: Path) -> None:
    history = pd.DataFrame(
        {"step": [1, 2], "samples": [8, 16], "lr": [0.1, 0.0], "train_loss": [1.0, 0.5], "valid_loss": [np.nan, 0.6]}
    )
    curves(history.assign(valid_dice=[0.1, 0.9]), tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").shape[1] > 600
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("left_out", [[], ["time"], ["signal", "signal_predicted"], ["label"]])
def test_breathing_draws_available_series(left_out: list[str]) -> None:
    frames = pd.DataFrame(
        {"frame": range(6), "time": np.arange(6) / 2, "signal": np.arange(6.0), "p_in": np.arange(6) / 6}
    )
    frames = frames.assign(label=["in", "out"] * 3, predicted="in", signal_predicted=1.0).drop(columns=left_out)
    png = breathing(from_table(frames.assign(case="a"), ["out", "in"], ["lstm", "none"]), {"lstm": "LSTM"})
    assert pixels(png).min() < 60
