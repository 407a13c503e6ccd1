from contextlib import nullcontext, suppress

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ConfigError, ImageError
from medseg.segmentation.classical.base import Classical, central_component, grown, sides
from medseg.segmentation.classical.gaussian_mixture import EM
from medseg.segmentation.classical.otsu import Otsu
from medseg.segmentation.classical.superpixels import Superpixels
from medseg.segmentation.classical.watershed import Watershed

METHODS: list[type[Otsu]] = [Otsu, Watershed, EM, Superpixels]
Y, X = np.indices((120, 160)).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def noisy(values: np.ndarray, sd: float = 0.03) -> np.ndarray:
    return (values + np.random.default_rng(0).normal(0, sd, values.shape)).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("large", [1, 5])
def test_a_dark_lesion_is_found_in_a_picture_with_dark_corners(method: type[Otsu], colour: bool, large: int) -> None:
    shape = (120 * large, 160 * large)
    y, x = np.indices(shape).astype(np.float32) / large
    lesion = np.hypot((y - 62) / 24, (x - 85) / 34) < 1
    disc = np.hypot(y - 60, x - 80) < 85
    grey = np.where(disc, np.where(lesion, 0.35, 0.75), 0.05)
    values = noisy(grey[..., None] * np.array((1.0, 0.8, 0.7)) if colour else grey)
    image = sitk.GetImageFromArray(values, isVector=colour)

    def field(seen: sitk.Image) -> sitk.Image:
        full = sitk.GetImageFromArray(disc.astype(np.uint8))
        return sitk.Resample(full, seen, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)

    probability = method({"lesion": "dark"}, field, grow=0.0).predict({"photo": image})
    assert probability.shape == (2, 1, *shape)
    assert probability.sum(axis=0) == pytest.approx(1.0, abs=1e-5)
    assert dice(probability[1, 0] > 0.5, lesion) > 0.93


@pytest.mark.parametrize("method", METHODS)
def test_a_bright_structure_is_the_same_upside_down(method: type[Otsu]) -> None:
    spot = np.hypot(Y - 60, X - 80) < 25
    image = sitk.GetImageFromArray(noisy(np.where(spot, 0.8, 0.3)))
    assert dice(method({"spot": "bright"}, grow=0.0).predict({"a": image})[1, 0] > 0.5, spot) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_tissues_are_told_by_their_rank(method: type[Otsu]) -> None:
    _, y, x = np.indices((4, 90, 90)).astype(np.float32)
    radius = np.hypot(y - 45, x - 45)
    truth = np.select([radius < 15, radius < 30, radius < 40], [1, 3, 2], 0)
    values = noisy(np.array([0.0, 0.2, 0.5, 0.8])[truth], 0.04)
    inside = sitk.GetImageFromArray((truth > 0).astype(np.uint8))
    probability = method({"csf": 1, "gm": 2, "wm": 3}, lambda _: inside).predict({"t1": sitk.GetImageFromArray(values)})
    labels = probability.argmax(axis=0)
    for rank in (1, 2, 3):
        assert dice(labels == rank, truth == rank) > 0.9, rank


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_dark_pair_is_split_by_the_patients_side(method: type[Otsu], turned: bool) -> None:
    _, y, x = np.indices((3, 80, 120)).astype(np.float32)
    low, high = (np.hypot((y - 40) / 25, (x - at) / 20) < 1 for at in (35, 85))
    image = sitk.GetImageFromArray(noisy(np.where(low | high, 0.1, 0.7)))
    if turned:
        image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    probability = method({"right": "dark", "left": "dark"}).predict({"ct": image})
    right, left = (high, low) if turned else (low, high)
    assert dice(probability[1] > 0.5, right) > 0.9
    assert dice(probability[2] > 0.5, left) > 0.9


def test_a_fused_pair_is_cut_in_the_middle() -> None:
    whole = np.zeros((2, 10, 20), np.bool_)
    whole[:, 2:8, 2:18] = True
    right, left = sides(whole, sitk.Image([20, 10, 2], sitk.sitkUInt8))
    assert right[0, 5].tolist() == [False] * 2 + [True] * 8 + [False] * 10
    assert (right | left).sum() == whole.sum()


def test_the_piece_near_the_middle_wins_against_a_larger_one_at_the_border() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[25:35, 25:35] = True
    mask[:12, :12] = True
    assert central_component(mask, 0.4)[30, 30]
    assert not central_component(mask, 0.0)[30, 30]


def test_growing_is_a_share_of_the_diameter() -> None:
    disc = np.hypot(*(np.indices((100, 100)) - 50)) < 20
    assert grown(disc, 0.05).sum() / disc.sum() == pytest.approx((22 / 20) ** 2, rel=0.05)
    assert grown(disc, 0.0).sum() == disc.sum()


@pytest.mark.parametrize("method", METHODS)
def test_where_it_makes_no_sense_it_says_why(method: type[Otsu]) -> None:
    with pytest.raises(ConfigError, match=f"segmenter={method.__name__.lower()}.*spots among vessels"):
        method(None, classical_unsupported_reason="spots among vessels")
    with pytest.raises(ConfigError, match="dark, bright, or the ranks"):
        method({"a": 1, "b": 3})


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_image_has_no_lesion_and_no_error(method: type[Otsu]) -> None:
    image = sitk.GetImageFromArray(np.full((40, 50), 0.5, np.float32))
    assert isinstance(method({"a": "dark"}), Classical)
    assert not (method({"a": "dark"}).predict({"p": image})[1] > 0.5).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 12, 12), (1, 1), (12, 12)])
@pytest.mark.parametrize("colour", [False, True])
def test_a_blank_image_has_no_tissues_and_says_so(method: type[Otsu], shape: tuple[int, ...], colour: bool) -> None:
    values = np.full((*shape, 3) if colour else shape, 0.4, np.float32)
    with pytest.raises(
        ImageError, match=r"too few levels of brightness to tell 3 tissues apart: 1 from 0\.4 to"
    ) as seen:
        method({"a": 1, "b": 2, "c": 3}).predict({"x": sitk.GetImageFromArray(values, isVector=colour)})
    assert seen.value.code == "image-levels"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (3, 12, 12), (1, 1), (2, 2), (1, 40), (30, 30)])
@pytest.mark.parametrize("kind", ["two values", "one spot", "next to nothing"])
@pytest.mark.parametrize("labels", [("dark",), ("bright", "bright"), (1, 2), (1, 2, 3)])
def test_an_odd_image_gives_probabilities_or_one_clear_error(
    method: type[Otsu], shape: tuple[int, ...], kind: str, labels: tuple[str | int, ...]
) -> None:
    values = np.zeros(shape, np.float32)
    values.flat[:: 2 if kind == "two values" else values.size] = 1 if kind != "next to nothing" else 1e-7
    model = method(dict(zip("abc", labels, strict=False)))
    probability = None
    with suppress(ImageError) if not isinstance(labels[0], str) else nullcontext():
        probability = model.predict({"x": sitk.GetImageFromArray(values)})
    if probability is not None:
        assert np.isfinite(probability).all()
        assert probability.sum(axis=0) == pytest.approx(1, abs=1e-5)
