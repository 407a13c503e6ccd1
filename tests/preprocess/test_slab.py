import numpy as np
import pytest

from medseg.errors import ConfigError
from medseg.preprocess.slab import HALF, SlabEnd

LEVEL, DARK = 0.8, 0.2


def scene(channels: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright tissue with a dark rim, so that what is nothing is known; labelled where it is bright."""
    image = np.full((channels, *shape), LEVEL, np.float32)
    image[..., :4] = DARK
    mask = np.ones(shape, np.uint8)
    mask[..., :4] = 0
    return image, mask


def test_labels_end_where_the_slice_is_half_as_bright_and_what_is_beyond_is_dark() -> None:
    image, mask = scene(6, 64, 64)  # two channels with a slice on each side
    before, sides = image.copy(), set()
    for seed in range(20):
        varied, left = SlabEnd(context=1, p=1.0)(image, mask, np.random.default_rng(seed))
        slices = varied.reshape(2, 3, 64, 64)
        weight = (slices[:, 1] - DARK) / (LEVEL - DARK)
        assert np.array_equal(left > 0, (weight[0] >= HALF - 1e-6) & (mask > 0))
        assert np.allclose(weight[0], weight[1])
        dark = [bool(np.all(slices[:, k] == DARK)) for k in (0, 2)]
        assert sum(dark) == 1
        assert np.array_equal(slices[:, 2 if dark[0] else 0], before.reshape(2, 3, 64, 64)[:, 0])
        sides.add(tuple(dark))
    assert np.array_equal(image, before)
    assert mask.sum() == 64 * 60
    assert len(sides) == 2


def test_a_volume_ends_at_any_of_its_slices() -> None:
    image, mask = scene(1, 8, 32, 32)
    ends = set()
    for seed in range(40):
        varied, left = SlabEnd(p=1.0)(image, mask, np.random.default_rng(seed))
        whole = [k for k in range(8) if np.array_equal(varied[0, k], image[0, k])]
        empty = [k for k in range(8) if np.all(varied[0, k] == DARK)]
        assert all(left[k].sum() == 32 * 28 for k in whole)
        assert not any(left[k].any() for k in empty)
        ends.add(len(whole))
    assert len(ends) > 4


def test_the_seed_decides_and_a_share_of_patches_is_left_as_it_is() -> None:
    image, mask = scene(3, 32, 32)
    step = SlabEnd(context=1, p=0.3)
    first, second = (step(image, mask, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    rng = np.random.default_rng(1)
    assert 30 < sum(step(image, mask, rng)[0] is not image for _ in range(200)) < 90


@pytest.mark.parametrize("given", [{"p": 1.5}, {"context": -1}, {"level": (0.8, 0.2)}, {"grain": (-1.0, 2.0)}])
def test_what_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"augment\.paint"):
        SlabEnd(**given)  # type: ignore[arg-type]
