"""Images from arrays, and the check for a common grid."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import ImageError
from medseg.io.geometry import from_array, require_same_grid


def placed(*size: int) -> sitk.Image:
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing([0.5 + axis for axis in range(len(size))])
    image.SetOrigin([3.0 * axis - 1 for axis in range(len(size))])
    return image


@pytest.mark.parametrize(("size", "colours"), [((5, 4), ()), ((5, 4), (3,)), ((5, 4, 3), ()), ((5, 4, 3), (2,))])
def test_from_array_keeps_values_and_copies_geometry(size: tuple[int, ...], colours: tuple[int, ...]) -> None:
    like = placed(*size)
    array = np.random.default_rng(0).random((*size[::-1], *colours)).astype(np.float32)
    made = from_array(array, like)
    assert np.array_equal(sitk.GetArrayFromImage(made), array)
    assert made.GetNumberOfComponentsPerPixel() == (colours or (1,))[0]
    assert (made.GetSpacing(), made.GetOrigin()) == (like.GetSpacing(), like.GetOrigin())


def test_require_same_grid_message_has_difference_and_remedy() -> None:
    a, b = placed(5, 4, 3), placed(5, 4, 3)
    require_same_grid(a, b)
    b.SetOrigin((9.0, 2.0, 5.0))
    with pytest.raises(ImageError, match=r"^image and mask: the origins differ: .*; resample the mask onto") as caught:
        require_same_grid(a, b)
    assert caught.value.code == "grid-mismatch"
    with pytest.raises(ImageError, match=r"^two: the sizes differ: .* voxels$") as caught:
        require_same_grid(a, placed(5, 4, 2), "two", "", "image-grid")
    assert caught.value.code == "image-grid"
