"""Lesions: connected; malignant ones larger, rougher, less uniform and with more colours on average, not always."""

import numpy as np
from scipy import ndimage

from medseg.datasets.phantoms.photo_canvas import pixel_centres
from medseg.datasets.phantoms.skin_lesion import COLOURS, Lesion, paint_lesion, sample_lesion

GRID = pixel_centres(192, 144)
SKIN = np.full((144, 192, 3), 0.8, np.float32)


def covers(malignant: bool, count: int = 14) -> list[np.ndarray]:
    masks = []
    for seed in range(count):
        rng = np.random.default_rng([seed, malignant])
        masks.append(paint_lesion(rng, GRID, SKIN, sample_lesion(rng, malignant))[1] > 0.5)
    return masks


def test_paint_lesion_is_connected_without_holes() -> None:
    for lesion in covers(malignant=True):
        assert ndimage.label(lesion)[1] == 1
        assert (ndimage.binary_fill_holes(lesion) == lesion).all()


def test_paint_lesion_malignant_borders_are_rougher_on_average() -> None:
    def roughness(lesion: np.ndarray) -> float:
        border = lesion ^ ndimage.binary_erosion(lesion)
        return float(border.sum() ** 2 / lesion.sum())

    benign, malignant = ([roughness(lesion) for lesion in covers(which)] for which in (False, True))
    assert np.mean(malignant) > 1.2 * np.mean(benign)


def test_paint_lesion_malignant_lesions_are_less_uniform_on_average() -> None:
    def asymmetry(lesion: np.ndarray) -> float:
        rows, columns = np.nonzero(lesion)
        mirrored = lesion[(2 * round(rows.mean()) - rows) % 144, (2 * round(columns.mean()) - columns) % 192]
        return float(1 - mirrored.mean())  # share of the lesion that half a turn does not bring onto itself

    benign, malignant = ([asymmetry(lesion) for lesion in covers(which)] for which in (False, True))
    assert np.mean(malignant) > 1.3 * np.mean(benign)


def test_sample_lesion_classes_overlap() -> None:
    drawn = {
        which: [sample_lesion(np.random.default_rng(seed), which) for seed in range(200)] for which in (False, True)
    }
    for name in ("rough", "radii", "colours"):

        def value(lesion: Lesion, name: str = name) -> float:
            feature = getattr(lesion, name)
            return len(feature) if name == "colours" else float(np.mean(feature))

        benign, malignant = ([value(lesion) for lesion in drawn[which]] for which in (False, True))
        assert np.mean(malignant) > 1.15 * np.mean(benign)
        assert min(malignant) <= np.max(benign)  # no feature alone decides
    assert {len(lesion.colours) for lesion in drawn[True]} == {1, 2, 3, 4}


def test_paint_lesion_has_the_colours() -> None:
    plain = Lesion((0.0, 0.0), (0.2, 0.2), 0.0, 0.02, 0.0, 0.01, (), 0)
    brown, cover = paint_lesion(np.random.default_rng(0), GRID, SKIN, plain)
    inside = cover > 0.95
    assert (brown[inside][:, 0] > brown[inside][:, 2]).all()  # browns are redder than blue
    blue, _ = paint_lesion(np.random.default_rng(0), GRID, SKIN, plain._replace(colours=("blue_grey",)))
    bluish = blue[..., 2] > blue[..., 0]
    assert 0.03 < bluish[inside].mean() < 0.7
    assert len(COLOURS) == 4  # beside light and dark brown
