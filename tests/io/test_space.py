from __future__ import annotations

import math
from pathlib import Path

import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.geometry import require_valid_geometry


def refusal(image: sitk.Image) -> str:
    with pytest.raises(ImageError) as caught:
        require_valid_geometry(image, Path("a.mha"))
    assert caught.value.code == "image-space"
    return str(caught.value)


def test_require_valid_geometry_of_rotated_and_mirrored_axes_passes() -> None:
    image = sitk.Image(3, 4, 5, sitk.sitkUInt8)
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.3, 0.2, 1).GetMatrix())
    require_valid_geometry(image, Path("a.mha"))
    image.SetDirection((-1, 0, 0, 0, 0, 1, 0, 1, 0))
    require_valid_geometry(image, Path("a.mha"))
    require_valid_geometry(sitk.Image(3, 4, sitk.sitkUInt8), Path("a.png"))


def test_require_valid_geometry_with_invalid_value_names_it() -> None:
    image = sitk.Image(3, 4, 5, sitk.sitkUInt8)
    image.SetOrigin((0, math.nan, 0))
    assert "a.mha: its header has an invalid geometry: the origin is [0.0, nan, 0.0]" in refusal(image)
    image.SetOrigin((0, 0, 0))
    image.SetDirection((1, 0.5, 0, 0, 1, 0, 0, 0, 1))
    assert "the axes [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]] are not at right angles" in refusal(image)
    image.SetDirection((2, 0, 0, 0, 1, 0, 0, 0, 1))
    assert "of length 1" in refusal(image)
