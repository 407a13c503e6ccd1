import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from medseg.errors import ImageError
from medseg.segmentation import sliding_window
from medseg.segmentation.sliding_window import TiledNetwork, Tiling
from tests.whole_image import predict

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """Logits that depend on the voxel alone, so that any tiling must give the same map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-x[:, :1], x[:, :1]], 1) * 3


class Sided(nn.Module):
    """Says 1 in the half of the tile with the low last index, so that mirroring must even it out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = torch.zeros_like(x)
        half[..., : x.shape[-1] // 2] = 4
        return torch.cat([-half, half], 1)


@pytest.mark.parametrize(
    ("patch", "shape"),
    [
        ((8, 8), (3, 20, 17)),
        ((16, 16), (3, 10, 30)),
        ((4, 8, 8), (9, 20, 17)),
        ((16, 16, 16), (5, 6, 7)),
        ((8, 8), (1, 8, 8)),
    ],
)
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_tiles_make_up_the_whole(patch: tuple[int, ...], shape: tuple[int, ...], overlap: float) -> None:
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    result = predict(Pointwise(), image, Tiling(patch, overlap, batch=3), CPU)
    expected = torch.from_numpy(np.stack([-image[0], image[0]]) * 3).softmax(0).numpy()
    assert result.shape == (2, *shape)
    assert result == pytest.approx(expected, abs=1e-5)


def test_steps_are_at_most_what_the_overlap_leaves() -> None:
    starts = [s for (s,) in Tiling((8,), 0.5).starts([21])]
    assert starts[0] == 0
    assert starts[-1] + 8 == 21
    assert max(np.diff(starts)) <= 4


def test_an_image_little_larger_than_the_patch_is_one_tile() -> None:
    tiling = Tiling((32, 32), multiple=8)
    assert tiling.fitted((33, 40)).patch == (40, 40)
    assert tiling.fitted((20, 41)).patch == (32, 32)
    image = np.random.default_rng(0).normal(size=(1, 2, 33, 40)).astype(np.float32)
    assert predict(Pointwise(), image, tiling, CPU).shape == (2, 2, 33, 40)


def test_mirrored_predictions_are_averaged() -> None:
    image = np.zeros((1, 2, 8, 8), np.float32)
    sided = predict(Sided(), image, Tiling((8, 8)), CPU)
    even = predict(Sided(), image, Tiling((8, 8), mirror=(1,)), CPU)
    assert sided[1, 0, 0, 0] > 0.99
    assert sided[1, 0, 0, 7] == pytest.approx(0.5)
    assert even[1] == pytest.approx(even[1, ..., ::-1])


class Sum(nn.Module):
    """Logit of the foreground: the sum of all channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.sum(dim=1, keepdim=True)
        return torch.cat([-total, total], dim=1)


def test_a_slice_is_shown_with_those_beside_it_and_nothing_beyond_the_volume() -> None:
    image = np.zeros((2, 5, 8, 8), np.float32)
    image[0] = np.arange(5, dtype=np.float32)[:, None, None]
    image[1] = 0.5
    probability = predict(Sum(), image, Tiling((8, 8), context=1), CPU)[1]  # (Z, Y, X)
    sums = np.array([0 + 1 + 1, 0 + 1 + 2 + 1.5, 1 + 2 + 3 + 1.5, 2 + 3 + 4 + 1.5, 3 + 4 + 1])
    assert probability[:, 3, 3] == pytest.approx(1 / (1 + np.exp(-2 * sums)), abs=1e-5)


class Small(nn.Module):
    """Has room for `most` tiles at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, []  # type: ignore[var-annotated]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.cat([-x[:, :1], x[:, :1]], 1) * 3


def small(most: int) -> TiledNetwork:
    context = torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)
    return TiledNetwork(Small(most), Tiling((8, 8), 0.5, batch=5), CPU, context)


def test_where_memory_is_short_fewer_tiles_go_at_once() -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(3, 20, 17)).astype(np.float32))
    short = small(2)
    assert np.array_equal(short.predict({"ct": image}), small(5).predict({"ct": image}))
    assert 5 in short.network.seen
    assert 2 in short.network.seen


def test_a_tile_that_does_not_fit_alone_is_an_error_of_the_case() -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 20, 17), np.float32))
    with pytest.raises(ImageError, match="one tile of 8 × 8 does not fit") as error:
        small(0).predict({"ct": image})
    assert error.value.code == "gpu-memory"


def test_gaussian_weight_has_published_sigma_is_even_and_never_zero() -> None:
    patch = (16, 24)
    weight = sliding_window._gaussian(patch)
    assert weight.max() == 1
    assert (weight == weight[::-1]).all()
    assert (weight == weight[:, ::-1]).all()
    assert weight.min() == pytest.approx(1e-3)  # the corners: exp(−½(7.5/2)²)·exp(−½(11.5/3)²) is below it
    # one step from the centre along each axis: the ratio of two samples of a normal density of σ = size / 8
    for axis, size in enumerate(patch):
        line = np.take(weight, patch[1 - axis] // 2, axis=1 - axis)
        centre = size // 2
        expected = np.exp(-0.5 * ((1.5 / (size / 8)) ** 2 - (0.5 / (size / 8)) ** 2))
        assert line[centre + 1] / line[centre] == pytest.approx(expected, rel=1e-5)


def test_overlapping_tiles_are_blended_by_their_gaussian_weights() -> None:
    """Two tiles of 16 with half overlap, the first says 0 and the second 1: the blend is w2 / (w1 + w2)."""

    class Counting(nn.Module):
        tile = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answers = []
            for _ in range(len(x)):
                answers.append(torch.full((2, *x.shape[2:]), 20.0 * (self.tile == 1)))
                answers[-1][0] = 20.0 * (self.tile == 0)
                Counting.tile += 1
            return torch.stack(answers)

    tiling = Tiling((16, 16), 0.5, 1, (), 1)
    probability = predict(Counting(), np.zeros((1, 1, 16, 24), np.float32), tiling, torch.device("cpu"))
    first, second = (sliding_window._gaussian((16, 16))[8] for _ in range(2))
    inside = probability[1, 0, 8, 8:16]
    weights = second[:8] / (first[8:] + second[:8])
    assert inside == pytest.approx(weights, abs=1e-4)
