import numpy as np
import pytest

from medseg.data.cyst_augmentation import SyntheticCysts
from medseg.errors import ConfigError

NESTED = {"whole": 1, "core": 2, "rim": 3}


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A bright tumour in two channels: whole, in it a core, in that a rim of one side."""
    mask = np.zeros((48, 48), np.uint8)
    mask[8:40, 8:40] |= 1
    mask[14:34, 14:34] |= 2
    mask[14:34, 14:18] |= 4
    image = np.full((2, 48, 48), 0.5, np.float32)
    image[:, mask > 0] = 0.8
    return image, mask


def test_fluid_darkens_the_core_alone_in_its_channel_alone() -> None:
    image, mask = scene()
    before = image.copy()
    varied = SyntheticCysts(NESTED, False, ["core", "rim"], value=(0.3, 0.3), p=1.0)(
        image, mask, np.random.default_rng(0)
    )
    assert np.array_equal(image, before)
    assert np.array_equal(varied[1], image[1])
    changed = np.abs(varied[0] - image[0]) > 0.25  # more than half fluid
    inner = ((mask & 2) > 0) & ((mask & 4) == 0)
    assert changed.any()
    assert inner[changed].all()
    assert varied[0][changed].min() >= 0.3 - 1e-6


def test_how_much_is_fluid_changes_from_patch_to_patch_and_the_seed_decides() -> None:
    image, mask = scene()
    cysts = SyntheticCysts(NESTED, False, ["core"], value=(0.2, 0.2), p=1.0)
    shares = [
        float((cysts(image, mask, np.random.default_rng(seed))[0] < 0.5)[(mask & 2) > 0].mean()) for seed in range(20)
    ]
    assert min(shares) < 0.5 < 0.8 < max(shares)
    assert shares[3] == float((cysts(image, mask, np.random.default_rng(3))[0] < 0.5)[(mask & 2) > 0].mean())


def test_a_share_of_patches_and_only_those_that_show_the_label() -> None:
    image, mask = scene()
    cysts = SyntheticCysts(NESTED, False, ["core"], p=0.3)
    rng = np.random.default_rng(1)
    assert 30 < sum(cysts(image, mask, rng) is not image for _ in range(200)) < 90
    assert SyntheticCysts(NESTED, False, ["core"], p=1.0)(image, mask & 1, rng) is image


@pytest.mark.parametrize(
    "given", [{"inside": ["cor"]}, {"inside": ["core"], "value": (0.4, 0.2)}, {"inside": ["core"], "p": 2}]
)
def test_what_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"augment\.synthetic_lesions"):
        SyntheticCysts(NESTED, False, **given)  # type: ignore[arg-type]
