import numpy as np
import pytest

from medseg.data.augmentation import Augment, swap
from medseg.errors import ConfigError

RNG = np.random.default_rng


def halves(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A mask with 1 on the low-x half and 2 on the other, and an image that says the same."""
    mask = np.ones(shape, np.uint8)
    mask[..., shape[-1] // 2 :] = 2
    return mask[None].astype(np.float32) / 2, mask


@pytest.mark.parametrize("shape", [(6, 8), (4, 6, 8)])
def test_a_lateral_flip_swaps_the_pair(shape: tuple[int, ...]) -> None:
    image, mask = halves(shape)
    flipped, labels = Augment({"x": 1.0}, {}, [(1, 2)])(image, mask, RNG(0))
    assert np.array_equal(flipped, image[..., ::-1])
    assert np.array_equal(labels, mask)  # low x is still label 1
    _, unpaired = Augment({"x": 1.0}, {}, [])(image, mask, RNG(0))
    assert np.array_equal(unpaired, mask[..., ::-1])
    _, up = Augment({"y": 1.0}, {}, [(1, 2)])(image, mask, RNG(0))
    assert np.array_equal(up, mask)


def test_swapping_twice_changes_nothing() -> None:
    mask = np.arange(5, dtype=np.uint8)
    assert swap(mask, [(1, 2)]).tolist() == [0, 2, 1, 3, 4]
    assert np.array_equal(swap(swap(mask, [(1, 2)]), [(1, 2)]), mask)


@pytest.mark.parametrize("shape", [(32, 32), (8, 32, 32)])
def test_image_and_mask_move_together_and_the_seed_decides(shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[..., 8:20, 10:26] = 3
    image = np.repeat((mask > 0)[None].astype(np.float32), 2, axis=0)
    augment = Augment({}, {"Affine": {"rotate": [-30, 30], "scale": [0.7, 1.3], "p": 1.0}}, [])
    varied, labels = augment(image, mask, RNG(1))
    assert varied.shape == image.shape
    assert set(np.unique(labels)) <= {0, 3}
    assert ((varied[0] > 0.5) == (labels > 0)).mean() > 0.98
    assert not np.array_equal(labels, mask)
    again, _ = augment(image, mask, RNG(1))
    other, _ = augment(image, mask, RNG(2))
    assert np.array_equal(varied, again)
    assert not np.array_equal(varied, other)


def test_intensities_stay_in_range() -> None:
    image = RNG(0).random((1, 32, 32)).astype(np.float32)
    augment = Augment({}, {"GaussNoise": {"std_range": [0.3, 0.3], "p": 1.0}}, [])
    varied, _ = augment(image, np.zeros((32, 32), np.uint8), RNG(0))
    assert varied.dtype == np.float32
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert np.abs(varied - image).mean() > 0.05


@pytest.mark.parametrize(("name", "given"), [("Rotat", {}), ("Compose", {}), ("Affine", {"p": "often"})])
def test_an_unknown_transform_or_argument_is_named(name: str, given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=name):
        Augment({}, {name: given}, [])
