"""Plane by plane gives what whole volumes give: probabilities all at once, each resampled by ITK, then compared."""

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from medseg.io.image import array_view
from medseg.io.labels import Labels
from medseg.preprocess.geometry import Orient, Resample, SliceAxis
from medseg.segmentation.resampling import BLOCK, OutputLabels, axis_maps, resample_to_input
from medseg.segmentation.sliding_window import Tiling, iter_planes, probabilities
from medseg.typing import Float32Array
from tests.whole_image import predict

CPU = torch.device("cpu")
EXCLUSIVE = OutputLabels(Labels({"a": 1, "b": 2, "c": 3}), 0.5)
OVERLAPPING = OutputLabels(Labels({"a": 1, "b": 2, "c": 3}, exclusive=False), 0.5)
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def phantom(size: tuple[int, ...], spacing: tuple[float, ...], seed: int = 0) -> sitk.Image:
    """Smooth blobs of different brightness."""
    noise = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=size[::-1]).astype(np.float32))
    image = sitk.SmoothingRecursiveGaussian(noise, 2.5)
    image.SetSpacing(spacing)
    image.SetOrigin([12.5, -300.25, 77.125][: len(size)])
    return image / float(array_view(image).std())


def all_at_once(
    probability: Float32Array, grid: sitk.Image, reference: sitk.Image, target: OutputLabels
) -> tuple[Float32Array, Float32Array]:
    """Each label's probability (K, *S) resampled by ITK, and the coded mask by comparing all of them."""
    resampled = []
    for row in target.rows:
        part = sitk.GetImageFromArray(probability[row, 0] if grid.GetDimension() == 2 else probability[row])
        part.CopyInformation(grid)
        part = sitk.ZeroFluxNeumannPad(part, [1] * grid.GetDimension(), [1] * grid.GetDimension())
        resampled.append(sitk.GetArrayFromImage(sitk.Resample(part, reference, sitk.Transform(), sitk.sitkLinear, 0.0)))
    layers = np.stack(resampled)
    if not target.labels.exclusive:
        return layers, sum((layers[n] >= target.threshold).astype(np.uint8) << n for n in range(len(layers)))
    background = 1 - layers.sum(axis=0)
    return layers, np.where(background >= layers.max(axis=0), 0, layers.argmax(axis=0) + 1)


def network(dimensions: int, channels: int, target: OutputLabels) -> nn.Module:
    """One layer that looks at neighbours, so that tiles differ where they overlap."""
    torch.manual_seed(3)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](channels, 3 + target.labels.exclusive, 3, padding=1)
    with torch.no_grad():
        conv.weight *= 4
        conv.bias.zero_()
    return conv.eval()


