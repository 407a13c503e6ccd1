"""The mean of several models' probabilities on one grid, in the memory of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from medseg.segmentation.resampling import OutputLabels, grid_shape, resampled_blocks, row_blocks
from medseg.segmentation.uncertainty import Confidence, ConfidenceMeter, pairwise_disagreement, with_disagreement
from medseg.typing import ByteArray, Float32Array


class MeanProbabilities:
    """Mean over `models` models of each label's probability on the grid of `reference`.

    Whatever the number of models, memory holds one volume per label (`volumes`, (Z, Y, X)): a model's probabilities
    are added block by block as they are interpolated. Of single models only the sum of squares is kept, for their
    disagreement. Like the interpolation, the mean is 0 where a model's grid does not reach.
    """

    def __init__(self, reference: sitk.Image, target: OutputLabels, models: int) -> None:
        self.reference, self.target, self.models = reference, target, models
        shape = grid_shape(reference)
        self.volumes = {name: np.zeros(shape, np.float32) for name in target.labels.numbers}
        self._squares = dict.fromkeys(target.labels.numbers, 0.0)

    def add(self, planes: Iterator[Float32Array], grid: sitk.Image) -> None:
        """Add a model's probabilities, planes (K, Y, X) on `grid` in order along Z."""
        for index, turn, resampled in resampled_blocks(planes, grid, self.reference, self.target.rows):
            for (name, volume), probability in zip(self.volumes.items(), resampled, strict=True):
                self._squares[name] += float(np.sum(probability * probability, dtype=np.float64))
                volume.transpose(turn)[index] += probability / self.models

    def decide(self) -> tuple[ByteArray, dict[str, Confidence]]:
        """The coded mask of the mean, of the shape of `reference`, and the confidence in each label."""
        meter = ConfidenceMeter(self.target)
        coded = np.zeros(grid_shape(self.reference), np.uint8)
        mean_squares = dict.fromkeys(self.volumes, 0.0)
        for index in itertools.product(range(len(coded)), row_blocks(coded.shape)):
            blocks = [volume[index] for volume in self.volumes.values()]
            coded[index] = self.target.decide(blocks)
            meter.add(blocks, coded[index])
            for name, block in zip(mean_squares, blocks, strict=True):
                mean_squares[name] += float(np.sum(block * block, dtype=np.float64))
        disagreement = {
            name: pairwise_disagreement(mean_squares[name], self._squares[name], self.models) for name in mean_squares
        }
        shape = self.reference.GetSize()[::-1]
        return coded.reshape(shape), with_disagreement(meter.result(), disagreement)

    def probabilities(self) -> dict[str, Float32Array]:
        """The mean probability of each label, of the shape of `reference`, not copies."""
        shape = self.reference.GetSize()[::-1]
        return {name: volume.reshape(shape) for name, volume in self.volumes.items()}
