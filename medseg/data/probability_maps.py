"""Write maps of values 0..1, such as probabilities: 16-bit PNG for 2D images, NIfTI for volumes and sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.io.geometry import from_array
from medseg.io.image import image_suffix, stem, write_image
from medseg.typing import Float32Array

WHITE = 65535  # of a 16-bit PNG: the value 1
STEPS = 1024  # values in NIfTI are multiples of 1/1024, so that they compress; NIfTI has no 16-bit float
IMAGE_2D = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def map_file(mask: Path, like: sitk.Image, label: str) -> Path:
    """The file of a map, named after that of the mask; `like` is an image on the same grid."""
    flat = like.GetDimension() == 2 and image_suffix(mask) in IMAGE_2D
    return mask.with_name(f"{stem(mask)}{f'_{label}' if label else ''}{'.png' if flat else '.nii.gz'}")


def write_map(values: Float32Array, like: sitk.Image, path: Path) -> None:
    """Write a map, values 0..1 on the grid of `like`; atomic. A PNG stores round(65535·value)."""
    if path.suffix == ".png":
        scaled = np.rint(np.clip(values, 0, 1) * np.float32(WHITE))
        write_image(from_array(scaled.astype(np.uint16), like), path)
        return
    rounded = values * np.float32(STEPS)
    np.rint(rounded, out=rounded)
    rounded /= STEPS
    write_image(from_array(np.clip(rounded, 0, 1, out=rounded), like), path)
