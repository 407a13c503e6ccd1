from pathlib import Path

import numpy as np
import pytest

from medseg.data.cache import CachedCase
from medseg.data.patches import PatchDataset, PatchSampling, ResumableSampler
from medseg.io.labels import Labels

LABELS = Labels({"a": 1, "b": 2})


class Stored(CachedCase):
    """A cached case that holds its arrays in memory; the image says where each voxel is."""

    def image(self) -> np.ndarray:
        return np.arange(10 * 20 * 30, dtype=np.float32).reshape(1, 10, 20, 30) + 1

    def mask(self) -> np.ndarray:
        mask = np.zeros((10, 20, 30), np.uint8)
        mask[7, 3, 5] = 1
        mask[2:4, 10:12, 20:22] = 2
        return mask

    def locations(self) -> dict[str, np.ndarray]:
        return {name: np.argwhere(self.mask() == n).astype(np.int32) for name, n in LABELS.numbers.items()}

    def facts(self) -> dict[str, object]:
        return {"known": ["b"]}


def dataset(patch: tuple[int, ...], foreground: float, seed: int = 1) -> PatchDataset:
    return PatchDataset([Stored("a", "P", Path())], LABELS, patch, PatchSampling(foreground, None, seed))


@pytest.mark.parametrize("patch", [(8, 8), (16, 16), (32, 48), (4, 8, 8), (16, 8, 64)])
def test_patches_have_their_size_and_the_mask_fits_the_image(patch: tuple[int, ...]) -> None:
    data = dataset(patch, 0.5)
    stored = Stored("a", "P", Path())
    truth = dict(zip(stored.image().ravel().tolist(), stored.mask().ravel().tolist(), strict=True)) | {0.0: 0}
    for number in range(20):
        sample = data[number]
        assert sample["image"].shape == (1, *patch)
        assert sample["mask"].shape == patch
        wanted = [truth[value] for value in sample["image"].flatten().tolist()]
        assert sample["mask"].flatten().tolist() == wanted


def test_foreground_patches_show_each_label_equally_often() -> None:
    data = dataset((12, 12), 1.0)
    shown = [set(data[n]["mask"].unique().tolist()) - {0} for n in range(100)]
    assert all(shown)
    assert 30 < sum(labels == {1} for labels in shown) < 70
    anywhere = [set(dataset((12, 12), 0.0)[n]["mask"].unique().tolist()) - {0} for n in range(100)]
    assert sum(bool(labels) for labels in anywhere) < 50


def test_a_label_that_was_not_annotated_is_said() -> None:
    assert dataset((8, 8), 0.5)[0]["known"].tolist() == [False, True]


def test_a_rare_label_is_sought_in_the_case_that_shows_it() -> None:
    """Of twenty cases one shows label a: half the foreground patches come from it all the same."""

    class Other(Stored):
        def image(self) -> np.ndarray:
            return np.zeros((1, 10, 20, 30), np.float32)

        def locations(self) -> dict[str, np.ndarray]:
            return {"b": super().locations()["b"]}

    cases = [Stored("a", "P", Path()), *[Other(f"o{n}", "Q", Path()) for n in range(19)]]
    data = PatchDataset(cases, LABELS, (12, 12), PatchSampling(1.0, None, 1))
    assert 30 < sum(bool(data[n]["image"].any()) for n in range(100)) < 70


def test_a_number_and_a_seed_fix_the_patch() -> None:
    one, twin, other = dataset((8, 8), 0.5), dataset((8, 8), 0.5), dataset((8, 8), 0.5, seed=2)
    assert one[7]["image"].equal(twin[7]["image"])
    assert not one[7]["image"].equal(other[7]["image"])
    assert not one[7]["image"].equal(one[8]["image"])


def test_epochs_do_not_repeat_patches() -> None:
    sampler = ResumableSampler(4)
    first = list(sampler)
    sampler.set_epoch(1)
    assert (first, list(sampler), len(sampler)) == ([0, 1, 2, 3], [4, 5, 6, 7], 4)


class Numbered(Stored):
    """Two channels of four slices, whose pixels hold the slice's number, and ten more in the second channel."""

    def image(self) -> np.ndarray:
        slices, channels = np.arange(1, 5)[None, :, None, None], 10 * np.arange(2)[:, None, None, None]
        return (slices + channels + np.zeros((2, 4, 16, 16))).astype(np.float16)

    def mask(self) -> np.ndarray:
        return np.zeros((4, 16, 16), np.uint8)


def test_a_slice_is_shown_with_those_beside_it_channel_by_channel() -> None:
    patches = PatchDataset([Numbered("a", "P", Path())], LABELS, (16, 16), PatchSampling(0.0, None, 3, context=1))
    seen = {tuple(patches[n]["image"][:, 8, 8].int().tolist()) for n in range(40)}
    assert seen == {(0, 1, 2, 0, 11, 12), (1, 2, 3, 11, 12, 13), (2, 3, 4, 12, 13, 14), (3, 4, 0, 13, 14, 0)}
