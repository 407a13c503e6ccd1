"""Coded masks of binary images."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.io.labels import Labels


@pytest.mark.parametrize("exclusive", [True, False])
def test_join_images_then_split_returns_the_layers(exclusive: bool) -> None:
    labels = Labels({"a": 1, "b": 2, "c": 3}, exclusive)
    layers = {"a": [[1, 1, 0]], "b": [[0, 0, 1]] if exclusive else [[0, 1, 1]]}
    images = {name: sitk.GetImageFromArray(np.array(layer, np.uint8) * 7) for name, layer in layers.items()}
    like = sitk.Image((3, 1), sitk.sitkFloat32)
    like.SetSpacing((0.2, 0.3))
    coded = labels.join_images(images, like)
    assert sitk.GetArrayFromImage(coded).tolist() == ([[1, 1, 2]] if exclusive else [[1, 3, 2]])
    assert coded.GetSpacing() == like.GetSpacing()
    split = {name: sitk.GetArrayFromImage(image).tolist() for name, image in labels.split(coded).items()}
    assert split == {**layers, "c": [[0, 0, 0]]}