@pytest.mark.parametrize("target", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
@pytest.mark.parametrize(
    "tiling",
    [
        Tiling((16, 16), batch=5, multiple=4, context=1),
        Tiling((16, 16), batch=3, mirror=(1,), multiple=4),
        Tiling((64, 64), batch=4, multiple=4),
        Tiling((8, 16, 16), batch=3, multiple=4),
        Tiling((32, 16, 16), overlap=0.25, batch=2, mirror=(0, 2), multiple=4),
    ],
    ids=["2d-context", "2d-mirrored", "2d-one-tile", "3d", "3d-mirrored-padded"],
)
@pytest.mark.parametrize("direction", [OBLIQUE, (0, 0, -1, 1, 0, 0, 0, -1, 0)], ids=["oblique", "turned"])
def test_masks_equal_those_of_whole_volumes(tiling: Tiling, target: OutputLabels, direction: tuple[float, ...]) -> None:
    image = phantom((34, 38, 24), (1.3, 0.7, 2.5))
    image.SetDirection(direction)
    ready = Resample((1.0, 1.1, None))(SliceAxis(2)(Orient()(image)))
    ready = ready[3:-2, 4:, 2:-3]  # a crop
    channels = [np.asarray(array_view(ready))]
    flat = len(tiling.patch) == 2
    model = network(len(tiling.patch), 1 + 2 * tiling.context * flat, target)

    def infer(batch: Float32Array) -> Float32Array:  # one by one: sums do not hang on how many tiles are in a batch
        return np.concatenate([probabilities(model, tiling, CPU, tile[None]) for tile in batch])

    layers, expected = all_at_once(_whole_volume(infer, channels[0], tiling), ready, image, target)
    coded, stored = resample_to_input(iter_planes(infer, channels, tiling), ready, image, target, keep=True)
    assert coded.dtype == np.uint8
    assert (coded == expected).all()
    assert len(np.unique(coded)) == (4 if target.labels.exclusive else len(np.unique(expected)))
    assert np.stack(list(stored.values())) == pytest.approx(layers, abs=2e-6)
    assert (resample_to_input(iter_planes(infer, channels, tiling), ready, image, target)[0] == coded).all()


def _whole_volume(infer: object, image: Float32Array, tiling: Tiling) -> Float32Array:
    """Probabilities (K, Z, Y, X) of an image (C, Z, Y, X): every tile added into one array, then divided."""
    flat = len(tiling.patch) == 2
    tiling = tiling.fitted(image.shape[2:] if flat else image.shape[1:])
    missing = [max(0, p - s) for p, s in zip(tiling.patch, image.shape[-len(tiling.patch) :], strict=True)]
    pads = [(0, 0)] * (4 - len(missing)) + [(gap // 2, gap - gap // 2) for gap in missing]
    padded = np.pad(image, pads)
    sizes = padded.shape[-len(missing) :]
    profiles = [np.exp(-0.5 * ((np.arange(p) - (p - 1) / 2) / (p / 8)) ** 2) for p in tiling.patch]
    weight = profiles[0]
    for profile in profiles[1:]:
        weight = weight[..., None] * profile
    weight = np.maximum(weight / weight.max(), 1e-3)
    total, count = None, np.zeros(sizes)
    for start in tiling.starts(sizes):
        window = tuple(slice(s, s + p) for s, p in zip(start, tiling.patch, strict=True))
        if flat:
            beside = np.pad(padded[0], [(tiling.context,) * 2, (0, 0), (0, 0)])[(slice(None), *window)]
            stack = [beside[z : z + 2 * tiling.context + 1] for z in range(image.shape[1])]
            values = infer(np.stack(stack)).transpose(1, 0, 2, 3)  # type: ignore[operator]
            window = (slice(None), *window)
        else:
            values = infer(padded[(slice(None), *window)][None])[0]  # type: ignore[operator]
        if total is None:
            total = np.zeros((len(values), *(padded.shape[1:] if flat else sizes)))
        total[(slice(None), *window)] += values * weight
        count[window[-len(missing) :]] += weight
    assert total is not None
    inner = tuple(slice(before, before + s) for (before, _), s in zip(pads[1:], image.shape[1:], strict=True))
    return (total / count)[(slice(None), *inner)].astype(np.float32)


@pytest.mark.parametrize("target", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
@pytest.mark.parametrize(("shape", "spacing"), [((40, 31), (0.5, 0.7)), ((90, 120), (0.25, 0.21)), ((8, 9), (3, 2.9))])
def test_pictures_too(target: OutputLabels, shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    grid = phantom((24, 20), (1.0, 1.0))
    reference = sitk.Image(shape, sitk.sitkUInt8)
    reference.SetSpacing(spacing)
    reference.SetOrigin((10.0, -302.0))
    values = np.random.default_rng(0).dirichlet([1, 1, 1, 1], size=(1, 20, 24)).astype(np.float32)
    probability = values.transpose(3, 0, 1, 2)[: 4 if target.labels.exclusive else 3]  # (K, 1, Y, X)
    layers, expected = all_at_once(probability, grid, reference, target)
    coded, stored = resample_to_input(iter(probability.transpose(1, 0, 2, 3)), grid, reference, target, keep=True)
    assert coded.shape == shape[::-1]
    assert (coded == expected).all()
    assert np.stack(list(stored.values())) == pytest.approx(layers, abs=1e-6)


def test_every_order_and_flip_of_axes() -> None:
    volume = phantom((11, 13, 12), (1.0, 1.5, 2.0))
    values = np.random.default_rng(1).dirichlet([1, 1, 1, 1], size=(12, 13, 11)).astype(np.float32)
    probability = values.transpose(3, 0, 1, 2)
    for axes, *signs in itertools.product(itertools.permutations(range(3)), *[(False, True)] * 3):
        reference = sitk.Flip(sitk.PermuteAxes(Resample((0.7, 2.0, 1.1))(volume), list(axes)), signs)
        _, expected = all_at_once(probability, volume, reference, EXCLUSIVE)
        coded, _ = resample_to_input(iter(probability.transpose(1, 0, 2, 3)), volume, reference, EXCLUSIVE)
        assert (coded == expected).all()


def test_a_grid_that_is_its_own_reference_gives_its_own_values() -> None:
    volume = phantom((9, 8, 7), (0.3, 0.3, 0.7))
    values = np.random.default_rng(1).random((7, 3, 8, 9)).astype(np.float32)
    stored = resample_to_input(iter(values), volume, volume, OVERLAPPING, keep=True)[1]
    assert (np.stack(list(stored.values()), axis=1) == values).all()


def test_grids_that_are_turned_against_each_other_are_refused() -> None:
    volume, turned = phantom((9, 8, 7), (1.0, 1.0, 1.0)), phantom((9, 8, 7), (1.0, 1.0, 1.0))
    turned.SetDirection(OBLIQUE)
    with pytest.raises(ValueError, match="turned against each other"):
        axis_maps(volume, turned)


def test_blocks_make_up_a_large_picture() -> None:
    """A picture of more pixels than are decided at once."""
    grid, reference = sitk.Image([3, 4], sitk.sitkUInt8), sitk.Image([1500, 1700], sitk.sitkUInt8)
    assert reference.GetNumberOfPixels() > 2 * BLOCK
    reference.SetSpacing((3 / 1500, 4 / 1700))
    reference.SetOrigin((-0.5, -0.5))
    probability = np.random.default_rng(2).dirichlet([1, 1, 1, 1], size=(1, 4, 3)).astype(np.float32)
    probability = probability.transpose(3, 0, 1, 2)
    _, expected = all_at_once(probability, grid, reference, EXCLUSIVE)
    assert (
        resample_to_input(iter(probability.transpose(1, 0, 2, 3)), grid, reference, EXCLUSIVE)[0] == expected
    ).mean() > 1 - 1e-5


@pytest.mark.parametrize("dimensions", [2, 3])
def test_memory_does_not_grow_with_the_number_of_labels(dimensions: int) -> None:
    """Sixteen labels take what two take, beside the planes that open tiles cover."""
    image = phantom((96, 96, 120), (1.0, 1.0, 1.0))
    reference = Resample((0.5, 0.5, 1.0))(image)
    tiling = Tiling((8, 96, 96)[3 - dimensions :], batch=1)
    peaks = []
    for count in (2, 16):
        target = OutputLabels(Labels({str(number): number for number in range(1, count + 1)}), 0.5)

        def infer(batch: Float32Array, count: int = count) -> Float32Array:
            return np.full((1, count + 1, *batch.shape[2:]), 1 / (count + 1), np.float32)

        tracemalloc.start()
        resample_to_input(iter_planes(infer, [np.asarray(array_view(image))], tiling), image, reference, target)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    volume = reference.GetNumberOfPixels()
    extra = 14 * 96 * 96 * 4  # bytes of fourteen more labels in a plane of the network's grid
    assert peaks[1] - peaks[0] < 4 * extra * (1 if dimensions == 2 else 8) < 14 * volume * 4 / 3
    assert peaks[0] < 2.5 * volume  # the mask is one byte a voxel


def test_planes_come_as_soon_as_no_tile_reaches_them() -> None:
    """A network of volumes is asked for no more tiles than the first plane needs before that plane comes."""
    seen = []

    def infer(batch: Float32Array) -> Float32Array:
        seen.append(len(batch))
        return np.ones((len(batch), 1, *batch.shape[2:]), np.float32)

    made: Iterator[Float32Array] = iter_planes(infer, [np.zeros((1, 32, 8, 8), np.float32)], Tiling((8, 8, 8), batch=1))
    assert next(made).shape == (1, 8, 8)
    assert len(seen) == 1
    assert len(list(made)) == 31


def test_predict_is_all_planes() -> None:
    image = np.random.default_rng(0).normal(size=(1, 9, 20, 17)).astype(np.float32)
    model, tiling = network(3, 1, EXCLUSIVE), Tiling((4, 8, 8), batch=3, multiple=4)
    probability = predict(model, image, tiling, CPU)
    planes = list(iter_planes(lambda batch: probabilities(model, tiling, CPU, batch), [image], tiling))
    assert (probability == np.stack(planes, axis=1)).all()
