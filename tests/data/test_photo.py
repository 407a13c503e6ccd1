from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from medseg.data.image import read_image, read_mask

SCENE = np.zeros((6, 9, 3), np.uint8)
SCENE[:2, :3], SCENE[3:, 5:] = (255, 0, 0), (0, 80, 200)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright_as_viewers_show_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "held.tiff"
    Image.fromarray(SCENE).save(path, exif=exif)
    with Image.open(path) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), wanted)


def test_jpeg_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(SCENE).save(tmp_path / "held.jpg", exif=exif)
    assert read_image(tmp_path / "held.jpg").GetSize() == (6, 9)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_kind_of_picture_is_read(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(SCENE).convert(mode).save(path)
    image = read_image(path)
    assert image.GetSize() == (9, 6)
    if mode in ("RGB", "RGBA"):
        assert sitk.GetArrayFromImage(image)[0, 0, :3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "1"])
def test_a_black_and_white_mask_of_any_kind_is_a_mask(tmp_path: Path, mode: str) -> None:
    drawn = Image.fromarray((SCENE.max(-1) > 0).astype(np.uint8) * 255)
    drawn.convert(mode).save(tmp_path / "mask.png")
    assert sitk.GetArrayFromImage(read_mask(tmp_path / "mask.png") > 0).sum() == (SCENE.max(-1) > 0).sum()
