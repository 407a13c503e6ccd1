"""Held-out phantoms pass; gross changes are flagged with value and training range."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.config.components import build
from medseg.config.compose import compose
from medseg.config.targets import PHANTOMS
from medseg.data.fingerprint import image_ranges
from medseg.io.image import find_images, read_image
from medseg.quality.ood import OutOfDistribution, image_stats

LUNG, SKIN, BREAST = "lung", "skin", "breast"
COUNT = {LUNG: 24, SKIN: 40, BREAST: 40}
Change = Callable[[np.ndarray], np.ndarray]


def phantoms(organ: str, folder: Path) -> list[sitk.Image]:
    size = {"size": "tiny"} if organ == LUNG else {}
    recipe = compose([f"organ={organ}"]).organ.phantom
    build(recipe, PHANTOMS, folder=folder, patients=COUNT[organ], frames=1, seed=5, **size)
    return [read_image(path) for path in find_images(folder / "images")]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[OutOfDistribution, Any, list[sitk.Image]]]:
    """Of each organ its recipe's check, what two thirds of the phantoms are like, and the rest of them."""
    found = {}
    for organ in COUNT:
        images = phantoms(organ, tmp_path_factory.mktemp(organ))
        third = len(images) // 3
        learnt = image_ranges([{"x": image_stats(image)} for image in images[third:]])["x"]
        found[organ] = build(compose([f"organ={organ}"]).quality["out_of_distribution"]), learnt, images[:third]
    return found


def changed(image: sitk.Image, change: Change, spacing: float = 1) -> sitk.Image:
    array = sitk.GetArrayFromImage(image)
    new = sitk.GetImageFromArray(change(array).astype(array.dtype), image.GetNumberOfComponentsPerPixel() > 1)
    new.CopyInformation(image)
    new.SetSpacing([side * spacing for side in image.GetSpacing()])
    return new


def inverted(array: np.ndarray) -> np.ndarray:
    return array.max() - array + array.min()


def test_out_of_distribution_passes_held_out_phantoms(known: dict[str, Any]) -> None:
    reasons = [check(image, learnt) for check, learnt, held in known.values() for image in held]
    assert len(reasons) == 34
    assert sum(map(bool, reasons)) / len(reasons) < 0.05


@pytest.mark.parametrize(
    ("organ", "change", "spacing", "words"),
    [
        (LUNG, lambda a: a + 1000, 1, "of its values"),
        (LUNG, inverted, 1, "of its values"),
        (LUNG, lambda a: a, 10, "spacing 1"),
        (LUNG, lambda a: a, 0.1, "spacing 1"),
        (LUNG, lambda a: a * 0.1, 1, "of its values"),
        (SKIN, inverted, 1, "share of red"),
        (SKIN, lambda a: a[..., ::-1], 1, "share of blue"),
        (SKIN, lambda a: a.mean(-1, keepdims=True).repeat(3, -1), 1, "is grey, trained on colour images"),
        (SKIN, lambda a: a // 3, 1, "of its values"),
        (BREAST, lambda a: a // 2, 1, "of its values"),
    ],
)
def test_out_of_distribution_flags_gross_changes(
    known: dict[str, Any], organ: str, change: Change, spacing: float, words: str
) -> None:
    check, learnt, held = known[organ]
    found = ["; ".join(check(changed(image, change, spacing), learnt)) for image in held]
    assert np.mean([bool(text) for text in found]) > 0.9
    assert np.mean([words in text and "trained on" in text for text in found]) > 0.5


def test_out_of_distribution_flags_most_inverted_ultrasound(known: dict[str, Any]) -> None:
    """Not all: as much of it is dark as is bright."""
    check, learnt, held = known[BREAST]
    assert np.mean([bool(check(changed(image, inverted), learnt)) for image in held]) > 0.5


def test_out_of_distribution_flags_other_organs(known: dict[str, Any]) -> None:
    for organ, (check, learnt, _) in known.items():
        for other, (_, _, images) in known.items():
            reasons = [check(image, learnt) for image in images]
            assert all(reasons) == (organ != other), (organ, other)


def test_out_of_distribution_states_value_and_range() -> None:
    image = sitk.Image([40, 40, 30], sitk.sitkInt16)
    image.SetSpacing((5.0, 5.0, 5.0))
    known = {"cases": 100, "contrast": 1.0}
    ranges = {name: (value, value) for name, value in image_stats(image).items()} | {"spacing_finest": (0.7, 1.2)}
    assert OutOfDistribution()(image, {**known, "ranges": ranges}) == ["finest spacing 5 mm, trained on 0.7–1.2"]
    ranges |= {"spacing_finest": (2.6, 9.0), "side_longest": (900.0, 950.0), "level_50": (-800.0, -300.0)}
    assert OutOfDistribution()(image, {**known, "ranges": ranges}) == [
        "longest side 200 mm, trained on 900–950",
        "median of its values 0, trained on -800 to -300",
    ]
    assert OutOfDistribution(size_factor=5, intensity_tolerance=None)(image, {**known, "ranges": ranges}) == []


def test_out_of_distribution_is_more_tolerant_with_few_cases() -> None:
    image = sitk.GetImageFromArray(np.arange(10_000, dtype=np.float32).reshape(100, 100) / 10_000)
    ranges = {name: (value, value) for name, value in image_stats(image).items()} | {"level_50": (0.64, 0.64)}
    many, few = ({"cases": n, "contrast": 1.0, "ranges": ranges} for n in (10_000, 4))
    assert OutOfDistribution(contrast_tolerance=None)(image, many) == ["median of its values 0.5, trained on 0.64"]
    assert OutOfDistribution(contrast_tolerance=None)(image, few) == []


def test_image_stats_ignores_storage_of_grey_and_bit_depth() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (50, 60)).astype(np.uint8)
    stats = image_stats(sitk.GetImageFromArray(grey))
    assert image_stats(sitk.GetImageFromArray(np.stack([grey] * 3, -1), isVector=True)) == pytest.approx(stats)
    assert image_stats(sitk.GetImageFromArray(grey.astype(np.uint16) * 257)) == pytest.approx(stats, abs=1e-3)
    assert stats["components"] == 1
    assert (stats["axes"], stats["side_longest"]) == (2, 60)


def test_image_stats_of_constant_images_and_sequences() -> None:
    blank = image_stats(sitk.Image([8, 8, 8], sitk.sitkInt16))
    assert blank["contrast"] == 0
    assert "place_50" not in blank
    frames = np.stack([np.full((4, 5, 6), value, np.int16) for value in (0, 7, 0)])
    assert image_stats(sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in frames]))["level_50"] == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [("spacing_factor", 0.5), ("size_factor", 0), ("intensity_tolerance", -1), ("contrast_tolerance", -0.1)],
)
def test_out_of_distribution_invalid_limits_raise(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        OutOfDistribution(**{name: value})
