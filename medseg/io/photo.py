"""Read and convert photographs: PNG, JPEG, TIFF and BMP."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image, ImageOps

from medseg.errors import ImageError
from medseg.io import itk
from medseg.io.geometry import from_array
from medseg.io.integrity.photo import bmp_kind

Image.MAX_IMAGE_PIXELS = None  # large images are allowed: `verify` and `itk.read` check sizes
ORIENTATION, UPRIGHT = 274, 1  # EXIF 2.32, 4.6.4
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 8
BMP_GREY = (8, 0)  # bits a pixel, compression
BMP_OF_ITK = (BMP_GREY, (24, 0), (32, 0))  # with invalid runs ITK writes out of bounds and crashes
PILLOW_BYTES = 16  # per pixel: 4 each for the opened, rotated and converted image and the array
WHITE_16 = 65535  # in 16 bits
GREY_ALPHA = 4  # colour type in a PNG header
PLAIN_MODES = {"P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "1": "L", "PA": "RGBA"}  # of Pillow, as SimpleITK holds them
# what Pillow raises on garbage
BROKEN = (OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, ArithmeticError, struct.error, zlib.error)
# pixel types that a photograph format can hold
PIXELS: dict[str, tuple[str, ...]] = {".png": ("uint8", "uint16")}
PIXELS |= dict.fromkeys((".jpg", ".jpeg", ".bmp"), ("uint8",))
PIXELS |= dict.fromkeys((".tif", ".tiff"), ("uint8", "uint16", "int16", "float32"))


def read(path: Path, suffix: str) -> sitk.Image:
    """Read a photograph upright with spacing 1; 8-bit BMPs stay grey. ITK's errors pass through."""
    orientation, white_is_zero = _tags(path) if suffix in (".jpg", ".jpeg", ".tif", ".tiff") else (UPRIGHT, False)
    bitmap = bmp_kind(path) if suffix == ".bmp" else BMP_GREY
    unsupported = bitmap not in BMP_OF_ITK or (suffix == ".png" and _png_kind(path) == GREY_ALPHA)
    if orientation != UPRIGHT or unsupported:
        image = _by_pillow(path)
    else:
        image = itk.read(path, suffix)
        dtype = sitk.GetArrayViewFromImage(image).dtype
        if white_is_zero and dtype.kind == "u" and image.GetNumberOfComponentsPerPixel() == 1:
            image = sitk.InvertIntensity(image, float(np.iinfo(dtype).max))  # ITK does not invert the values
    image.SetSpacing([1.0] * image.GetDimension())
    image.SetOrigin([0.0] * image.GetDimension())
    if suffix == ".bmp" and bitmap == BMP_GREY:
        image = one_channel(image) or image
    return image


def _png_kind(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(26)
    return head[25] if len(head) == 26 else -1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a file with Pillow without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # given a name, Pillow would memory-map a rotated grey TIFF with height and width swapped
        with path.open("rb") as file, Image.open(file) as opened:
            yield opened


def _tags(path: Path) -> tuple[int, bool]:
    """EXIF orientation, and whether grey 0 of a TIFF is white."""
    try:
        with _opened(path) as opened:
            pages = getattr(opened, "tag_v2", {})
            return int(opened.getexif().get(ORIENTATION, UPRIGHT)), pages.get(PHOTOMETRIC) == WHITE_IS_ZERO
    except BROKEN:  # a format that Pillow does not know, or an invalid entry
        return UPRIGHT, False


def _by_pillow(path: Path) -> sitk.Image:
    """Read with Pillow what ITK reads wrongly: grey with alpha, and images that are not upright."""
    try:
        with _opened(path) as opened:
            itk.require_memory(path, opened.size, PILLOW_BYTES)
            upright = ImageOps.exif_transpose(opened)
            array = np.array(upright.convert(PLAIN_MODES.get(upright.mode, upright.mode)))  # (Y, X[, C])
    except BROKEN as error:
        raise RuntimeError(str(error) or type(error).__name__) from error
    return sitk.GetImageFromArray(array, isVector=array.ndim == 3)


def one_channel(image: sitk.Image) -> sitk.Image | None:
    """The grey image behind 1, 2 (grey, alpha), 3 or 4 (RGB, alpha) components; None if the colours differ."""
    channels = image.GetNumberOfComponentsPerPixel()
    if channels == 1:
        return image
    view = sitk.GetArrayViewFromImage(image)  # ([Z,] Y, X, C)
    colours = {2: 1, 4: 3}.get(channels, channels)
    grey = all(np.array_equal(view[..., 0], view[..., channel]) for channel in range(1, colours))
    return sitk.VectorIndexSelectionCast(image, 0) if grey else None


def as_mask(path: Path, image: sitk.Image) -> sitk.Image:
    """Convert `image`, read from `path`, to a mask of one component; 16-bit black and white becomes 0 and 255.

    With a colour palette the indices are the label numbers, as in Pascal VOC; with a grey palette the grey values are.
    Raises ImageError mask-colour for other colours.
    """
    numbers = _palette_numbers(path, image) if path.suffix.lower() in PIXELS else None
    if numbers is not None and numbers.shape == image.GetSize()[::-1]:
        return from_array(numbers, image)
    grey = one_channel(image)
    if grey is None:
        view = sitk.GetArrayViewFromImage(image)
        colour = view[(view != view[..., :1]).any(-1)][0]
        raise ImageError(
            f"{path}: is a colour image (one pixel is {', '.join(f'{value:g}' for value in colour)}), not a mask; "
            "save label numbers as grey, or as the indices of a palette",
            code="mask-colour",
        )
    view = sitk.GetArrayViewFromImage(grey)
    if view.dtype == np.uint16 and view.max() == WHITE_16 and np.isin(view, (0, WHITE_16)).all():
        return from_array((view > 0).astype(np.uint8) * np.uint8(255), grey)
    return grey


def _palette_numbers(path: Path, image: sitk.Image) -> npt.NDArray[np.uint8] | None:
    """Label numbers ([Z,] Y, X) of a file with a palette, upright as `image`; None for other files."""
    try:
        with _opened(path) as opened:
            if opened.mode not in ("P", "PA"):
                return None
            pages = []
            for page in range(image.GetDepth() or 1):
                opened.seek(page)
                # ITK does not rotate a PNG
                upright = opened if path.suffix.lower() == ".png" else ImageOps.exif_transpose(opened)
                indices = np.array(upright.getchannel(0))  # (Y, X)
                colours = np.reshape(upright.getpalette("RGB") or [], (-1, 3)).astype(np.uint8)
                grey = (colours == colours[:, :1]).all()
                pages.append(colours[indices, 0] if grey else indices)
    except BROKEN:
        return None
    return np.stack(pages) if image.GetDimension() > 2 else pages[0]


def fitted(image: sitk.Image, path: Path, suffix: str) -> sitk.Image:
    """Convert an image without loss to a pixel type of its format; ITK would drop all but the first slice of a PNG."""
    if suffix not in PIXELS:
        return image
    if image.GetDimension() > (3 if suffix in (".tif", ".tiff") else 2):
        raise ImageError(f"{path}: {suffix} cannot store {image.GetSize()}; use .nii.gz", code="image-dimension")
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
        f"{path}: {suffix} stores {' or '.join(types)}, not {view.dtype.name} from {low:g} to {high:g}; "
        "rescale it or write it as .nii.gz",
        code="image-pixels",
    )
