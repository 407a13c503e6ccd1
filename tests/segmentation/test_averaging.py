"""The mean of several models' probabilities."""

from collections.abc import Iterator

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.io.labels import Labels
from medseg.segmentation.averaging import MeanProbabilities
from medseg.segmentation.resampling import OutputLabels, resample_to_input
from medseg.typing import Float32Array

TARGET = OutputLabels(Labels({"a": 1, "b": 2}), 0.5)


def maps_of(seed: int, size: int) -> tuple[Float32Array, sitk.Image]:
    """Probabilities (K, Z, Y, X) of background and two labels, on a grid of `size`³ over 24 mm."""
    logits = np.random.default_rng(seed).normal(size=(3, size, size, size)) * 3
    probability = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
    grid = sitk.Image([size] * 3, sitk.sitkUInt8)
    grid.SetSpacing([24 / size] * 3)
    grid.SetOrigin([12 / size] * 3)
    return probability, grid


def planes(probability: Float32Array) -> Iterator[Float32Array]:
    return iter(probability.transpose(1, 0, 2, 3))


def test_mean_of_models_on_their_own_grids_is_the_numpy_mean() -> None:
    reference = maps_of(0, 12)[1]
    mean = MeanProbabilities(reference, TARGET, 3)
    volumes = [id(volume) for volume in mean.volumes.values()]
    single = []
    for seed, size in ((1, 12), (2, 8), (3, 6)):  # models of other resolutions
        probability, grid = maps_of(seed, size)
        mean.add(planes(probability), grid)
        single.append(resample_to_input(planes(probability), grid, reference, TARGET, keep=True)[1])
    coded, confidence = mean.decide()
    expected = {name: np.mean([maps[name] for maps in single], axis=0) for name in ("a", "b")}
    for name in ("a", "b"):
        assert mean.probabilities()[name] == pytest.approx(expected[name], abs=1e-6)
    background = 1 - expected["a"] - expected["b"]
    assert (coded == np.argmax([background, expected["a"], expected["b"]], axis=0)).all()
    assert [id(volume) for volume in mean.volumes.values()] == volumes  # one volume a label, whatever the models
    mask = coded == 2
    soft = 2 * expected["b"][mask].sum() / (expected["b"].sum() + mask.sum())
    assert confidence["b"].raw == pytest.approx(soft, rel=1e-5)
    assert 0 < (confidence["b"].disagreement or 0) < 1


def test_mean_of_one_model_twice_has_no_disagreement() -> None:
    probability, grid = maps_of(1, 8)
    mean = MeanProbabilities(grid, TARGET, 2)
    for _ in range(2):
        mean.add(planes(probability), grid)
    coded, confidence = mean.decide()
    assert (coded == resample_to_input(planes(probability), grid, grid, TARGET)[0]).all()
    assert confidence["a"].disagreement == pytest.approx(0, abs=1e-6)


def test_mean_of_2d_images_is_2d() -> None:
    probability, _ = maps_of(4, 8)
    grid = sitk.Image([8, 8], sitk.sitkUInt8)
    mean = MeanProbabilities(grid, TARGET, 1)
    mean.add(planes(probability[:, :1]), grid)
    coded, _ = mean.decide()
    assert coded.shape == mean.probabilities()["a"].shape == (8, 8)
    assert mean.probabilities()["a"] == pytest.approx(probability[1, 0])
