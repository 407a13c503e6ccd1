"""What is particular to photographs: PNG, JPEG, TIFF and BMP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageOps

from medseg.data import itk
from medseg.data.payload_photo import bmp_depth
from medseg.errors import ImageError

ORIENTATION, UPRIGHT = 274, 1  # EXIF 2.32, 4.6.4
GREY_ALPHA = 4  # colour type in a PNG header
PLAIN_MODES = {"P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "1": "L", "PA": "RGBA"}  # of Pillow, as SimpleITK holds them
# pixel types that a photograph format can hold
PIXELS: dict[str, tuple[str, ...]] = {".png": ("uint8", "uint16")}
PIXELS |= dict.fromkeys((".jpg", ".jpeg", ".bmp"), ("uint8",))
PIXELS |= dict.fromkeys((".tif", ".tiff"), ("uint8", "uint16", "int16", "float32"))


def read(path: Path, suffix: str) -> sitk.Image:
    """A photograph of spacing 1, upright; grey again where ITK makes RGB of an 8-bit BMP. ITK's errors pass through."""
    turned = suffix in (".jpg", ".jpeg", ".tif", ".tiff") and _orientation(path) != UPRIGHT
    if turned or (suffix == ".png" and _png_kind(path) == GREY_ALPHA):
        image = _by_pillow(path)
    else:
        with itk.quiet():
            image = sitk.ReadImage(str(path))
    image.SetSpacing([1.0] * image.GetDimension())
    image.SetOrigin([0.0] * image.GetDimension())
    if suffix == ".bmp" and bmp_depth(path) == 8:
        image = one_channel(image) or image
    return image


def _png_kind(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(26)
    return head[25] if len(head) == 26 else -1


def _orientation(path: Path) -> int:
    try:
        with Image.open(path) as opened:
            return int(opened.getexif().get(ORIENTATION, UPRIGHT))
    except (OSError, ValueError):  # a kind that Pillow does not know
        return UPRIGHT


def _by_pillow(path: Path) -> sitk.Image:
    """What ITK cannot hand on, or turns by half: grey with alpha, and pictures that are not upright."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        array = np.array(upright.convert(PLAIN_MODES.get(upright.mode, upright.mode)))  # (Y, X[, C])
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3)


def one_channel(image: sitk.Image) -> sitk.Image | None:
    """The grey image behind 2 (grey, alpha), 3 or 4 (RGB, alpha) components; None where the colours differ."""
    channels = image.GetNumberOfComponentsPerPixel()
    view = sitk.GetArrayViewFromImage(image)  # ([Z,] Y, X, C)
    colours = {2: 1, 4: 3}.get(channels, channels)
    grey = all(np.array_equal(view[..., 0], view[..., channel]) for channel in range(1, colours))
    return sitk.VectorIndexSelectionCast(image, 0) if grey else None


def fitted(image: sitk.Image, path: Path, suffix: str) -> sitk.Image:
    """The image as its format can hold it, without loss; ITK alone would drop all slices but the first of a PNG."""
    if suffix not in PIXELS:
        return image
    if image.GetDimension() > (3 if suffix in (".tif", ".tiff") else 2):
        raise ImageError(f"{path}: {suffix} cannot hold {image.GetSize()}; use .nii.gz", code="image-dimension")
    view = sitk.GetArrayViewFromImage(image)
    types = PIXELS[suffix]
    if view.dtype.name in types:
        return image
    low, high = view.min(), view.max()
    if np.issubdtype(view.dtype, np.integer) and low >= 0:
        colour = image.GetNumberOfComponentsPerPixel() > 1
        if high <= 255:
            return sitk.Cast(image, sitk.sitkVectorUInt8 if colour else sitk.sitkUInt8)
        if high <= 65535 and "uint16" in types:
            return sitk.Cast(image, sitk.sitkVectorUInt16 if colour else sitk.sitkUInt16)
    raise ImageError(
        f"{path}: {suffix} holds {' or '.join(types)}, not {view.dtype.name} from {low:g} to {high:g}; "
        "rescale it or write it as .nii.gz",
        code="image-pixels",
    )
