from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from medseg.errors import ImageError
from medseg.io.image import read_image, read_mask, write_image

SCENE = np.zeros((6, 9, 3), np.uint8)
SCENE[:2, :3], SCENE[3:, 5:] = (255, 0, 0), (0, 80, 200)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_photo_is_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "held.tiff"
    Image.fromarray(SCENE).save(path, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_grey_photo_is_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(SCENE[..., 2]).save(tmp_path / "grey.tif", exif=exif)
    Image.fromarray(SCENE).save(tmp_path / "colour.tif", exif=exif)
    grey, colour = (sitk.GetArrayFromImage(read_image(tmp_path / f"{name}.tif")) for name in ("grey", "colour"))
    assert np.array_equal(grey, colour[..., 2])


def test_read_image_jpeg_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(SCENE).save(tmp_path / "held.jpg", exif=exif)
    assert read_image(tmp_path / "held.jpg").GetSize() == (6, 9)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_read_image_every_kind_of_photo(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(SCENE).convert(mode).save(path)
    image = read_image(path)
    assert image.GetSize() == (9, 6)
    if mode in ("RGB", "RGBA"):
        assert sitk.GetArrayFromImage(image)[0, 0, :3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "1"])
def test_read_mask_black_and_white_of_any_kind(tmp_path: Path, mode: str) -> None:
    drawn = Image.fromarray((SCENE.max(-1) > 0).astype(np.uint8) * 255)
    drawn.convert(mode).save(tmp_path / "mask.png")
    assert sitk.GetArrayFromImage(read_mask(tmp_path / "mask.png") > 0).sum() == (SCENE.max(-1) > 0).sum()


LABELS = np.zeros((6, 9), np.uint8)
LABELS[:2, :3], LABELS[3:, 5:] = 1, 2
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]  # the first colours of Pascal VOC


def painted(palette: list[int], labels: np.ndarray = LABELS) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(palette)
    return image


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("palette", [VOC, [0, 0, 0, 255, 255, 255, 255, 0, 0], [255, 255, 255, 0, 0, 0, 0, 0, 255]])
def test_read_mask_palette_indices_are_labels(tmp_path: Path, suffix: str, palette: list[int]) -> None:
    path = tmp_path / f"mask{suffix}"
    for labels in (LABELS, LABELS // 2):
        painted(palette, labels).save(path)
        mask = read_mask(path)
        assert mask.GetPixelID() == sitk.sitkUInt8
        assert np.array_equal(sitk.GetArrayFromImage(mask), labels)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_read_mask_grey_palette_gives_grey_values(tmp_path: Path, suffix: str) -> None:
    """As made by tools that compress a grey image."""
    painted([255, 255, 255, 0, 0, 0, 128, 128, 128]).save(tmp_path / f"mask{suffix}")
    expected = np.array([255, 0, 128], np.uint8)[LABELS]
    assert np.array_equal(sitk.GetArrayFromImage(read_mask(tmp_path / f"mask{suffix}")), expected)


def test_read_mask_palette_is_upright_and_has_pages(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    painted(VOC).save(tmp_path / "held.tif", exif=exif)
    assert np.array_equal(sitk.GetArrayFromImage(read_mask(tmp_path / "held.tif")), np.rot90(LABELS, -1))
    painted(VOC).save(tmp_path / "pages.tif", save_all=True, append_images=[painted(VOC, LABELS[::-1].copy())])
    pages = sitk.GetArrayFromImage(read_mask(tmp_path / "pages.tif"))
    assert np.array_equal(pages, np.stack([LABELS, LABELS[::-1]]))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".nrrd"])
def test_read_mask_16_bit_black_and_white_becomes_8_bit(tmp_path: Path, suffix: str) -> None:
    white = (LABELS // 2).astype(np.uint16)
    for wide, expected in ((white * 65535, white * 255), (LABELS.astype(np.uint16) * 100, LABELS * 100)):
        write_image(sitk.GetImageFromArray(wide), tmp_path / f"mask{suffix}")
        assert np.array_equal(sitk.GetArrayFromImage(read_mask(tmp_path / f"mask{suffix}")), expected)


def test_read_mask_other_16_bit_values_raise(tmp_path: Path) -> None:
    write_image(sitk.GetImageFromArray(LABELS.astype(np.uint16) * 32767), tmp_path / "mask.png")
    with pytest.raises(ImageError, match=r"mask\.png: .* this one has 32767, 65534") as error:
        read_mask(tmp_path / "mask.png")
    assert error.value.code == "mask-values"


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_read_mask_grey_colours_are_labels(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.fromarray(LABELS).convert(mode).save(tmp_path / f"mask{suffix}")
    assert np.array_equal(sitk.GetArrayFromImage(read_mask(tmp_path / f"mask{suffix}")), LABELS)


def test_read_mask_colour_image_raises_with_a_remedy(tmp_path: Path) -> None:
    Image.fromarray(SCENE).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match=r"mask\.png: .*one pixel is 255, 0, 0.*palette") as error:
        read_mask(tmp_path / "mask.png")
    assert error.value.code == "mask-colour"
