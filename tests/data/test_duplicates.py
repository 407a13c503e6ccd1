"""The same picture in another size, light or compression is found; other pictures of the same kind are not."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from medseg.data.duplicates import PerceptualHashes
from medseg.datasets.phantoms.lung import make_cohort


def scene(seed: int) -> Image.Image:
    """A round field with a random texture: all alike at first sight."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :240]
    texture = ndimage.gaussian_filter(rng.normal(size=(200, 240)), 6)
    grey = 120 + 60 * texture / texture.std() * (np.hypot(y - 100, x - 120) < 95)
    grey[np.hypot(y - 100, x - 120) >= 95] = 0
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("how", ["copy", "jpeg", "smaller", "brighter"])
def test_the_same_is_found(how: str, tmp_path: Path) -> None:
    prints = PerceptualHashes()
    for seed in range(8):
        scene(seed).save(tmp_path / f"{seed}.png")
        prints.add(str(seed), str(seed), tmp_path / f"{seed}.png")
    other = tmp_path / ("again.jpg" if how == "jpeg" else "again.png")
    picture = scene(3)
    if how == "smaller":
        picture = picture.resize((120, 100), Image.Resampling.BILINEAR)
    if how == "brighter":
        picture = picture.point(lambda value: value * 1.1)
    picture.save(other, quality=60) if how == "jpeg" else picture.save(other)
    prints.add("again", "3", other)
    twins = prints.twins()
    assert [(t.one, t.other, t.same_patient) for t in twins] == [("3", "again", True)]
    assert twins[0].kind == ("exact" if how == "copy" else "near")


def test_empty_pictures_and_broken_files_are_no_near_duplicates(tmp_path: Path) -> None:
    prints = PerceptualHashes()
    for number in range(2):
        Image.new("L", (50, 40 + number), 7 * number).save(tmp_path / f"blank{number}.png")
        (tmp_path / f"broken{number}.png").write_bytes(bytes([number]))
        for kind in ("blank", "broken"):
            prints.add(f"{kind}{number}", "p", tmp_path / f"{kind}{number}.png")
    assert prints.twins() == []


def test_volumes_of_different_people_are_not_the_same(tmp_path: Path) -> None:
    make_cohort(tmp_path, patients=4, seed=3, frames=1, size="tiny")
    prints = PerceptualHashes()
    for file in sorted((tmp_path / "images").rglob("*.nii.gz")):
        prints.add(file.name, file.name, file, sitk.ReadImage(str(file)))
    assert prints.twins() == []
